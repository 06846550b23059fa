"""Run an LSTM straight from the tensors of its file, in the file's own layout.

Nothing here transposes, reorders or converts: each product is taken over the axes that the row
names, and each gate is looked up where the row says it is. So an LSTM and its conversion are run by
different indexing, and agree only if the conversion is right. The equations are those of `cell`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from numpy_lstm.porting.layouts.arrangement import sizes_of
from numpy_lstm.porting.layouts.named_activations import Function, activation
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM
from numpy_lstm.roundoff import Noise

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""y [T, N, D P], h_n [layers * D, N, P], c_n [layers * D, N, H]."""


def working_dtype(lstm: PlacedLSTM) -> np.dtype:
    """Of the arithmetic: that of the tensors, but float32 for half precision."""
    return np.dtype(np.float64 if lstm.dtype == np.float64 else np.float32)


def run_as_placed(
    lstm: PlacedLSTM,
    x: Shaped[np.ndarray, "T N I"],
    h0: Shaped[np.ndarray, "layers N P"],
    c0: Shaped[np.ndarray, "layers N H"],
    noise: Noise | None = None,
) -> Outputs:
    """Outputs and final states, in the dtype of x.

    Args:
        lstm: the LSTM; its tensors are cast to the dtype of x.
        x: inputs, as long for every sequence.
        h0: initial hidden states; learned initial states in the file are not used.
        c0: initial cell states.
        noise: moves every weight, input and activation; x must be float64 then.
    """
    D, h_n, c_n = lstm.directions, [], []
    for layer in range(lstm.num_layers):
        outputs, sizes = [], sizes_of(lstm, layer)
        for d in range(D):
            step = PlacedCell.of(lstm, layer, d, sizes, x.dtype, noise)
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
class PlacedCell:
    """One step of one direction of one layer."""

    lstm: PlacedLSTM
    weights: list[tuple[Place, str, np.ndarray]]
    """Each tensor with its axes apart, without d; and their letters."""
    functions: tuple[Function, Function, Function]
    """Of the gates, the candidate, and the output."""
    noise: Noise | None

    @classmethod
    def of(
        cls,
        lstm: PlacedLSTM,
        layer: int,
        d: int,
        sizes: Mapping[str, int],
        dtype: np.dtype,
        noise: Noise | None,
    ) -> "PlacedCell":
        weights = []
        for place in lstm.places:
            array = lstm.tensors.get(place.name)
            if place.layer != layer or place.direction not in (None, d) or array is None:
                continue
            letters = place.tensor.letters
            array = array.astype(dtype).reshape([sizes[a] for a in letters])
            if "d" in letters:
                array, letters = np.take(array, d, letters.index("d")), letters.replace("d", "")
            if noise is not None:
                array = array * noise.factors(array.shape)
            weights.append((place, letters, array))
        gate, candidate, output = (_function(n, noise) for n in lstm.facts.activations)
        return cls(lstm, weights, (gate, candidate, output), noise)

    def __call__(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """States after one step: equations (1) to (7) and (19) to (21)."""
        lstm, layout = self.lstm, self.lstm.layout
        a = self._preactivations(x, h)  # (1)
        told = lstm.facts.forget_bias if layout.forget_bias == "told" else layout.forget_bias
        if isinstance(told, float) and told:
            a["f"] = a["f"] + x.dtype.type(told)
        gate, candidate, output = self.functions
        peepholes = self._peepholes()
        for name in set(peepholes) - {"o"}:
            a[name] = a[name] + peepholes[name] * c  # (19)
        i, g = gate(a["i"]), candidate(a["g"])  # (2), (4)
        f = 1 - i if lstm.coupled else gate(a["f"])  # (20), (3)
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
                for gate, term in zip(self.lstm.gates, terms, strict=True):
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
        order = self.lstm.layout.peepholes.replace("f", "" if self.lstm.coupled else "f")
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
