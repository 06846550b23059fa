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
projection.weight [V, H] and projection.bias [V] join them. `layouts` has other layouts. x is
[T, N, I], dy [T, N, H], states [N, H], tokens and targets [T, N], lengths [N]; beyond a length, x
and dy hold numbers that must have no effect.

What may be returned is in `returned.known`: outputs and gradients (`y`, `h_n`, `c_n`, `loss`, and
gradients under the parameters' own names, `dx`, `dh0`, `dc0`), and every step's intermediates
[T, N, H] under the names of `trace` (`i`, `a_i`, `da_i`, `dh`, ...), which sharpen the verdict.
"""

import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, TypeVar

import numpy as np
from torch import nn

from numpy_lstm.errors import InputError, check, check_choice
from torch_oracle.proof.random_problems import Sizes, random_problem, random_sizes
from torch_oracle.proof.trace import Problem, Trace
from torch_oracle.verify.results import Complaint, Known, Returned, close_match, known, trace_of
from torch_oracle.verify.torch_modules import Wrapped, wrap

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
    """What the function asks for."""
    options: Options = Options()
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further options of `LSTM`, of a torch module."""
    fixed: tuple[int, int] | None = None
    """(I, H) where the weights' sizes cannot be chosen."""

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
        N = 1 if self.options.single else N
        model = self.form == "language model"
        options = {"bias_pair": self.options.bias_pair} | dict(self.config)
        p = random_problem(
            seed, model=model, dtype=dtype, scale=scale, sizes=(T, N, I, H), **options
        )
        lengths = p.lengths if ragged and "lengths" in self.takes else np.full_like(p.lengths, T)
        absent = {
            name: np.zeros_like(value)
            for name in ("h0", "c0", *COTANGENTS)
            if name not in self.takes and (value := getattr(p, name)) is not None
        }
        dloss = 1 / int(lengths.sum()) if self.options.loss == "mean" else 1.0
        return replace(p, lengths=lengths, dloss=dloss, **absent)

    def known(self, problem: Problem) -> dict[str, Known]:
        """Everything that may be returned for a problem."""
        return known(problem, single=self.options.single, layers_axis=self.layers_axis)

    def run(self, problem: Problem) -> Trace:
        """The partial trace of a problem of `problem`'s kind.

        Steps and totals are in the names and shapes of `torch_trace`, as far as they were returned;
        of one layer, y and dx give the steps of h and dx too. A language model's `loss` is a total,
        its losses are the steps.

        Raises:
            Complaint: the function does something wrong, other than computing wrong numbers.
        """
        return self.call(problem).trace

    def call(self, problem: Problem) -> Returned:
        """`run`, with notes and the adapter's own names."""
        given = self._arguments(problem)
        arguments = {
            name: {n: a.copy() for n, a in value.items()} if name == "weights" else value.copy()
            for name, value in given.items()
        }
        try:
            with np.errstate(all="ignore"):  # the numbers are judged, not the warnings
                returned = self.function(**arguments)
        except Complaint:
            raise
        except (Exception, SystemExit) as error:
            raise Complaint(f"raises {_told(error)}") from error
        result = trace_of(returned, self.known(problem), problem)
        _check_unchanged(given, arguments)
        gradients = [n for t, n in result.names.items() if t in result.trace.totals and t[0] == "d"]
        if self.form == "layer" and gradients and not self.takes.intersection(COTANGENTS):
            raise Complaint(
                f"returns the gradient {gradients[0]} but takes no gradient of the outputs;"
                " expected dy, dh_n or dc_n among its parameters"
            )
        return result

    def _arguments(self, problem: Problem) -> dict[str, Any]:
        """What the function is called with, in the shapes that it asks for."""
        p, single = problem, self.options.single
        T, N = p.x.shape[:2]
        check(not single or N == 1, f"problem: expected N = 1 for {self.name}, got {N}")
        for name in ("h0", "c0", *COTANGENTS):
            value = getattr(p, name)
            check(
                name in self.takes or value is None or not value.any(),
                f"problem: expected {name} of zeros, which {self.name} does not take",
            )
        check(
            "lengths" in self.takes or bool((p.lengths == T).all()),
            f"problem: expected lengths of T = {T}; {self.name} takes none",
        )
        values: dict[str, Any] = {"weights": p.parameters, "tokens": p.x, "targets": p.targets}
        values |= {"x": p.x, "dy": p.dy, "lengths": p.lengths}
        for name in ("tokens", "targets", "x", "dy"):
            if single and values[name] is not None:
                values[name] = values[name][:, 0]
        for name in ("h0", "c0", "dh_n", "dc_n"):
            state = getattr(p, name) if self.layers_axis else getattr(p, name)[0]
            values[name] = state[..., 0, :] if single else state
        return {name: values[name] for name in self.takes}


def load(spec: str) -> Adapter:
    """The adapter `package.module:name`; the current directory is searched first.

    It is a function, or a torch.nn.Module with the parameters of nn.LSTM or nn.LSTMCell, or a class
    or function without arguments that makes one.

    Raises:
        InputError: in one sentence, why there is no adapter of that name.
    """
    return adapter_of(imported(spec), spec)


def imported(spec: str) -> Any:
    """The object `package.module:name`; the current directory is searched first.

    Raises:
        InputError: in one sentence, why there is none.
    """
    module_name, colon, name = spec.partition(":")
    check(
        bool(colon and module_name and name),
        f"{spec}: expected package.module:name, such as my_package.my_lstm:adapter",
    )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        absent = error.name is not None and f"{module_name}.".startswith(f"{error.name}.")
        check(not absent, f"{spec}: there is no module {error.name!r} here or in {sys.prefix}")
        raise InputError(f"{spec}: importing {module_name} raises {_told(error)}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{spec}: importing {module_name} raises {_told(error)}") from error
    found: Any = module
    for part in name.split("."):
        hint = close_match(part, vars(found)) if hasattr(found, "__dict__") else ""
        check(hasattr(found, part), f"{spec}: {module_name} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def adapter_of(found: Any, name: str) -> Adapter:
    """The adapter of an object in hand; see `load`."""
    if _makes_something(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise InputError(f"{name}: calling it raises {_told(error)}") from error
    if isinstance(found, nn.Module):
        return _of_module(wrap(found, name), name)
    check(
        callable(found) and not isinstance(found, type),
        f"{name}: expected a function or a torch.nn.Module, or a class or function without"
        f" arguments that makes one; got {found!r:.80}",
    )
    form, takes = _asked(found, name)
    options = getattr(found, "adapter_options", Options())
    return Adapter(name, found, form, takes, options)


def _of_module(wrapped: Wrapped, name: str) -> Adapter:
    takes = frozenset(REQUIRED["layer"]) | frozenset(OPTIONAL["layer"])
    takes = takes if wrapped.takes_lengths else takes - {"lengths"}
    function, config, fixed = wrapped.function, wrapped.config, wrapped.sizes
    return Adapter(name, function, "layer", takes, config=config, fixed=fixed)


def _makes_something(found: Any) -> bool:
    """Whether it is a class or function that can be called without arguments, and takes none."""
    if isinstance(found, type):
        try:
            inspect.signature(found).bind()
        except (TypeError, ValueError):
            return False
        return True
    return inspect.isfunction(found) and not inspect.signature(found).parameters


def _asked(function: Callable[..., Any], name: str) -> tuple[Form, frozenset[str]]:
    """The form, and the names of the parameters."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected a function with named parameters, {error}") from error
    takes = frozenset(parameters)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for each in parameters.values():
        check(each.kind in named, f"{name}: {each}: expected parameters that can be given by name")
    form: Form = "language model" if takes & {"tokens", "targets"} else "layer"
    names = (*REQUIRED[form], *OPTIONAL[form])
    missing = [each for each in REQUIRED[form] if each not in takes]
    if missing and not takes & {"x", "tokens", "targets"}:
        raise InputError(
            f"{name}: has the parameters ({', '.join(parameters)}); expected weights and x for a"
            " layer, or weights, tokens and targets for a language model"
        )
    check(
        not missing, f"{name}: lacks the parameter {missing and missing[0]}, which a {form} needs"
    )
    for each in parameters:
        check(
            each in names,
            f"{name}: has the parameter {each!r}, which a {form} does not know"
            f"{close_match(each, names) or '.'} Known are {', '.join(names)}",
        )
    return form, takes


def _told(error: BaseException) -> str:
    """Type, message and the last place in code that is neither ours nor an installed library's."""
    libraries = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))
    foreign = (*libraries, __file__, "<")
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{f.filename}:{f.lineno}" for f in frames if not f.filename.startswith(foreign)]
    text = " ".join(str(error).split())
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{told} ({places[-1]})" if places else told


def _check_unchanged(given: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Complain of the first input that the function has changed."""
    flat = {name: value for name, value in given.items() if name != "weights"}
    now = {name: value for name, value in arguments.items() if name != "weights"}
    flat |= {f"weights[{name!r}]": array for name, array in given["weights"].items()}
    now |= {f"weights[{name!r}]": array for name, array in arguments["weights"].items()}
    if flat.keys() != now.keys():
        (name, *_) = flat.keys() ^ now.keys()
        raise Complaint(f"adds or removes {name}; expected the dict of weights to stay as it is")
    for name, before in flat.items():
        after = now[name]
        kept = isinstance(after, np.ndarray)
        same = kept and after.shape == before.shape and after.dtype == before.dtype
        changed = np.argwhere(before != after) if same else np.zeros((1, 0), int)
        if len(changed):
            raise Complaint(
                f"changes its input {name}, first at index {changed[0].tolist()}; copy what is"
                " changed in place"
            )
