"""What an adapter may return: the names, the shapes, and how it becomes a trace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_lstm.errors import Shape
from numpy_lstm.language_model import LanguageModel
from torch_oracle.proof.trace import Problem, Trace, contribution
from torch_oracle.verification.messages import did_you_mean


class AdapterError(Exception):
    """What an adapter does wrong, other than computing wrong numbers, in one sentence."""


@dataclass(frozen=True)
class ReturnableArray:
    """One array that an adapter may return."""

    shape: Shape
    """Its shape as the adapter returns it."""
    trace_shape: tuple[int, ...]
    """Its shape in a trace, which has the axes of batch and layers even if their size is 1."""
    step: str | None = None
    """Its name among the trace's steps [T, N, ...], if it is one of them."""
    total: str | None = None
    """Its name among the trace's totals, if it is one of them."""
    intermediate: bool = False
    """Whether it only shows more precisely where an error begins."""


@dataclass(frozen=True)
class AdapterOutputs:
    """What one call of an adapter returned."""

    trace: Trace
    """A partial trace: it holds what was returned."""
    names: dict[str, str]
    """The adapter's name for each tensor of the trace."""
    dtype: np.dtype
    """The narrowest of the problem's dtype and those of the arrays."""
    notes: tuple[str, ...]
    """What is unusual, but not wrong, a sentence each."""


@dataclass(frozen=True)
class _Shapes:
    """Shapes of a problem's arrays, as an adapter returns them and as a trace holds them."""

    problem: Problem
    single: bool
    layers_axis: bool

    @property
    def hidden(self) -> tuple[str, int]:
        """The axis of the cell states."""
        return "H", self.problem.lstm.hidden_size

    @property
    def output(self) -> tuple[str, int]:
        """The axis of one direction's outputs."""
        lstm = self.problem.lstm
        return ("P", lstm.proj_size) if lstm.proj_size else self.hidden

    @property
    def joined(self) -> tuple[str, int]:
        """The axis of the outputs of all directions together."""
        symbol, size = self.output
        D = self.problem.lstm.directions
        return (f"{D}{symbol}", D * size) if D > 1 else (symbol, size)

    def state(self, name: str, feature: tuple[str, int]) -> ReturnableArray:
        """A state or its gradient: [N, feature], with layers and without a batch where so asked."""
        N, L = self.problem.x.shape[1], len(self.problem.lstm.suffixes)
        shape: Shape = (feature,) if self.single else (("N", N), feature)
        if self.layers_axis:
            shape = (("layers", L), *shape)
        return ReturnableArray(shape, (L, N, feature[1]), total=name)

    def sequence(
        self,
        step: str | None,
        total: str | None,
        *feature: tuple[str, int],
        intermediate: bool = False,
    ) -> ReturnableArray:
        """An array of every step: [T, N, feature], without a batch where so asked."""
        T, N = self.problem.x.shape[:2]
        batch: Shape = () if self.single else (("N", N),)
        shape = (("T", T), *batch, *feature)
        return ReturnableArray(shape, (T, N, *_sizes(feature)), step, total, intermediate)


def returnable_arrays(
    problem: Problem, *, single: bool, layers_axis: bool
) -> dict[str, ReturnableArray]:
    """Everything that may be returned for a problem, under the names that an adapter uses.

    Args:
        problem: its configuration and sizes decide.
        single: whether the arrays have no batch axis.
        layers_axis: whether states are [layers, N, H] and not [N, H].
    """
    shapes, config = _Shapes(problem, single, layers_axis), problem.config
    states = {"h_n": shapes.state("h_n", shapes.output), "c_n": shapes.state("c_n", shapes.hidden)}
    initial = {"dh0": shapes.state("dh0", shapes.output), "dc0": shapes.state("dc0", shapes.hidden)}
    gradients = {
        name: ReturnableArray(shape, _sizes(shape), total=contribution(name))
        for name, shape in config.parameter_shapes().items()
    }
    one_layer = len(problem.lstm.suffixes) == 1
    if isinstance(config, LanguageModel):
        V = ("V", config.vocab_size)
        loss = {"loss": ReturnableArray((), (), total="loss")}
        logits = {name: shapes.sequence(name, None, V) for name in ("logits", "dlogits")}
        losses = {"losses": shapes.sequence("loss", None, intermediate=True)}
        arrays = loss | gradients | initial | states | logits | losses
    else:
        input = ("I", problem.lstm.input_size)
        # Of one layer, the outputs are h, step by step, and dx is that layer's.
        y = {"y": shapes.sequence("h" if one_layer else None, "y", shapes.joined)}
        dx = {"dx": shapes.sequence("dx" if one_layer else None, "dx", input)}
        arrays = y | states | gradients | dx | initial
    if one_layer:
        for name in (*problem.lstm.step_values, "h", "dh", *problem.lstm.step_gradients):
            feature = shapes.output if name in ("h", "dh") else shapes.hidden
            arrays[name] = shapes.sequence(name, None, feature, intermediate=True)
    return arrays


def read_outputs(
    returned: Any, returnable: Mapping[str, ReturnableArray], problem: Problem
) -> AdapterOutputs:
    """What an adapter returned, as a partial trace; numbers beyond a sequence's length are ignored.

    Raises:
        AdapterError: it is no dict, or has unknown names, values that are no arrays of floating
            numbers, or wrong shapes.
    """
    arrays = _checked_arrays(returned, returnable)
    T, N = problem.x.shape[:2]
    alive = problem.lengths > np.arange(T)[:, None]
    steps: dict[str, np.ndarray] = {}
    totals: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for name, array in arrays.items():
        expected = returnable[name]
        values = array.reshape(expected.trace_shape)
        if expected.shape[:1] == (("T", T),):
            values = np.where(alive.reshape(T, N, *[1] * (values.ndim - 2)), values, 0)
        if expected.total is not None:
            totals[expected.total] = values
            names[expected.total] = name
        step = expected.step
        if step is None:
            continue
        if step != name and step in arrays and returnable[step].step == step:
            continue  # both h and y were returned: the steps of h are those of h itself
        steps[step] = values
        names.setdefault(step, name)
    dtype = problem.h0.dtype
    other_dtypes = {name: a.dtype for name, a in arrays.items() if a.ndim and a.dtype != dtype}
    narrowest = min([dtype, *other_dtypes.values()], key=lambda each: each.itemsize)
    return AdapterOutputs(Trace(steps, totals), names, narrowest, _dtype_notes(dtype, other_dtypes))


def _dtype_notes(given: np.dtype, returned: Mapping[str, np.dtype]) -> tuple[str, ...]:
    """A note for each dtype that was returned though another one was given."""
    notes = []
    for dtype in sorted(set(returned.values()), key=str):
        names = [name for name, each in returned.items() if each == dtype]
        notes.append(f"{given} in, {dtype} out: {', '.join(names)}")
    return tuple(notes)


def _checked_arrays(
    returned: Any, returnable: Mapping[str, ReturnableArray]
) -> dict[str, np.ndarray]:
    """Copies of the returned arrays, once names, types and shapes are found to be right."""
    if not isinstance(returned, Mapping):
        raise AdapterError(f"returns {_type_name(returned)}; expected a dict of arrays by name")
    unknown = [name for name in returned if name not in returnable]
    if unknown:
        hint = did_you_mean(str(unknown[0]), returnable) or "."
        raise AdapterError(
            f"returns {unknown[0]!r}, which is not known{hint} Known are {', '.join(returnable)}"
        )
    arrays = {name: _array(name, value, returnable[name].shape) for name, value in returned.items()}
    if all(returnable[name].intermediate for name in arrays):
        judged = [name for name, each in returnable.items() if not each.intermediate]
        raise AdapterError(
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
        raise AdapterError(
            f"returns {name} as {_type_name(value)}; expected an array of floating numbers"
            " (leave out what is not computed)"
        )
    if array.dtype.kind != "f":
        raise AdapterError(
            f"returns {name} of dtype {array.dtype}; expected a floating dtype,"
            " such as that of the weights"
        )
    if array.itemsize < 4:
        raise AdapterError(
            f"returns {name} of dtype {array.dtype}; expected float32 or float64, in which the"
            " verdict is sharp"
        )
    if array.shape != _sizes(shape):
        raise AdapterError(_wrong_shape(name, array.shape, shape))
    return array


def _wrong_shape(name: str, shape: tuple[int, ...], expected_shape: Shape) -> str:
    got, expected = list(shape), list(_sizes(expected_shape))
    symbols = [symbol for symbol, _ in expected_shape]
    hint = ""
    if len(expected) > 1 and got == expected[::-1]:
        hint = "; transposed?"
    elif symbols[:1] == ["T"] and got == [expected[0] + 1, *expected[1:]]:
        hint = "; leave the initial state out"
    elif symbols[:2] == ["T", "N"] and got == [expected[1], expected[0], *expected[2:]]:
        hint = "; batch first?"
    elif np.prod(got) == np.prod(expected):
        hint = "; reshape it"
    wanted = "a single number, of shape []"
    if expected:
        wanted = f"[{', '.join(symbols)}] = {expected}"
    return f"returns {name} of the wrong shape: expected {wanted}, got {got}{hint}"


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(size for _, size in shape)


def _type_name(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
