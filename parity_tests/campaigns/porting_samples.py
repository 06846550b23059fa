"""Random files of every layout: recognised, carried to every other layout and back, and broken.

    python -m parity_tests.campaigns.porting_samples

The suite makes the same checks on fewer files. Of 50 files a layout, 98 of 100 must have their own
layout first, and none may be confidently misread; of 4 LSTMs a layout, each must come back from
every other layout bit for bit or be refused by name; 300 broken files must be refused in words.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.inspection import inspect
from numpy_lstm.porting.layouts.all_frameworks import ROWS
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import digest
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import ReadOptions
from numpy_lstm.porting.recognise.loading import lstm_in_archive
from numpy_lstm.porting.recognise.recognition import survey
from parity_tests.support.random_lstms import broken_at_random, random_file, rich_model

FILES, PAIR_SEEDS, BROKEN = 50, 4, 300
Change = Callable[[Archive, PlacedLSTM], tuple[Archive, PlacedLSTM]]


def unchanged(archive: Archive, truth: PlacedLSTM) -> tuple[Archive, PlacedLSTM]:
    """The file as it is."""
    return archive, truth


def verdict(row: Layout, archive: Archive, truth: PlacedLSTM) -> str:
    """Of the likeliest reading: "right", and whether that is what it is called."""
    found = survey(archive)
    findings = found.lstms
    if not findings and found.others:
        return f"refused: {found.others[0]}"
    if len(findings) != 1:
        return f"{len(findings)} found"
    (finding,) = findings
    if finding.best.misfit:
        return f"refused: {finding.best.misfit}"
    weights = to_canonical(replace(truth, tensors=archive.tensors)).digest()
    readings = {to_canonical(h.lstm).digest() for h in finding.equally_likely}
    if finding.ambiguous and weights not in readings:
        return f"ambiguous without it: {finding.best.lstm.layout.key}"
    if to_canonical(finding.best.lstm).digest() != weights:
        key = finding.best.lstm.layout.key
        return f"{'ambiguous, first' if finding.ambiguous else 'misread as'} {key}"
    return "right, ambiguous" if finding.ambiguous else "right"


def verdicts(files: int, change: Change = unchanged) -> Counter[str]:
    """Of so many files a layout, after a change."""
    return Counter(
        verdict(row, *change(*random_file(row, np.random.default_rng([seed, k]))))
        for k, row in enumerate(ROWS)
        for seed in range(files)
    )


def check_verdicts(counts: Counter[str]) -> None:
    """Raise unless nearly all files have their layout first, and none is confidently misread."""
    total = counts.total()
    assert counts["right"] + counts["right, ambiguous"] >= 0.98 * total, counts
    assert not [what for what in counts if what.startswith("misread")], counts
    assert not [what for what in counts if "found" in what or "without" in what], counts
    refused = [what for what in counts if what.startswith("refused")]
    assert all("if its gates are coupled, say the layout" in what for what in refused), counts
    # Keras and Haste, and PyTorch's cell, Equinox and Core ML, share their names.
    assert counts["right"] >= 0.9 * total, counts


def there_and_back(source: PlacedLSTM, other: Layout) -> bool:
    """Whether it went; what went must come back as it was. What did not was refused by name."""
    try:
        there, lost = fit_to_layout(to_canonical(source), other)
    except InputError as error:
        assert str(error).startswith(f"{other.key} ")  # noqa: PT017
        return False
    assert lost == []
    again = to_canonical(to_layout(there, other))
    back, lost = fit_to_layout(again, source.layout)
    assert lost == []
    returned = to_layout(back, source.layout)
    assert digest(returned.tensors) == digest(source.tensors)
    assert returned.facts == source.facts
    return True


def went_to_every_layout(row: Layout, seeds: int) -> Counter[str]:
    """How many of so many LSTMs of a layout went to each layout and came back."""
    went: Counter[str] = Counter()
    for seed in range(seeds):
        source = to_layout(fit_to_layout(rich_model(row, seed), row)[0], row)
        for other in ROWS:
            went[other.key] += there_and_back(source, other)
    assert went[row.key] == seeds
    return went


def refused_broken_files(files: int) -> int:
    """How many of so many broken files are refused in a sentence; all of them are inspected."""
    refused = 0
    for seed in range(files):
        rng = np.random.default_rng([9, seed])
        row = ROWS[rng.integers(len(ROWS))]
        archive, _ = random_file(row, rng)
        tensors = dict(archive.tensors)
        broken_at_random(tensors, rng)
        broken = Archive("npz", tensors)
        assert inspect(broken)["container"] == "npz"
        try:
            options = ReadOptions(forget_bias=1.0 if row.forget_bias == "given" else None)
            lstm_in_archive(Path("file"), broken, options)
        except InputError as error:
            refused += 1
            assert str(error).startswith("file: ") or "forget_bias" in str(error)  # noqa: PT017
    # The others broke what does not belong to the LSTM, or a square matrix.
    assert 2 * files < 3 * refused < 3 * files
    return refused


def main() -> int:
    """Print the figures; an assertion fails where one is not as it must be."""
    counts = verdicts(FILES)
    check_verdicts(counts)
    print(f"{counts.total()} files recognised: {dict(counts)}")
    went = sum((went_to_every_layout(row, PAIR_SEEDS) for row in ROWS), Counter())
    pairs = PAIR_SEEDS * len(ROWS) ** 2
    print(
        f"{went.total()} of {pairs} LSTMs went to a layout and came back, the others were refused"
    )
    print(f"{refused_broken_files(BROKEN)} of {BROKEN} broken files refused in words")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
