"""What the tensors of an LSTM should be, from what most of them are.

Sizes are found by majority, so that one wrong tensor does not put the blame on the others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from numpy_lstm.porting.layouts.axes import solve_sizes
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM
from numpy_lstm.porting.recognise.readings import required_kinds

ShapeAndDtype = tuple[tuple[int, ...], np.dtype]


def expected_tensors(lstm: PlacedLSTM) -> dict[str, ShapeAndDtype]:
    """Shape and dtype of every tensor that the LSTM should have, by name."""
    dtypes = Counter(array.dtype for array in lstm.tensors.values())
    # Of equally many, the wider: half of the tensors in half precision is not how it was meant.
    dtype = max(dtypes, key=lambda d: (dtypes[d], d.itemsize))
    kinds = required_kinds(lstm)
    sizes = _sizes_by_layer(lstm)
    result: dict[str, ShapeAndDtype] = {}
    for place in lstm.places:
        if place.tensor.holds in kinds:
            letters = sizes[place.layer]
            shape = tuple(prod(letters[a] for a in group) for group in place.tensor.groups)
            result[place.name] = shape, dtype
    return result


def _sizes_by_layer(lstm: PlacedLSTM) -> list[dict[str, int]]:
    """Sizes of all letters: H and P by all layers' votes, I by the input weights of the first."""
    sizes = {"g": len(lstm.gates), "d": lstm.directions, "s": 2, "q": len(lstm.gates) - 1}
    sizes["u"] = _hidden_size(lstm, sizes)
    sizes["r"] = _vote(lstm, lstm.present, "r", sizes, ("W_hr",)) or sizes["u"]
    features = lstm.directions * sizes["r"]
    first = [place for place in lstm.present if place.layer == 0]
    i = _vote(lstm, first, "i", sizes, ("W_ih",)) or features
    z = _vote(lstm, first, "z", sizes, ("W_xh", "W_hx"))
    if z > sizes["r"]:
        i = z - sizes["r"]
    layers = [sizes | {"i": i, "z": i + sizes["r"]}]
    above = sizes | {"i": features, "z": features + sizes["r"]}
    return layers + [above] * (lstm.num_layers - 1)


def _hidden_size(lstm: PlacedLSTM, sizes: Mapping[str, int]) -> int:
    """H, of which fused matrices are asked last, since their axis z says little alone."""
    others = ("W_hh", "b", "b_ih", "b_hh", "b_pair", "W_hr", "W_ch")
    for kinds in (others, ("W_xh", "W_hx")):
        size = _vote(lstm, lstm.present, "u", sizes, kinds)
        if size:
            return size
    # Where nothing can be right, the smaller side of a recurrent matrix is likely H.
    shapes = [lstm.tensors[p.name].shape for p in lstm.present if p.tensor.holds == "W_hh"]
    return min((min(shape, default=0) for shape in shapes), default=0)


def _vote(
    lstm: PlacedLSTM,
    places: Sequence[Place],
    letter: str,
    known_sizes: Mapping[str, int],
    kinds: tuple[str, ...],
) -> int:
    """The size that most tensors of these kinds give a letter, each taken alone; 0 if none does."""
    votes: Counter[int] = Counter()
    for place in places:
        if place.tensor.holds in kinds:
            sizes = dict(known_sizes)
            shape = lstm.tensors[place.name].shape
            for candidate in (shape, shape[::-1]):  # a transposed tensor still says how large it is
                if solve_sizes(place.tensor.groups, candidate, sizes) is None:
                    break
                sizes = dict(known_sizes)
            votes[sizes.get(letter, 0)] += 1
    votes.pop(0, None)
    if not votes:
        return 0
    return max(votes, key=lambda size: votes[size])
