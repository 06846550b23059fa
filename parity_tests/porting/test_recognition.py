"""Files of every layout are recognised as what they are; what cannot be told is ambiguous."""

from dataclasses import replace

import pytest

from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.all_frameworks import ROWS
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from parity_tests.campaigns.porting_samples import check_verdicts, verdicts

pytestmark = pytest.mark.usefixtures("without_type_checks")

FILES = 8
"""Files of each layout; the campaign `porting_samples` takes 50."""


def test_98_of_100_files_have_their_layout_first_and_none_is_confidently_misread():
    assert len(ROWS) >= 20
    counts = verdicts(FILES)
    assert counts.total() == FILES * len(ROWS)
    check_verdicts(counts)


@pytest.mark.parametrize("separator", list("./_:"))
def test_other_separators_before_the_names_mislead_nobody(separator):
    """What a person called the LSTM says nothing of the framework."""

    def renamed(archive: Archive, truth: PlacedLSTM) -> tuple[Archive, PlacedLSTM]:
        outer = {p: f"{'lstm' * bool(truth.layout.prefix)}net{separator}{k}{separator}"
                 for k, p in enumerate(dict.fromkeys(truth.prefixes))}  # fmt: skip
        own = {
            place.name: outer[prefix] + place.name.removeprefix(prefix)
            for place in truth.places
            for prefix in [truth.prefixes[place.layer]]
        }
        tensors = {own.get(name, name): array for name, array in archive.tensors.items()}
        prefixes = tuple(outer[prefix] for prefix in truth.prefixes)
        changed = replace(truth, tensors=tensors, prefixes=prefixes)
        return replace(archive, tensors=tensors), changed

    counts = verdicts(2, renamed)
    assert sum(counts.values()) == 2 * len(ROWS)
    assert not [what for what in counts if what.startswith("misread")], counts
    assert counts["right"] >= 0.6 * 2 * len(ROWS), counts
