"""Run an LSTM straight from the tensors of its file, in the file's own layout.

Nothing here transposes, reorders or converts: each product is taken over the axes that the row
names, and each gate is looked up where the row says it is. So an LSTM and its conversion are run by
different indexing, and agree only if the conversion is right. The equations are those of `cell`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from numpy_lstm.activations import sigmoid, tanh
from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.arrangement import sizes_of
from numpy_lstm.porting.layouts.layout import NativeLSTM, Place, places
from numpy_lstm.roundoff import Noise

Function = Callable[[np.ndarray], np.ndarray]
Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""y [T, N, D P], h_n [layers * D, N, P], c_n [layers * D, N, H]."""

ACTIVATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "linear": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "hard_sigmoid": lambda a, alpha, beta: np.clip(alpha * a + beta, 0, 1),
    "scaled_tanh": lambda a, alpha, beta: alpha * np.tanh(beta * a),
}
"""What may stand for sigmoid and tanh; Keras 3's hard sigmoid is hard_sigmoid(1/6, 1/2), Keras 2's
hard_sigmoid(0.2, 0.5)."""


def activation(name: str) -> Function:
    """The function of a name such as "tanh" or "hard_sigmoid(0.2, 0.5)".

    Raises:
        InputError: a name that is not known, or the wrong number of arguments.
    """
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", name)
    function = ACTIVATIONS.get(match[1]) if match else None
    try:
        assert match is not None
        assert function is not None
        numbers = [float(number) for number in match[2].split(",")] if match[2] else []
        assert np.isfinite(numbers).all()
        function(np.zeros(1), *numbers)
    except (AssertionError, ValueError, TypeError):
        raise InputError(
            f"activation: expected one of {', '.join(ACTIVATIONS)}, the last two as"
            " hard_sigmoid(0.2, 0.5), which is that of Keras 2 and ONNX, or"
            f" hard_sigmoid(0.16666666666666666, 0.5), of Keras 3; got {name!r}"
        ) from None
    return lambda a: function(a, *numbers)


def normal_name(name: str) -> str:
    """The one way to write an activation: hard_sigmoid(.2,5e-1) gives hard_sigmoid(0.2, 0.5).

    Raises:
        InputError: as `activation`.
    """
    activation(name)
    own, _, numbers = name.rstrip(")").partition("(")
    values = ", ".join(str(float(number)) for number in numbers.split(",") if number)
    return f"{own}({values})" if values else own


def working_dtype(native: NativeLSTM) -> np.dtype:
    """Of the arithmetic: that of the tensors, but float32 for half precision."""
    return np.dtype(np.float64 if native.dtype == np.float64 else np.float32)


def run(
    native: NativeLSTM,
    x: Shaped[np.ndarray, "T N I"],
    h0: Shaped[np.ndarray, "layers N P"],
    c0: Shaped[np.ndarray, "layers N H"],
    noise: Noise | None = None,
) -> Outputs:
    """Outputs and final states, in the dtype of x.

    Args:
        native: the LSTM; its tensors are cast to the dtype of x.
        x: inputs, as long for every sequence.
        h0: initial hidden states; learned initial states in the file are not used.
        c0: initial cell states.
        noise: moves every weight, input and activation; x must be float64 then.
    """
    D, h_n, c_n = native.directions, [], []
    for layer in range(native.num_layers):
        outputs, sizes = [], sizes_of(native, layer)
        for d in range(D):
            step = Step.of(native, layer, d, sizes, x.dtype, noise)
            k = layer * D + d
            order = range(len(x)) if d == 0 else range(len(x))[::-1]
            h, c, y = h0[k], c0[k], np.empty((len(x), *h0[k].shape), x.dtype)
            for t in order:
                h, c = step(x[t], h, c)
                y[t] = h
            outputs.append(y)
            h_n.append(h)
            c_n.append(c)
        x = np.concatenate(outputs, axis=2)
    return x, np.stack(h_n), np.stack(c_n)


@dataclass(frozen=True)
class Step:
    """One step of one direction of one layer."""

    native: NativeLSTM
    weights: list[tuple[Place, str, np.ndarray]]
    """Each tensor with its axes apart, without d; and their letters."""
    functions: tuple[Function, Function, Function]
    """Of the gates, the candidate, and the output."""
    noise: Noise | None

    @classmethod
    def of(
        cls,
        native: NativeLSTM,
        layer: int,
        d: int,
        sizes: Mapping[str, int],
        dtype: np.dtype,
        noise: Noise | None,
    ) -> "Step":
        weights = []
        for place in places(native):
            array = native.tensors.get(place.name)
            if place.layer != layer or place.direction not in (None, d) or array is None:
                continue
            letters = place.tensor.letters
            array = array.astype(dtype).reshape([sizes[a] for a in letters])
            if "d" in letters:
                array, letters = np.take(array, d, letters.index("d")), letters.replace("d", "")
            if noise is not None:
                array = array * noise.factors(array.shape)
            weights.append((place, letters, array))
        gate, candidate, output = (_function(n, noise) for n in native.facts.activations)
        return cls(native, weights, (gate, candidate, output), noise)

    def __call__(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """States after one step: equations (1) to (7) and (19) to (21)."""
        native, layout = self.native, self.native.layout
        a = self._preactivations(x, h)  # (1)
        told = native.facts.forget_bias if layout.forget_bias == "told" else layout.forget_bias
        if isinstance(told, float) and told:
            a["f"] = a["f"] + x.dtype.type(told)
        gate, candidate, output = self.functions
        peepholes = self._peepholes()
        for name in set(peepholes) - {"o"}:
            a[name] = a[name] + peepholes[name] * c  # (19)
        i, g = gate(a["i"]), candidate(a["g"])  # (2), (4)
        f = 1 - i if native.coupled else gate(a["f"])  # (20), (3)
        c = f * c + i * g  # (6)
        if "o" in peepholes:
            a["o"] = a["o"] + peepholes["o"] * c  # (19)
        h = gate(a["o"]) * output(c)  # (5), (7)
        for place, letters, W in self.weights:
            if place.tensor.holds == "W_hr":
                h = np.einsum(f"nu,{letters}->nr", h, W)  # (21)
        return h, c

    def _preactivations(self, x: np.ndarray, h: np.ndarray) -> dict[str, np.ndarray]:
        given = {"W_ih": x, "W_hh": h}
        given |= {"W_xh": np.concatenate([x, h], axis=1), "W_hx": np.concatenate([h, x], axis=1)}
        a: dict[str, np.ndarray] = {}
        for place, letters, W in self.weights:
            holds = place.tensor.holds
            if self.noise is not None:
                W = W * self.noise.factors(W.shape)
            if holds in given:
                terms = self._product(place, letters, W, given[holds])
            elif holds.startswith("b"):
                own = f"{letters}->{'g' if 'g' in letters else ''}u"
                terms = np.einsum(own, W)
            else:
                continue
            if place.gate is not None:
                a[place.gate] = a.get(place.gate, 0) + terms
            else:
                for gate, term in zip(self.native.gates, terms, strict=True):
                    a[gate] = a.get(gate, 0) + term
        return a

    @staticmethod
    def _product(place: Place, letters: str, W: np.ndarray, v: np.ndarray) -> np.ndarray:
        """W v for every row of v: [g, N, u], or [N, u] of a single gate."""
        if place.tensor.scrambled:
            x, g, u = W.shape
            blocks = [np.ascontiguousarray(W[:, k]).reshape(u, x) for k in range(g)]
            return np.stack([v @ block.T for block in blocks])
        vector = next(a for a in letters if a in "irz")
        product = np.tensordot(v, W, (1, letters.index(vector)))
        axes = "n" + letters.replace(vector, "")
        return product.transpose([axes.index(a) for a in "gnu" if a in axes])

    def _peepholes(self) -> dict[str, np.ndarray]:
        """By gate."""
        result: dict[str, np.ndarray] = {}
        order = self.native.layout.peepholes.replace("f", "" if self.native.coupled else "f")
        for place, _, p in self.weights:
            if place.tensor.holds == "W_ch" and place.gate is not None:
                result[place.gate] = p
            elif place.tensor.holds == "W_ch":
                result |= dict(zip(order, p, strict=True))
        return result


def _function(name: str, noise: Noise | None) -> Function:
    """The activation, its values moved by the noise."""
    exact = activation(name)
    if noise is None:
        return exact

    def noisy(a: np.ndarray) -> np.ndarray:
        value = exact(a)
        return noise.computed(value, value)

    return noisy
