"""What an LSTM is, apart from its weights: sizes, options, and the names of its parameters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import numpy as np

import numpy_lstm.cell as torch_cell
import numpy_lstm.variants as variants
from numpy_lstm.errors import InputError, Shape, check_positive

Parameters = Mapping[str, np.ndarray]
"""Weights by PyTorch's names, such as ``weight_ih_l0``."""
State = tuple[np.ndarray, np.ndarray]
"""(h, c), [layers * D, N, P] and [layers * D, N, H]; D directions each, as `LSTM.suffixes`.

In annotations of shapes, `layers` stands for layers * D.
"""

PARAMETER_NAMES = {
    "W_ih": "weight_ih",
    "W_hh": "weight_hh",
    "W_hr": "weight_hr",
    "W_ch": "weight_ch",
}
"""PyTorch's name of a weight, without suffix, by its symbol; the other weights keep their names."""


@dataclass(frozen=True)
class LSTM:
    """Configuration of an LSTM; the arguments of torch.nn.LSTM have its names and order.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: layers, each reading the outputs of the one below.
        bias: whether the gates have a bias.
        batch_first: whether x and y are [N, T, ...]; states are [layers, N, ...] either way.
        dropout: probability that an output of a layer but the last is dropped (in training).
        bidirectional: whether a second LSTM per layer reads each sequence from its end.
        proj_size: P, size of the projected outputs; 0 for none (then P = H).
        bias_pair: keep PyTorch's two biases (`bias_ih_l0`, `bias_hh_l0`), whose sum enters (1),
            instead of one (`bias_l0`). Both train, so that their sum takes twice the step.
        variant: another cell than torch's: the name of a file of `numpy_lstm/variants`, such as
            "peephole", or a module of one's own with the same functions.

    Raises:
        InputError: sizes or options that do not go together.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    bias_pair: bool = False
    variant: str | ModuleType | None = None

    def __post_init__(self) -> None:
        check_positive(
            input_size=self.input_size, hidden_size=self.hidden_size, num_layers=self.num_layers
        )
        for name in ("bias", "batch_first", "bidirectional", "bias_pair"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise InputError(f"expected True or False, got {value!r}", argument=name)
        if self.bias_pair and not self.bias:
            raise InputError("expected False where bias is False", argument="bias_pair")
        if "b" not in self.cell.WEIGHTS and self.bias_pair:
            raise InputError("expected False for a variant without bias", argument="bias_pair")
        if type(self.proj_size) is not int or not 0 <= self.proj_size < self.hidden_size:
            raise InputError(
                f"expected an integer from 0 to hidden_size - 1 = {self.hidden_size - 1},"
                f" got {self.proj_size!r}",
                argument="proj_size",
            )
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout <= 1:
            raise InputError(
                f"expected a probability from 0 to 1, got {self.dropout!r}", argument="dropout"
            )
        if self.dropout > 0 and self.num_layers == 1:
            raise InputError(
                f"expected 0 with one layer, got {self.dropout}; it acts between layers",
                argument="dropout",
            )

    @property
    def cell(self) -> Any:
        """The module with the equations of one step: `cell.py` or a variant."""
        if self.variant is None:
            return torch_cell
        return variant_module(self.variant)

    @property
    def peephole(self) -> bool:
        """Whether the cell has peepholes, W_ch."""
        return "W_ch" in self.cell.WEIGHTS

    @property
    def coupled(self) -> bool:
        """Whether the cell has no forget gate of its own: three blocks of gates, not four."""
        return self.cell.WEIGHTS["W_hh"][0] == "3H"

    @property
    def step_values(self) -> tuple[str, ...]:
        """Names of what the cell computes in a step, in that order, such as a_i and c."""
        return _step_names(self.cell.Cache)

    @property
    def step_gradients(self) -> tuple[str, ...]:
        """Names of the gradients of those values, in the order of their computation."""
        return _step_names(self.cell.Gradients)

    @property
    def directions(self) -> int:
        """D: 2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Size of one direction's outputs: P, or H without a projection."""
        return self.proj_size or self.hidden_size

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of the parameters' names, in the order of the states: `_l0`, `_l0_reverse`, ..."""
        ends = ("", "_reverse")[: self.directions]
        return tuple(f"_l{k}{end}" for k in range(self.num_layers) for end in ends)

    @property
    def bias_names(self) -> tuple[str, ...]:
        """Names of a layer's biases, without suffix: none, one or two."""
        if not self.bias or "b" not in self.cell.WEIGHTS:
            return ()
        return ("bias_ih", "bias_hh") if self.bias_pair else ("bias",)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter, as in PyTorch's state_dict."""
        output_axis = ("H", self.hidden_size)
        if self.proj_size:
            output_axis = ("P", self.proj_size)
        input_axis = ("I", self.input_size)
        shapes: dict[str, Shape] = {}
        for layer, places in places_by_layer(self):
            if layer > 0:
                symbol, size = output_axis
                input_axis = (f"{self.directions}{symbol}", self.directions * size)
            axes = {"I": input_axis, "P": output_axis}
            for k, _ in places:
                shapes |= self._layer_shapes(self.suffixes[k], axes)
        return shapes

    def _layer_shapes(self, suffix: str, axes: Mapping[str, tuple[str, int]]) -> dict[str, Shape]:
        """Names and shapes of one direction of one layer, whose input and output axes are given.

        torch's own parameters come first, then the projection, then what a variant adds.
        """
        own, added = {}, {}
        for name, symbols in self.cell.WEIGHTS.items():
            shape = tuple(axes.get(symbol) or (symbol, self._size(symbol)) for symbol in symbols)
            for parameter in self.parameter_names(name):
                shapes = own if name in torch_cell.WEIGHTS else added
                shapes[parameter + suffix] = shape
        if self.proj_size:
            own[PARAMETER_NAMES["W_hr"] + suffix] = (axes["P"], ("H", self.hidden_size))
        return own | added

    def _size(self, symbol: str) -> int:
        """Length of an axis such as "4H", "H" or "3"."""
        number = symbol.removesuffix("H")
        if symbol == number:
            return int(number)
        return int(number or 1) * self.hidden_size

    def parameter_names(self, name: str) -> tuple[str, ...]:
        """The parameters, without suffix, that a weight of a cell comes from; two for a pair."""
        if name == "b":
            return self.bias_names
        return (PARAMETER_NAMES.get(name, name),)

    def cell_weights(self, parameters: Parameters, suffix: str) -> tuple[np.ndarray, ...]:
        """One direction's weights, as its cell takes them; a missing bias is zero."""
        weights = []
        for name in self.cell.WEIGHTS:
            parts = [parameters[each + suffix] for each in self.parameter_names(name)]
            if not parts:
                W_hh = parameters[f"weight_hh{suffix}"]
                parts = [np.zeros(len(W_hh), W_hh.dtype)]
            weight = parts[0]
            for part in parts[1:]:
                weight = weight + part
            weights.append(weight)
        return tuple(weights)

    def projection(self, parameters: Parameters, suffix: str) -> np.ndarray | None:
        """W_hr [P, H] of one direction; None without a projection."""
        return parameters.get(PARAMETER_NAMES["W_hr"] + suffix)


def _step_names(named_tuple: Any) -> tuple[str, ...]:
    """The fields of a cell's `Cache` or `Gradients` that are values of the step itself."""
    others = ("weights", "x", "h_prev", "c_prev", "dx", "dh_prev", "dc_prev")
    return tuple(name for name in named_tuple._fields if name not in others)


@cache
def variant_module(variant: str | ModuleType) -> Any:
    """The module of a variant, by its name or as it is given.

    Raises:
        InputError: a name that no file of `numpy_lstm/variants` has, or a module that is no cell.
    """
    if isinstance(variant, str):
        names = sorted(module.name for module in iter_modules(variants.__path__))
        if variant not in names:
            raise InputError(
                f"expected one of {names} or a module, got {variant!r}", argument="variant"
            )
        return import_module(f"numpy_lstm.variants.{variant}")
    names = ("WEIGHTS", "Cache", "Gradients", "cell_forward", "cell_backward")
    missing = [name for name in names if not hasattr(variant, name)]
    if missing:
        raise InputError(
            f"{variant!r} lacks {missing}; see numpy_lstm/variants", argument="variant"
        )
    return variant


def places_by_layer(config: LSTM) -> Iterator[tuple[int, list[tuple[int, bool]]]]:
    """Each layer with the places of its directions among the states, and which one is reversed."""
    D = config.directions
    for layer in range(config.num_layers):
        yield layer, [(layer * D + d, d == 1) for d in range(D)]


def named_gradients(
    config: LSTM, suffix: str, gradients: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """One direction's gradients, by the cell's names, under the names of the parameters.

    Both of PyTorch's biases have the gradient of b, each in an array of its own: whoever scales one
    in place must not scale the other.
    """
    named = {}
    for name, gradient in gradients.items():
        for parameter in config.parameter_names(name):
            named[parameter + suffix] = gradient.copy() if name == "b" else gradient
    return named
