"""Weights in the layouts that hand-written LSTMs use, to and from torch's.

With a layout, an adapter is a few lines::

    LAYOUT = ColumnVectors()

    @adapter(single=True)
    def mine(weights, tokens, targets):
        loss, gradients = my_lstm(LAYOUT.to_theirs(weights), tokens, targets)
        return {"loss": loss} | LAYOUT.to_torch_gradients(gradients)

`to_theirs` gives copies under the layout's own names; `to_torch_gradients` takes gradients under
the same names, as many of them as there are. Gates are i, f, g (the candidate) and o. There is one
bias a gate; of PyTorch's pair it is the sum, and its gradient is that of both. A language model's
projection is W_v and b_v. Three orientations of a product are known:

- "columns": W x + b with column vectors; W [out, in], b [out, 1], states [H, 1].
- "rows": x W + b with rows; W [in, out], b [out].
- "linear": x W^T + b, as torch.nn.Linear has it; W [out, in], b [out].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError, check_choice
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.arrangement import canonical_parameters, to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM
from numpy_lstm.porting.layouts.layout import GATES, Layout, Tensor
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

Arrays = Mapping[str, np.ndarray]
Orientation = Literal["columns", "rows", "linear"]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What all layouts share: the conversions, given the names and axes of a layout."""

    bias_pair: bool = True
    """As the adapter's option: whether gradients are returned for bias_ih_l0 and bias_hh_l0."""

    def to_theirs(self, weights: Arrays) -> dict[str, np.ndarray]:
        """Torch's weights, of a layer or of a language model, in this layout."""
        prefix = "lstm." if "projection.weight" in weights else ""
        W_ih, W_hh = weights[f"{prefix}weight_ih_l0"], weights[f"{prefix}weight_hh_l0"]
        biases = [b for n, b in weights.items() if n.startswith(f"{prefix}bias")]
        parameters = {"weight_ih_l0": W_ih, "weight_hh_l0": W_hh}
        parameters["bias_l0"] = sum(biases[1:], start=biases[0])
        model = CanonicalLSTM(LSTM(W_ih.shape[1], W_hh.shape[1]), parameters)
        theirs = dict(to_layout(model, self._row).tensors)
        if prefix:
            b_v = weights["projection.bias"].copy()
            theirs["W_v"] = self._turned(weights["projection.weight"]).copy()
            theirs["b_v"] = b_v[:, None] if self._orientation == "columns" else b_v
        return theirs

    def to_torch_gradients(self, gradients: Arrays) -> dict[str, np.ndarray]:
        """Gradients in this layout, under torch's names; those of a language model hold W_v.

        Raises:
            InputError: of the arrays that make up one of torch's, some are missing.
        """
        prefix = "lstm." if "W_v" in gradients else ""
        given = {n: np.asarray(gradient) for n, gradient in gradients.items()}
        result = {f"{prefix}{n}": g for n, g in canonical_parameters(self._native(given)).items()}
        bias = f"{prefix}bias_l0"
        if self.bias_pair and bias in result:
            b = result.pop(bias)
            result |= {f"{prefix}{name}_l0": b.copy() for name in ("bias_ih", "bias_hh")}
        if prefix:
            result["projection.weight"] = self._turned(given["W_v"])
        if "b_v" in given:
            result["projection.bias"] = given["b_v"].reshape(-1)
        return result

    def _native(self, gradients: Arrays) -> PlacedLSTM:
        """The gradients of the LSTM itself, those of a kind all or none."""
        native = PlacedLSTM(self._row, gradients, ("",))
        for tensor in self._row.tensors:
            names = [place.name for place in native.places if place.tensor == tensor]
            missing = [name for name in names if name not in gradients]
            if 0 < len(missing) < len(names):
                raise InputError(
                    f"gradients: missing {', '.join(missing)}; expected {', '.join(names)}"
                )
        return native

    @property
    def _orientation(self) -> Orientation:
        return "columns"

    @property
    def _row(self) -> Layout:
        raise NotImplementedError

    def _matrix(self, columns: str, rows: str) -> str:
        """The axes of a matrix in this orientation."""
        return f"{rows} {columns}" if self._orientation == "rows" else f"{columns} {rows}"

    def _vector(self, axis: str) -> str:
        """The axes of a bias in this orientation."""
        return f"{axis} 1" if self._orientation == "columns" else axis

    def _turned(self, W: np.ndarray) -> np.ndarray:
        """A matrix turned from torch's [out, in] to this orientation, or back."""
        return W.T if self._orientation == "rows" else W


def _row(order: str, *tensors: Tensor) -> Layout:
    """A row of the table of layouts, for one layer."""
    return Layout("handwritten", "hand-written", order, tensors)


@dataclass(frozen=True)
class ColumnVectors(_Layout):
    """One matrix a gate on z = [h; x]: W_f [H, H + I], b_f [H, 1], ..., W_v [V, H], b_v [V, 1].

    As in Olah (2015), "Understanding LSTM networks".
    """

    hidden_first: bool = True
    """Whether z = [h; x]; False for [x; h]."""

    @property
    def _row(self) -> Layout:
        fused = "W_hx" if self.hidden_first else "W_xh"
        return _row(GATES, Tensor(fused, "W_{gate}", "u z"), Tensor("b", "b_{gate}", "u 1"))


@dataclass(frozen=True)
class GatePairs(_Layout):
    """Two matrices a gate: W_i x + U_i h + b_i and so on, in any orientation."""

    orientation: Orientation = "columns"
    input: str = "W"
    """What the input's matrices are called: W_i, W_f, W_g, W_o."""
    recurrent: str = "U"
    """What the recurrent matrices are called: U_i, U_f, U_g, U_o."""
    bias: str = "b"
    """What the biases are called: b_i, b_f, b_g, b_o."""

    def __post_init__(self) -> None:
        check_choice("orientation", self.orientation, Orientation)

    @property
    def _orientation(self) -> Orientation:
        return self.orientation

    @property
    def _row(self) -> Layout:
        return _row(
            GATES,
            Tensor("W_ih", f"{self.input}_{{gate}}", self._matrix("u", "i")),
            Tensor("W_hh", f"{self.recurrent}_{{gate}}", self._matrix("u", "r")),
            Tensor("b", f"{self.bias}_{{gate}}", self._vector("u")),
        )


@dataclass(frozen=True)
class Stacked(_Layout):
    """All gates in one matrix, in any order and orientation: W_x [I, 4H], W_h [H, 4H], b [4H]."""

    order: str = "ifog"
    """The gates in the order of the blocks."""
    orientation: Orientation = "rows"
    input: str = "W_x"
    """What the input's matrix, with all gates in it, is called."""
    recurrent: str = "W_h"
    """What the recurrent matrix, with all gates in it, is called."""
    bias: str = "b"
    """What the bias, with all gates in it, is called."""

    def __post_init__(self) -> None:
        check_choice("orientation", self.orientation, Orientation)
        if sorted(self.order) != sorted(GATES):
            raise InputError(
                f"order: expected the letters i, f, g and o in some order, got {self.order!r}"
            )

    @property
    def _orientation(self) -> Orientation:
        return self.orientation

    @property
    def _row(self) -> Layout:
        return _row(
            self.order,
            Tensor("W_ih", self.input, self._matrix("(g u)", "i")),
            Tensor("W_hh", self.recurrent, self._matrix("(g u)", "r")),
            Tensor("b", self.bias, self._vector("(g u)")),
        )
