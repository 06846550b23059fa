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

from numpy_lstm.errors import check, check_choice

Arrays = Mapping[str, np.ndarray]
Orientation = Literal["columns", "rows", "linear"]
GATES = "ifgo"


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What all layouts share."""

    bias_pair: bool = True
    """As the adapter's option: whether gradients are returned for bias_ih_l0 and bias_hh_l0."""

    def to_theirs(self, weights: Arrays) -> dict[str, np.ndarray]:
        """Torch's weights, of a layer or of a language model, in this layout."""
        prefix = "lstm." if "projection.weight" in weights else ""
        W_ih, W_hh = weights[f"{prefix}weight_ih_l0"], weights[f"{prefix}weight_hh_l0"]
        biases = [b for n, b in weights.items() if n.startswith(f"{prefix}bias")]
        theirs = self._split(W_ih, W_hh, sum(biases[1:], start=biases[0]))
        if prefix:
            theirs["W_v"] = self._turned(weights["projection.weight"])
            theirs["b_v"] = self._bias(weights["projection.bias"])
        return {name: array.copy() for name, array in theirs.items()}

    def to_torch_gradients(self, gradients: Arrays) -> dict[str, np.ndarray]:
        """Gradients in this layout, under torch's names; those of a language model hold W_v.

        Raises:
            InputError: of the arrays that make up one of torch's, some are missing.
        """
        prefix = "lstm." if "W_v" in gradients else ""
        parts = self._joined({n: np.asarray(gradient) for n, gradient in gradients.items()})
        bias = parts.pop("bias", None)
        if bias is not None:
            pair = ("bias_ih", "bias_hh")
            parts |= {name: bias.copy() for name in pair} if self.bias_pair else {"bias": bias}
        result = {f"{prefix}{name}_l0": gradient for name, gradient in parts.items()}
        if prefix:
            result["projection.weight"] = self._turned(gradients["W_v"])
        if "b_v" in gradients:
            result["projection.bias"] = gradients["b_v"].reshape(-1)
        return result

    @property
    def _orientation(self) -> Orientation:
        return "columns"

    def _turned(self, W: np.ndarray) -> np.ndarray:
        """From torch's [out, in] and back."""
        return W.T if self._orientation == "rows" else W

    def _bias(self, b: np.ndarray) -> np.ndarray:
        return b[:, None] if self._orientation == "columns" else b

    def _split(self, W_ih: np.ndarray, W_hh: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _joined(self, gradients: Arrays) -> dict[str, np.ndarray]:
        """weight_ih, weight_hh and bias in torch's layout, those that there are."""
        raise NotImplementedError


@dataclass(frozen=True)
class ColumnVectors(_Layout):
    """One matrix a gate on z = [h; x]: W_f [H, H + I], b_f [H, 1], ..., W_v [V, H], b_v [V, 1].

    As in Olah (2015), "Understanding LSTM networks".
    """

    hidden_first: bool = True
    """z = [h; x]; False for [x; h]."""

    def _split(self, W_ih: np.ndarray, W_hh: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
        both = (W_hh, W_ih) if self.hidden_first else (W_ih, W_hh)
        matrices = _blocks("W_", np.concatenate(both, axis=1))
        return matrices | _blocks("b_", b[:, None])

    def _joined(self, gradients: Arrays) -> dict[str, np.ndarray]:
        W, b = _stacked(gradients, "W_"), _stacked(gradients, "b_")
        parts = {}
        if W is not None:
            H = len(W) // 4
            I = W.shape[1] - H
            parts["weight_ih"] = W[:, H:] if self.hidden_first else W[:, :I]
            parts["weight_hh"] = W[:, :H] if self.hidden_first else W[:, I:]
        return parts if b is None else parts | {"bias": b.reshape(-1)}


@dataclass(frozen=True)
class GatePairs(_Layout):
    """Two matrices a gate: W_i x + U_i h + b_i and so on, in any orientation."""

    orientation: Orientation = "columns"
    input: str = "W"
    """What the input's matrices are called: W_i, W_f, W_g, W_o."""
    recurrent: str = "U"
    """What the recurrent ones are called."""
    bias: str = "b"
    """What the biases are called."""

    def __post_init__(self) -> None:
        check_choice("orientation", self.orientation, Orientation)

    @property
    def _orientation(self) -> Orientation:
        return self.orientation

    def _split(self, W_ih: np.ndarray, W_hh: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
        matrices = _blocks(f"{self.input}_", W_ih) | _blocks(f"{self.recurrent}_", W_hh)
        theirs = {name: self._turned(W) for name, W in matrices.items()}
        return theirs | _blocks(f"{self.bias}_", self._bias(b))

    def _joined(self, gradients: Arrays) -> dict[str, np.ndarray]:
        turned = {n: self._turned(g) if g.ndim == 2 else g for n, g in gradients.items()}
        parts = {
            "weight_ih": _stacked(turned, f"{self.input}_"),
            "weight_hh": _stacked(turned, f"{self.recurrent}_"),
        }
        b = _stacked(gradients, f"{self.bias}_")
        parts["bias"] = None if b is None else b.reshape(-1)
        return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True)
class Stacked(_Layout):
    """All gates in one matrix, in any order and orientation: W_x [I, 4H], W_h [H, 4H], b [4H]."""

    order: str = "ifog"
    """The gates in the order of the blocks."""
    orientation: Orientation = "rows"
    input: str = "W_x"
    """What the input's matrix is called."""
    recurrent: str = "W_h"
    """What the recurrent one is called."""
    bias: str = "b"
    """What the bias is called."""

    def __post_init__(self) -> None:
        check_choice("orientation", self.orientation, Orientation)
        check(
            sorted(self.order) == sorted(GATES),
            f"order: expected the letters i, f, g and o in some order, got {self.order!r}",
        )

    @property
    def _orientation(self) -> Orientation:
        return self.orientation

    def _split(self, W_ih: np.ndarray, W_hh: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
        W_x, W_h, b = (_reordered(array, GATES, self.order) for array in (W_ih, W_hh, b))
        theirs = {self.input: self._turned(W_x), self.recurrent: self._turned(W_h)}
        return theirs | {self.bias: self._bias(b)}

    def _joined(self, gradients: Arrays) -> dict[str, np.ndarray]:
        parts = {
            "weight_ih": (self.input, self._turned),
            "weight_hh": (self.recurrent, self._turned),
            "bias": (self.bias, np.ravel),
        }
        return {
            name: _reordered(to_torch(gradients[own]), self.order, GATES)
            for name, (own, to_torch) in parts.items()
            if own in gradients
        }


def _blocks(prefix: str, stacked: np.ndarray) -> dict[str, np.ndarray]:
    """The four gates' blocks, under the prefix and the gate."""
    blocks = np.split(stacked, 4)
    return {f"{prefix}{gate}": block for gate, block in zip(GATES, blocks, strict=True)}


def _stacked(gradients: Arrays, prefix: str) -> np.ndarray | None:
    """The inverse of `_blocks`; None if there is none of them."""
    names = [f"{prefix}{gate}" for gate in GATES]
    missing = [name for name in names if name not in gradients]
    if len(missing) == len(names):
        return None
    check(not missing, f"gradients: missing {', '.join(missing)}; expected {', '.join(names)}")
    return np.concatenate([gradients[name] for name in names])


def _reordered(stacked: np.ndarray, before: str, after: str) -> np.ndarray:
    """The four blocks along the first axis in another order."""
    blocks = dict(zip(before, np.split(stacked, 4), strict=True))
    return np.concatenate([blocks[gate] for gate in after])
