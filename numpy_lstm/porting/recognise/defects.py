"""What is wrong with the tensors of an LSTM: all of it at once, with what was expected and why.

Sizes are found by majority, so that one wrong tensor does not put the blame on the others.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from math import prod
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.arrangement import solve
from numpy_lstm.porting.layouts.layout import Arrays
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM
from numpy_lstm.porting.recognise.recognition import needed

FACTORS = {
    2: "two biases in one, as cuDNN has them?",
    0.75: "a GRU's three gates?",
    0.25: "one gate alone?",
}
"""What may be meant by a tensor so many times as large as expected."""
MOST = 100
"""Problems that are listed: a file may have any number of tensors that no LSTM has."""
Spec = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype."""


@dataclass(frozen=True)
class Problem:
    """One tensor that is not as it should be."""

    name: str
    kind: Literal["missing", "unexpected", "misshapen", "empty", "not finite", "narrowed"]
    expected: str
    found: str
    cause: str

    def __str__(self) -> str:
        """One line for a person."""
        cause = f"; {self.cause}" if self.cause else ""
        return f"{self.name}: {self.kind}: expected {self.expected}, found {self.found}{cause}"


def problems(found: Arrays, expected: Mapping[str, Spec]) -> list[Problem]:
    """Everything in which tensors differ from what is expected of them, up to `MOST`.

    Args:
        found: tensors by name.
        expected: shape and dtype by name; a wider dtype than expected is no problem.
    """
    return list(islice(_problems(found, expected), MOST))


def _problems(found: Arrays, expected: Mapping[str, Spec]) -> Iterator[Problem]:
    extra = [name for name in found if name not in expected]
    for name, spec in expected.items():
        if name not in found:
            cause = _misnamed(name, spec, found, extra)
            yield Problem(name, "missing", _text(*spec), "nothing", cause)
    for name in extra:
        text = _text(found[name].shape, found[name].dtype)
        cause = _why_unexpected(name, expected)
        yield Problem(name, "unexpected", "no such tensor", text, cause)
    for name, (shape, dtype) in expected.items():
        if name in found:
            yield from _differences(name, found[name], shape, dtype)


def check_tensors(place: str, found: Arrays, expected: Mapping[str, Spec]) -> None:
    """Raise unless there are no problems.

    Raises:
        InputError: all of them, a line each.
    """
    wrong = problems(found, expected)
    if wrong:
        lines = "".join(f"\n  {problem}" for problem in wrong)
        least = "at least " * (len(wrong) == MOST)
        count = f"{least}{len(wrong)} problem{'s' * (len(wrong) > 1)}"
        raise InputError(f"{place}: {count} with the tensors of the LSTM:{lines}")


def expected_tensors(lstm: PlacedLSTM) -> dict[str, Spec]:
    """What the tensors of an LSTM should be, from what most of them say."""
    dtypes = Counter(array.dtype for array in lstm.tensors.values())
    # Of equally many, the wider: half of the tensors in half precision is not how it was meant.
    dtype = max(dtypes, key=lambda d: (dtypes[d], d.itemsize))
    own = list(lstm.places)
    kinds = needed(lstm)
    sizes = _sizes(lstm, own)
    result: dict[str, Spec] = {}
    for place in own:
        if place.tensor.holds not in kinds:
            continue
        letters = sizes[place.layer]
        shape = tuple(prod(letters[a] for a in group) for group in place.tensor.groups)
        result[place.name] = shape, dtype
    return result


def _sizes(lstm: PlacedLSTM, own: list[Place]) -> list[dict[str, int]]:
    """Sizes of all letters by layer: H and P by vote, I from the first layer's input weights."""
    known = {"g": len(lstm.gates), "d": lstm.directions, "s": 2}
    known["q"] = len(lstm.gates) - 1
    there = [p for p in own if p.name in lstm.tensors]
    u = _vote(there, lstm, "u", known, "W_hh", "b", "b_ih", "b_hh", "b_pair", "W_hr", "W_ch")
    u = u or _vote(there, lstm, "u", known, "W_xh", "W_hx")
    # Where nothing can be right, the smaller side of a recurrent matrix is likely H.
    recurrent = [lstm.tensors[p.name].shape for p in there if p.tensor.holds == "W_hh"]
    u = u or min((min(shape, default=0) for shape in recurrent), default=0)
    known["u"] = u
    known["r"] = _vote(there, lstm, "r", known, "W_hr") or u
    layers = []
    for layer in range(lstm.num_layers):
        first = [p for p in lstm.places_by_layer[layer] if p.name in lstm.tensors]
        i = _vote(first, lstm, "i", known, "W_ih") or lstm.directions * known["r"]
        z = _vote(first, lstm, "z", known, "W_xh", "W_hx")
        i = z - known["r"] if z > known["r"] else i
        if layer:
            i = lstm.directions * known["r"]
        layers.append(known | {"i": i, "z": i + known["r"]})
    return layers


def _vote(
    there: list[Place], lstm: PlacedLSTM, letter: str, known: Mapping[str, int], *holds: str
) -> int:
    """The size that most of these tensors give a letter, each taken alone; 0 if none gives any."""
    votes: Counter[int] = Counter()
    for place in there:
        if place.tensor.holds in holds:
            sizes = dict(known)
            shape = lstm.tensors[place.name].shape
            for turned in (shape, shape[::-1]):  # a transposed tensor still says how large it is
                if solve(place.tensor.groups, turned, sizes) is None:
                    break
                sizes = dict(known)
            votes[sizes.get(letter, 0)] += 1
    votes.pop(0, None)
    return max(votes, key=lambda size: votes[size]) if votes else 0


def _differences(
    name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[Problem]:
    text = _text(shape, dtype)
    if array.size == 0:
        found = _text(array.shape, array.dtype)
        yield Problem(name, "empty", "numbers", found, "saved before it had its sizes?")
    elif array.shape != shape:
        yield Problem(
            name, "misshapen", text, _text(array.shape, array.dtype), _why_shape(array.shape, shape)
        )
    if array.dtype.itemsize < dtype.itemsize or array.dtype.kind in "iub":
        cause = "digits are lost already" if array.dtype.kind == "f" else "quantised?"
        yield Problem(name, "narrowed", text, _text(array.shape, array.dtype), cause)
    if array.dtype.kind in "fV":
        finite = np.isfinite(array)
        if not finite.all():
            place = [int(k) for k in np.argwhere(~finite)[0]]
            count = f"{array[tuple(place)]} at {place} ({(~finite).sum()} of {array.size} values)"
            yield Problem(name, "not finite", "finite numbers", count, "training that diverged?")


def _why_shape(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if found == expected[::-1]:
        return "transposed?"
    if prod(found) == prod(expected):
        return "reshaped?"
    return FACTORS.get(prod(found) / max(prod(expected), 1), "of a layer with other sizes?")


def _misnamed(name: str, spec: Spec, found: Arrays, extra: list[str]) -> str:
    """What may stand for a missing tensor."""
    prefixed = [other for other in extra if other.endswith(name)]
    if prefixed:
        prefix = prefixed[0].removesuffix(name)
        return f"{prefixed[0]!r} is there: remove the prefix {prefix!r} (saved from DataParallel?)"
    alike = [other for other in extra if found[other].shape == spec[0]]
    close = get_close_matches(name, alike, n=1, cutoff=0.6)
    return f"is it {close[0]!r}?" if close else ""


def _why_unexpected(name: str, expected: Mapping[str, Spec]) -> str:
    if "_reverse" in name and not any("_reverse" in other for other in expected):
        return "the second direction of a bidirectional LSTM?"
    close = get_close_matches(name, list(expected), n=1, cutoff=0.6)
    if close:
        return f"beside {close[0]!r}: a further layer, or another kind of LSTM?"
    return "leave it out of the file if it is not part of the LSTM"


def _text(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{list(shape)} {dtype.name}"
