"""Anyone's LSTM, made callable: one small function that asks by name for what it can take.

A layer's adapter has the parameters `weights` and `x`, and any of `h0`, `c0`, `dy`, `dh_n`, `dc_n`
and `lengths`; a language model's has `weights`, `tokens` and `targets`, and any of `h0`, `c0` and
`lengths`. States it does not ask for are zero, gradients it does not ask for are not applied, and
without `lengths` all sequences have length T. ::

    def adapter(weights, x, h0, c0, dy):
        y, cache = my_lstm.forward(weights["weight_ih_l0"], ..., x, h0, c0)
        dx, dW_ih, ... = my_lstm.backward(dy, cache)
        return {"y": y, "dx": dx, "weight_ih_l0": dW_ih, ...}

Weights are named and laid out as in torch: weight_ih_l0 [4H, I], weight_hh_l0 [4H, H], bias_ih_l0
and bias_hh_l0 [4H], gates in the order i, f, g, o; a language model's bear the prefix `lstm.`, and
projection.weight [V, H] and projection.bias [V] join them. `torch_oracle.layouts` has other
layouts. x is [T, N, I], dy [T, N, H], states [N, H], tokens and targets [T, N], lengths [N]; beyond
a length, x and dy hold numbers that must have no effect.

Returned are outputs (`y`, `h_n`, `c_n`, `loss`), gradients under the parameters' own names and as
`dx`, `dh0`, `dc0`, and, to show where an error begins, every step's intermediates [T, N, H] under
the names of a trace (`i`, `a_i`, `da_i`, `dh`, ...). Whatever is not computed is left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from numpy_lstm.errors import InputError, check_choice
from torch_oracle.proof.random_problems import Sizes, random_problem, random_sizes
from torch_oracle.proof.trace import Problem, Trace
from torch_oracle.verification.messages import describe_error
from torch_oracle.verification.outputs import (
    AdapterError,
    AdapterOutputs,
    ReturnableArray,
    read_outputs,
    returnable_arrays,
)

Form = Literal["layer", "language model"]
Loss = Literal["mean", "sum"]
REQUIRED: dict[Form, tuple[str, ...]] = {
    "layer": ("weights", "x"),
    "language model": ("weights", "tokens", "targets"),
}
OPTIONAL: dict[Form, tuple[str, ...]] = {
    "layer": ("h0", "c0", "dy", "dh_n", "dc_n", "lengths"),
    "language model": ("h0", "c0", "lengths"),
}
COTANGENTS = ("dy", "dh_n", "dc_n")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Options:
    """How an adapter wants its arrays; see `adapter`."""

    single: bool = False
    bias_pair: bool = True
    loss: Loss = "mean"

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, Loss)


def adapter(
    *, single: bool = False, bias_pair: bool = True, loss: Loss = "mean"
) -> Callable[[Function], Function]:
    """Decorator that sets the options of an adapter; without it, they have these defaults.

    Args:
        single: one sequence at a time, without the batch axis: x [T, I], h0 [H], tokens [T].
        bias_pair: PyTorch's two biases (bias_ih_l0 and bias_hh_l0), whose sum counts, in either
            form; False for one (bias_l0).
        loss: whether a language model's loss, and its gradients, are of the mean over all real
            tokens or of the sum.
    """
    options = Options(single, bias_pair, loss)

    def marked(function: Function) -> Function:
        vars(function)["adapter_options"] = options
        return function

    return marked


@dataclass(frozen=True)
class Adapter:
    """Someone's LSTM, ready to be run on problems; made by `load` or `adapter_of`."""

    name: str
    function: Callable[..., Any]
    form: Form
    takes: frozenset[str]
    """The names of the function's parameters: what it asks for."""
    options: Options = Options()
    config: Mapping[str, Any] = field(default_factory=dict)
    """Of a torch module: how its `LSTM` differs from one layer in one direction."""
    fixed: tuple[int, int] | None = None
    """(I, H), if the weights' sizes cannot be chosen, as those of a torch module."""

    @property
    def layers_axis(self) -> bool:
        """Whether states are [layers, N, H]: those of a torch module are."""
        return self.fixed is not None

    def problem(
        self,
        seed: int = 0,
        sizes: Sizes | None = None,
        dtype: Any = np.float64,
        scale: float = 1.0,
        *,
        ragged: bool = True,
    ) -> Problem:
        """A random problem that the adapter can take.

        Args:
            seed: of everything random.
            sizes: (T, N, I, H); drawn when None. N is 1 without a batch axis; a torch module
                decides I and H.
            dtype: float32 or float64.
            scale: of the weights, times 1 / sqrt(fan_in), and of the biases.
            ragged: whether lengths differ, where the adapter takes them.
        """
        T, N, I, H = sizes or random_sizes(np.random.default_rng(seed))
        I, H = self.fixed or (I, H)
        if self.options.single:
            N = 1
        model = self.form == "language model"
        config = {"bias_pair": self.options.bias_pair} | dict(self.config)
        problem = random_problem(
            seed, model=model, dtype=dtype, scale=scale, sizes=(T, N, I, H), **config
        )
        lengths = problem.lengths
        if not ragged or "lengths" not in self.takes:
            lengths = np.full_like(lengths, T)
        zeros = {}
        for name in ("h0", "c0", *COTANGENTS):
            value = getattr(problem, name)
            if name not in self.takes and value is not None:
                zeros[name] = np.zeros_like(value)
        dloss = 1 / int(lengths.sum()) if self.options.loss == "mean" else 1.0
        return replace(problem, lengths=lengths, dloss=dloss, **zeros)

    def returnable(self, problem: Problem) -> dict[str, ReturnableArray]:
        """Everything that may be returned for a problem, by the adapter's names."""
        return returnable_arrays(problem, single=self.options.single, layers_axis=self.layers_axis)

    def run(self, problem: Problem) -> Trace:
        """The partial trace of a problem of `problem`'s kind.

        Steps and totals are in the names and shapes of `torch_trace`, as far as they were returned;
        of one layer, y and dx give the steps of h and dx too. A language model's `loss` is a total,
        its losses are the steps.

        Raises:
            AdapterError: the function does something wrong, other than computing wrong numbers.
        """
        return self.call(problem).trace

    def call(self, problem: Problem) -> AdapterOutputs:
        """What `run` gives, with notes and the adapter's own names."""
        self._check_can_take(problem)
        given = self.arguments(problem)
        arguments = {name: _copy(value) for name, value in given.items()}
        try:
            with np.errstate(all="ignore"):  # the numbers are judged, not the warnings
                returned = self.function(**arguments)
        except AdapterError:
            raise
        except (Exception, SystemExit) as error:
            raise AdapterError(f"raises {describe_error(error)}") from error
        outputs = read_outputs(returned, self.returnable(problem), problem)
        _check_unchanged(given, arguments)
        self._check_gradients_have_a_cause(outputs)
        return outputs

    def _check_can_take(self, problem: Problem) -> None:
        T, N = problem.x.shape[:2]
        if self.options.single and N != 1:
            raise InputError(f"problem: expected N = 1 for {self.name}, got {N}")
        for name in ("h0", "c0", *COTANGENTS):
            value = getattr(problem, name)
            if name not in self.takes and value is not None and value.any():
                raise InputError(
                    f"problem: expected {name} of zeros, which {self.name} does not take"
                )
        if "lengths" not in self.takes and (problem.lengths != T).any():
            raise InputError(f"problem: expected lengths of T = {T}; {self.name} takes none")

    def arguments(self, problem: Problem) -> dict[str, Any]:
        """What the function is called with, by name, in the shapes that it asks for."""
        values: dict[str, Any] = {"weights": problem.parameters, "lengths": problem.lengths}
        values |= {"tokens": problem.x, "targets": problem.targets}
        values |= {"x": problem.x, "dy": problem.dy}
        for name in ("h0", "c0", "dh_n", "dc_n"):
            state = getattr(problem, name)
            values[name] = state if self.layers_axis else state[0]
        values = {name: values[name] for name in self.takes}
        if self.options.single:
            for name in self.takes & {"tokens", "targets", "x", "dy"}:
                values[name] = values[name][:, 0]
            for name in self.takes & {"h0", "c0", "dh_n", "dc_n"}:
                values[name] = values[name][..., 0, :]
        return values

    def _check_gradients_have_a_cause(self, outputs: AdapterOutputs) -> None:
        """A layer's gradients depend on gradients of its outputs, so it must ask for some."""
        if self.form == "language model" or self.takes.intersection(COTANGENTS):
            return
        for tensor, name in outputs.names.items():
            if tensor in outputs.trace.totals and tensor.startswith("d"):
                raise AdapterError(
                    f"returns the gradient {name} but takes no gradient of the outputs;"
                    " expected dy, dh_n or dc_n among its parameters"
                )


def _copy(value: Any) -> Any:
    """A copy of an argument: an array, or the dict of weights with every array in it."""
    if isinstance(value, Mapping):
        return {name: array.copy() for name, array in value.items()}
    return value.copy()


def _check_unchanged(given: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raise `AdapterError` for the first input that the function has changed."""
    before, after = _flat(given), _flat(arguments)
    if before.keys() != after.keys():
        (name, *_) = before.keys() ^ after.keys()
        raise AdapterError(f"adds or removes {name}; expected the dict of weights to stay as it is")
    for name, array in before.items():
        now = after[name]
        if not isinstance(now, np.ndarray) or now.shape != array.shape or now.dtype != array.dtype:
            place = []
        elif (array != now).any():
            place = np.argwhere(array != now)[0].tolist()
        else:
            continue
        raise AdapterError(
            f"changes its input {name}, first at index {place}; copy what is changed in place"
        )


def _flat(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by name, each of the weights as an argument of its own."""
    flat = {name: value for name, value in arguments.items() if name != "weights"}
    for name, array in arguments["weights"].items():
        flat[f"weights[{name!r}]"] = array
    return flat
