"""What is wrong with tensors: all of it at once, with what was expected and the likely cause."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from math import prod
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.layout import Arrays
from numpy_lstm.porting.recognise.expected import ShapeAndDtype

CAUSES_BY_FACTOR = {
    2: "two biases in one, as cuDNN has them?",
    0.75: "a GRU's three gates?",
    0.25: "one gate alone?",
}
"""What may be in a tensor that is so many times as large as expected."""
PARTS = {
    r"norm|gamma|beta|(^|[./_])(ln|bn)(\d*|_\w*)([./]|$)": "a normalisation",
    "peep|diag": "peepholes",
    "proj": "a projection",
    "raw$|original|orig$|mask$|_[gvu]$": "what another weight is computed from",
}
"""What a tensor that is not expected may be, by words in its name."""
LEAVE_OUT = "leave it out of the file if it is not part of the LSTM"
MOST = 100
"""The defects that are listed at most: a file may have any number of tensors that no LSTM has."""


@dataclass(frozen=True)
class Defect:
    """One way in which a tensor is not as it should be."""

    name: str
    kind: Literal["missing", "unexpected", "misshapen", "empty", "not finite", "narrowed"]
    expected: str
    found: str
    cause: str

    def __str__(self) -> str:
        """The defect as one line for a person."""
        line = f"{self.name}: {self.kind}: expected {self.expected}, found {self.found}"
        if self.cause:
            line += f"; {self.cause}"
        return line


def find_defects(found: Arrays, expected: Mapping[str, ShapeAndDtype]) -> list[Defect]:
    """Everything in which tensors differ from what is expected of them, up to `MOST`.

    Args:
        found: tensors by name.
        expected: shape and dtype by name; a wider dtype than expected is no defect.
    """
    return list(islice(_all_defects(found, expected), MOST))


def check_no_defects(where: str, found: Arrays, expected: Mapping[str, ShapeAndDtype]) -> None:
    """Raise if there are any defects.

    Raises:
        InputError: all of them, a line each.
    """
    defects = find_defects(found, expected)
    if defects:
        count = "1 problem"
        if len(defects) > 1:
            count = f"{len(defects)} problems"
        if len(defects) == MOST:
            count = f"at least {count}"
        lines = "".join(f"\n  {defect}" for defect in defects)
        raise InputError(f"{where}: {count} with the tensors of the LSTM:{lines}")


def _all_defects(found: Arrays, expected: Mapping[str, ShapeAndDtype]) -> Iterator[Defect]:
    extra = [name for name in found if name not in expected]
    for name, (shape, dtype) in expected.items():
        if name not in found:
            cause = _other_name(name, shape, found, extra)
            yield Defect(name, "missing", _text(shape, dtype), "nothing", cause)
    for name in extra:
        text = _text(found[name].shape, found[name].dtype)
        cause = _why_unexpected(name, expected)
        yield Defect(name, "unexpected", "no such tensor", text, cause)
    for name, (shape, dtype) in expected.items():
        if name in found:
            yield from _differences(name, found[name], shape, dtype)


def _differences(
    name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[Defect]:
    """Whether a tensor has numbers, the shape, the digits, and only finite values."""
    expected = _text(shape, dtype)
    found = _text(array.shape, array.dtype)
    if array.size == 0:
        yield Defect(name, "empty", "numbers", found, "saved before it had its sizes?")
    elif array.shape != shape:
        yield Defect(name, "misshapen", expected, found, _why_shape(array.shape, shape))
    if array.dtype.itemsize < dtype.itemsize or array.dtype.kind in "iub":
        cause = "digits are lost already" if array.dtype.kind == "f" else "quantised?"
        yield Defect(name, "narrowed", expected, found, cause)
    if array.dtype.kind in "fV":  # V: bfloat16
        finite = np.isfinite(array)
        if not finite.all():
            index = [int(k) for k in np.argwhere(~finite)[0]]
            count = f"{(~finite).sum()} of {array.size} values"
            value = f"{array[tuple(index)]} at {index} ({count})"
            yield Defect(name, "not finite", "finite numbers", value, "training that diverged?")


def _why_shape(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if found == expected[::-1]:
        return "transposed?"
    if prod(found) == prod(expected):
        return "reshaped?"
    factor = prod(found) / max(prod(expected), 1)
    return CAUSES_BY_FACTOR.get(factor, "of a layer with other sizes?")


def _other_name(name: str, shape: tuple[int, ...], found: Arrays, extra: list[str]) -> str:
    """Under which name a missing tensor may be there."""
    prefixed = [other for other in extra if other.endswith(name)]
    if prefixed:
        prefix = prefixed[0].removesuffix(name)
        return f"{prefixed[0]!r} is there: remove the prefix {prefix!r} (saved from DataParallel?)"
    same_shape = [other for other in extra if found[other].shape == shape]
    close = get_close_matches(name, same_shape, n=1, cutoff=0.6)
    return f"is it {close[0]!r}?" if close else ""


def _why_unexpected(name: str, expected: Mapping[str, ShapeAndDtype]) -> str:
    if "_reverse" in name and not any("_reverse" in other for other in expected):
        return "the second direction of a bidirectional LSTM?"
    for pattern, part in PARTS.items():
        if re.search(pattern, name, re.IGNORECASE):
            return f"{part}? The equations would be others; {LEAVE_OUT}"
    close = get_close_matches(name, list(expected), n=1, cutoff=0.6)
    if close:
        return f"beside {close[0]!r}: a further layer, or another kind of LSTM?"
    return LEAVE_OUT


def _text(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{list(shape)} {dtype.name}"
