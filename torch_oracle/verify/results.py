"""What an adapter returns: its names, its shapes, and how it becomes a trace."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_lstm.errors import Shape
from numpy_lstm.language_model import LanguageModel
from torch_oracle.proof.trace import Problem, Trace, contribution


class Complaint(Exception):
    """What an adapter does wrong, other than computing wrong numbers, in one sentence."""


@dataclass(frozen=True)
class Known:
    """One array that an adapter may return."""

    shape: Shape
    """As the adapter returns it."""
    full: tuple[int, ...]
    """As the trace holds it: with batch and layers, even if there is one only."""
    step: str | None = None
    """Its name among the trace's steps [T, N, ...]."""
    total: str | None = None
    """Its name among the trace's totals."""
    intermediate: bool = False
    """Whether it only sharpens the verdict."""


@dataclass(frozen=True)
class Returned:
    """What one call of an adapter gave."""

    trace: Trace
    """Partial: what was not returned is not there."""
    names: dict[str, str]
    """The adapter's name for each tensor of the trace."""
    dtype: np.dtype
    """The narrowest of the problem's dtype and those of the arrays."""
    notes: tuple[str, ...]
    """What is unusual, but no fault."""


def sizes(shape: Shape) -> tuple[int, ...]:
    """Without the symbols."""
    return tuple(size for _, size in shape)


def close_match(name: str, names: Iterable[str]) -> str:
    """A hint at the nearest of the names; empty if none is near."""
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def known(problem: Problem, *, single: bool, layers_axis: bool) -> dict[str, Known]:
    """Everything that may be returned for a problem, by the adapter's names.

    Args:
        problem: its sizes count.
        single: without the batch axis.
        layers_axis: whether states are [layers, N, H] and not [N, H].
    """
    lstm, (T, N) = problem.lstm, problem.x.shape[:2]
    L, D, H, P = len(lstm.suffixes), lstm.directions, lstm.hidden_size, lstm.output_size
    hidden, output = ("H", H), ("P", P) if lstm.proj_size else ("H", H)
    joined = (f"{D}{output[0]}", D * P) if D > 1 else output
    batch: Shape = () if single else (("N", N),)

    def state(name: str, feature: tuple[str, int]) -> Known:
        layers: Shape = (("layers", L),) if layers_axis else ()
        return Known((*layers, *batch, feature), (L, N, feature[1]), total=name)

    def sequence(step: str | None, total: str | None, *feature: tuple[str, int], **options: bool):
        shape = (("T", T), *batch, *feature)
        return Known(shape, (T, N, *sizes(feature)), step, total, **options)

    states = {"h_n": state("h_n", output), "c_n": state("c_n", hidden)}
    gradients = {
        name: Known(shape, sizes(shape), total=contribution(name))
        for name, shape in problem.config.parameter_shapes().items()
    }
    initial = {"dh0": state("dh0", output), "dc0": state("dc0", hidden)}
    if isinstance(problem.config, LanguageModel):
        V = ("V", problem.config.vocab_size)
        names = {"loss": Known((), (), total="loss")} | gradients | initial | states
        names |= {
            "logits": sequence("logits", None, V),
            "dlogits": sequence("dlogits", None, V),
            "losses": sequence("loss", None, intermediate=True),
        }
    else:
        one = L == 1  # then h is y, step by step
        names = {"y": sequence("h" if one else None, "y", joined)} | states | gradients
        names["dx"] = sequence("dx" if one else None, "dx", ("I", lstm.input_size))
        names |= initial
    if L == 1:
        for name in (*lstm.step_values, "h", "dh", *lstm.step_gradients):
            feature = output if name in ("h", "dh") else hidden
            names[name] = sequence(name, None, feature, intermediate=True)
    return names


def trace_of(returned: Any, names: Mapping[str, Known], problem: Problem) -> Returned:
    """The partial trace; what stands beyond a sequence's length is ignored.

    Raises:
        Complaint: not a dict, unknown names, not arrays of floating numbers, wrong shapes.
    """
    arrays = _arrays(returned, names)
    T, N = problem.x.shape[:2]
    alive = problem.lengths > np.arange(T)[:, None]
    steps, totals, origin = {}, {}, {}
    for name, array in arrays.items():
        as_known = names[name]
        whole = array.reshape(as_known.full)
        if as_known.shape[:1] == (("T", T),):
            whole = np.where(alive.reshape(T, N, *[1] * (whole.ndim - 2)), whole, 0)
        if as_known.total is not None:
            totals[as_known.total] = whole
            origin[as_known.total] = name
        step = as_known.step
        if step is None or (step != name and step in arrays and names[step].step == step):
            continue  # h itself goes before y
        steps[step] = whole
        origin.setdefault(step, name)
    dtype = problem.h0.dtype
    others = {name: a.dtype for name, a in arrays.items() if a.ndim and a.dtype != dtype}
    notes = [
        f"{dtype} in, {other} out: {', '.join(n for n, d in others.items() if d == other)}"
        for other in sorted(set(others.values()), key=str)
    ]
    narrowest = min([dtype, *others.values()], key=lambda d: d.itemsize)
    return Returned(Trace(steps, totals), origin, narrowest, tuple(notes))


def _arrays(returned: Any, names: Mapping[str, Known]) -> dict[str, np.ndarray]:
    """Copies of the returned arrays, checked."""
    if not isinstance(returned, Mapping):
        raise Complaint(f"returns {_kind(returned)}; expected a dict of arrays by name")
    unknown = [name for name in returned if name not in names]
    if unknown:
        raise Complaint(
            f"returns {unknown[0]!r}, which is not known"
            f"{close_match(str(unknown[0]), names) or '.'} Known are {', '.join(names)}"
        )
    arrays = {name: _array(name, value, names[name].shape) for name, value in returned.items()}
    if all(names[name].intermediate for name in arrays):
        judged = [name for name, each in names.items() if not each.intermediate]
        raise Complaint(
            f"returns no output and no gradient; expected at least one of {', '.join(judged)}"
        )
    return arrays


def _array(name: str, value: Any, shape: Shape) -> np.ndarray:
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.array(value)
    except Exception:  # a ragged list, a list of tensors, a tensor of a dtype that NumPy lacks
        array = np.array(None)
    if array.dtype.kind == "O":
        raise Complaint(
            f"returns {name} as {_kind(value)}; expected an array of floating numbers"
            " (leave out what is not computed)"
        )
    if array.dtype.kind != "f":
        raise Complaint(
            f"returns {name} of dtype {array.dtype}; expected a floating dtype,"
            " such as that of the weights"
        )
    if array.itemsize < 4:
        raise Complaint(
            f"returns {name} of dtype {array.dtype}; expected float32 or float64, in which the"
            " verdict is sharp"
        )
    if array.shape != sizes(shape):
        raise Complaint(_wrong_shape(name, array.shape, shape))
    return array


def _wrong_shape(name: str, got: tuple[int, ...], shape: Shape) -> str:
    came, expected, symbols = list(got), list(sizes(shape)), [symbol for symbol, _ in shape]
    hint = ""
    if len(expected) > 1 and came == expected[::-1]:
        hint = "; transposed?"
    elif symbols[:1] == ["T"] and came == [expected[0] + 1, *expected[1:]]:
        hint = "; leave the initial state out"
    elif symbols[:2] == ["T", "N"] and came == [expected[1], expected[0], *expected[2:]]:
        hint = "; batch first?"
    elif np.prod(came) == np.prod(expected):
        hint = "; reshape it"
    wanted = f"[{', '.join(symbols)}] = {expected}" if shape else "a single number, of shape []"
    return f"returns {name} of the wrong shape: expected {wanted}, got {came}{hint}"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
