"""Readings: ways in which some of a file's tensors can be taken for an LSTM of some layout."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from itertools import pairwise

from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.arrangement import sizes_of, to_canonical
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

RECURRENT = ("W_hh", "W_xh", "W_hx")
"""The kinds of tensors of which every LSTM has one."""
REQUIRED = ("W_ih", *RECURRENT)


@dataclass(frozen=True)
class Reading:
    """One way to read some of a file's tensors as an LSTM.

    Args:
        lstm: the LSTM so read.
        names: the tensors that it explains.
        evidence: how many tensors it explains, whether everything fits, and whether the prefix is
            one that only this framework gives. Readings with more evidence come first.
        usual_separator: whether the prefix ends as this framework's prefixes do. That decides
            between readings of the same evidence, but proves nothing.
        reasons: sentences that speak for the reading or against it.
        misfit: a sentence about what does not fit; "" if everything does.
        guess: if shapes alone speak for the reading: by kind of tensor, its name in the file.
    """

    lstm: PlacedLSTM
    names: Set[str]
    evidence: tuple[int, bool, bool]
    usual_separator: bool
    reasons: tuple[str, ...]
    misfit: str = ""
    guess: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundLSTM:
    """One LSTM of a file, with all its readings, the likeliest first."""

    readings: tuple[Reading, ...]

    @property
    def best(self) -> Reading:
        """The likeliest of the readings, which is the first."""
        return self.readings[0]

    @property
    def equally_likely(self) -> tuple[Reading, ...]:
        """All readings that have as much evidence as the best one."""
        return tuple(r for r in self.readings if r.evidence == self.best.evidence)

    @property
    def ambiguous(self) -> bool:
        """Whether equally likely readings give different weights."""
        if self.best.misfit:
            return False
        return len({to_canonical(r.lstm).digest() for r in self.equally_likely}) > 1

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What stands before the tensors' names: one prefix for each layer, or one for all."""
        return tuple(dict.fromkeys(self.best.lstm.prefixes))

    @property
    def label(self) -> str:
        """The prefixes with commas between them, by which a person selects this LSTM."""
        return ",".join(self.prefixes)


def required_kinds(lstm: PlacedLSTM) -> set[str]:
    """The kinds of tensors that an LSTM must have, given those that it does have.

    A layout with biases needs them all; and of each pair, what has one must have the other.
    """
    row = lstm.layout
    possible = {tensor.holds for tensor in row.tensors}
    kinds = {place.tensor.holds for place in lstm.present} | set(REQUIRED)
    if row.bias_required:
        kinds |= {holds for holds in possible if holds.startswith("b")}
    for pair in ({"b_ih", "b_hh"}, {"initial_h", "initial_c"}):
        if kinds & pair:
            kinds |= pair
    return kinds & possible


def misfit_of(lstm: PlacedLSTM, kinds: Set[str] | None = None) -> str:
    """A sentence about why these tensors are no LSTM in this layout; "" if they are one.

    Args:
        lstm: the tensors, read in this layout.
        kinds: the kinds of tensors that must be there, where layers that are not among these ones
            decide it; `required_kinds` when None.
    """
    if kinds is None:
        kinds = required_kinds(lstm)
    missing = [
        place.name
        for place in lstm.places
        if place.tensor.holds in kinds and place.name not in lstm.tensors
    ]
    if missing:
        return f"missing {', '.join(missing)}"
    dtypes = sorted({array.dtype.name for array in lstm.tensors.values()})
    if len(dtypes) > 1:
        return f"tensors are of different dtypes: {', '.join(dtypes)}"
    try:
        layers = [sizes_of(lstm, layer) for layer in range(lstm.num_layers)]
    except InputError as error:
        return str(error)
    for below, above in pairwise(layers):
        features = below["r"] * lstm.directions
        if (above["i"], above["u"]) != (features, layers[0]["u"]):
            return (
                f"a layer reads {above['i']} features and has {above['u']} units; expected the"
                f" {features} of the layer below, and {layers[0]['u']}"
            )
    if "W_hr" not in kinds and any(sizes["r"] != sizes["u"] for sizes in layers):
        return f"recurrent matrix reads {layers[0]['r']} units of {layers[0]['u']}"
    return ""


def sizes_text(lstm: PlacedLSTM) -> str:
    """The sizes of an LSTM for a person, such as "I = 3, H = 5, 2 layers, both directions"."""
    sizes = sizes_of(lstm, 0)
    parts = [f"I = {sizes['i']}", f"H = {sizes['u']}"]
    if sizes["r"] != sizes["u"]:
        parts.append(f"P = {sizes['r']}")
    plural = "s" if lstm.num_layers > 1 else ""
    parts.append(f"{lstm.num_layers} layer{plural}")
    if lstm.directions == 2:
        parts.append("both directions")
    return ", ".join(parts)


def with_leading_directions(lstm: PlacedLSTM) -> PlacedLSTM:
    """The LSTM with two directions, where they are an axis of its tensors and that axis has 2."""
    first = lstm.present[0]
    shape = lstm.tensors[first.name].shape
    if "d" in first.tensor.letters and shape[:1] == (2,):
        return PlacedLSTM(lstm.layout, lstm.tensors, lstm.prefixes, 2, lstm.facts)
    return lstm
