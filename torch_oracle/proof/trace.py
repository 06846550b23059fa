"""Every quantity of every time step of one run, in one schema for NumPy and for torch.

All arrays are padded and time-major, zero where a sequence has ended. `dh` and `dc` are totals
(through the step's own output and through the next step); `dW_ih` and the like are the step's own
contribution to the gradient of a weight, which is the sum over the steps. Names of the first layer
are plain, those of others end as their parameters do (`da_f_l1_reverse`); a reverse direction
counts its own steps, the last token of each sequence being step 0.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import DTypeLike

from numpy_lstm.config import LSTM
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.roundoff import Noise
from numpy_lstm.shapes import Int, Shaped

CONTRIBUTIONS = {
    "weight_ih": "dW_ih",
    "weight_hh": "dW_hh",
    "bias": "db",
    "bias_ih": "db_ih",
    "bias_hh": "db_hh",
    "weight_hr": "dW_hr",
    "weight_ch": "dW_ch",
    "projection.weight": "dW_v",
    "projection.bias": "db_v",
}
"""Name of a gradient in the trace, by the name of the parameter without its layer.

A parameter that is not listed, of a variant, has `d` in front of its own name.
"""


@dataclass(frozen=True)
class Problem:
    """All inputs of one forward and backward run: an LSTM's, or a language model's.

    The scalar that is differentiated is ``<dy, y> + <dh_n, h_n> + <dc_n, c_n>`` for an LSTM, and
    ``dloss * sum of the losses + <dh_n, h_n> + <dc_n, c_n>`` for a language model.

    Args:
        config: sizes and options.
        parameters: weights by PyTorch's names.
        x: inputs [T, N, I], or tokens [T, N].
        lengths: real steps of each sequence.
        h0: initial hidden states.
        c0: initial cell states.
        dh_n: gradient of the last hidden states.
        dc_n: gradient of the last cell states.
        dy: gradient of the outputs, of an LSTM.
        targets: the next tokens, of a language model.
        dloss: gradient of every token's loss, of a language model.
        masks: for dropout.
    """

    config: LSTM | LanguageModel
    parameters: Mapping[str, np.ndarray]
    x: Shaped[np.ndarray, "T N *I"]
    lengths: Int[np.ndarray, " N"]
    h0: Shaped[np.ndarray, "layers N P"]
    c0: Shaped[np.ndarray, "layers N H"]
    dh_n: Shaped[np.ndarray, "layers N P"]
    dc_n: Shaped[np.ndarray, "layers N H"]
    dy: Shaped[np.ndarray, "T N F"] | None = None
    targets: Int[np.ndarray, "T N"] | None = None
    dloss: float = 1.0
    masks: tuple[Shaped[np.ndarray, "T N F"], ...] = ()

    @property
    def lstm(self) -> LSTM:
        """Configuration of the LSTM, which a language model contains."""
        return self.config.lstm if isinstance(self.config, LanguageModel) else self.config

    @property
    def prefix(self) -> str:
        """What precedes the LSTM's parameters' names."""
        return "lstm." if isinstance(self.config, LanguageModel) else ""

    @property
    def alive(self) -> Shaped[np.ndarray, "T N"]:
        """Whether a step of a sequence is real."""
        return self.lengths > np.arange(len(self.x))[:, None]


@dataclass(frozen=True)
class Trace:
    """All quantities of one run.

    Args:
        steps: name -> [T, ...], one entry a time step. torch's trace has the names of each layer
            in the order of computation, forward and then backward.
        totals: h_n, c_n, dh0, dc0 and the parameters' gradients; of an LSTM y and dx, in which
            directions are joined; of a language model ``dloss * sum of the losses`` as loss [].
        magnitudes: name -> [T, ...], from torch alone: of each contribution, which is a sum over
            the batch, the sum of its terms' magnitudes times the root of their number.
    """

    steps: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]
    magnitudes: dict[str, np.ndarray] = field(default_factory=dict)

    def at(self, name: str, step: int | None) -> np.ndarray:
        """A tensor at a step, or a total (None)."""
        return self.totals[name] if step is None else self.steps[name][step]


def label(suffix: str) -> str:
    """How the names of a layer's quantities end: as its parameters', but plain for the first."""
    return "" if suffix == "_l0" else suffix


def contribution(parameter: str) -> str:
    """Name in the trace of a parameter's gradient."""
    if parameter in CONTRIBUTIONS:
        return CONTRIBUTIONS[parameter]
    base, mark, layer = parameter.removeprefix("lstm.").rpartition("_l")
    return CONTRIBUTIONS.get(base, f"d{base}") + label(mark + layer)


def order(trace: Trace) -> Iterator[tuple[str, int | None]]:
    """Every (tensor, step) in the order of computation: values forward, gradients backward.

    Layer by layer; within a layer as torch's trace lists the names. None is a total.
    """
    labels = [name[1:] for name in trace.steps if name == "h" or name.startswith("h_l")]
    forward = range(len(trace.steps["h"]))
    backward = forward[::-1]
    head = ("logits", "loss", "dlogits", "dW_v", "db_v")
    by_label: dict[str, list[str]] = {each: [] for each in labels}
    for name in trace.steps:
        if name not in head:
            by_label[_label_of(name)].append(name)
    for each in labels:
        yield from _at_each(forward, (n for n in by_label[each] if not n.startswith("d")))
    yield from _at_each(forward, (n for n in ("logits", "loss") if n in trace.steps))
    ends = [name for name in ("y", "h_n", "c_n", "loss") if name in trace.totals]
    yield from ((name, None) for name in ends)
    yield from _at_each(backward, (n for n in ("dlogits", "dW_v", "db_v") if n in trace.steps))
    for each in reversed(labels):
        yield from _at_each(backward, (n for n in by_label[each] if n.startswith("d")))
    yield from ((name, None) for name in trace.totals if name not in ends)


def _label_of(name: str) -> str:
    """How a name of the trace ends: "" for the first layer, "_l1_reverse" for another."""
    _, mark, layer = name.rpartition("_l")
    return mark + layer if mark else ""


def _at_each(steps: Iterable[int], names: Iterable[str]) -> Iterator[tuple[str, int]]:
    names = list(names)
    return ((name, t) for t in steps for name in names)


def in_dtype(problem: Problem, dtype: DTypeLike) -> Problem:
    """The same problem with its floating-point arrays in another dtype."""

    def cast(array: np.ndarray) -> np.ndarray:
        return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

    return _converted(problem, cast, cast)


def moved(problem: Problem, noise: Noise) -> Problem:
    """The same problem in float64, its inputs and parameters moved by noise."""
    return _converted(
        in_dtype(problem, np.float64),
        noise.moved,
        lambda parameter: parameter * noise.factors(parameter.shape),
    )


def _converted(
    problem: Problem,
    inputs: Callable[[np.ndarray], np.ndarray],
    parameters: Callable[[np.ndarray], np.ndarray],
) -> Problem:
    """The problem with a function applied to each of its arrays."""
    arrays = {}
    for each in fields(problem):
        value = getattr(problem, each.name)
        if isinstance(value, np.ndarray):
            arrays[each.name] = inputs(value)
    masks = tuple(inputs(mask) for mask in problem.masks)
    converted = {name: parameters(array) for name, array in problem.parameters.items()}
    return replace(problem, parameters=converted, masks=masks, **arrays)
