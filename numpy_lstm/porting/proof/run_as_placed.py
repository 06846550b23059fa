"""Run an LSTM straight from the tensors of its file, in the file's own layout.

Nothing here transposes, reorders or converts: each product is taken over the axes that the row
names, and each gate is looked up where the row says it is. So an LSTM and its conversion are run by
different indexing, and agree only if the conversion is right. The equations are those of `cell`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from numpy_lstm.porting.layouts.arrangement import sizes_of
from numpy_lstm.porting.layouts.named_activations import Function, activation
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM
from numpy_lstm.roundoff import Noise
from numpy_lstm.shapes import Shaped

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""y [T, N, D P], h_n [layers * D, N, P], c_n [layers * D, N, H]."""
TWINS = 4
"""How many noisy runs say how far an LSTM's outputs move with its rounding."""


def working_dtype(lstm: PlacedLSTM) -> np.dtype:
    """The dtype of the arithmetic: that of the tensors, but float32 for half precision."""
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
        x: the inputs; all sequences are equally long.
        h0: initial hidden states; learned initial states in the file are not used.
        c0: initial cell states.
        noise: moves every weight, input and activation; x must be float64 then.
    """
    h_n, c_n = [], []
    for layer in range(lstm.num_layers):
        outputs = []
        sizes = sizes_of(lstm, layer)
        for direction in range(lstm.directions):
            cell = PlacedCell.of(lstm, layer, direction, sizes, x.dtype, noise)
            k = layer * lstm.directions + direction
            h, c = h0[k], c0[k]
            y = np.empty((len(x), *h.shape), x.dtype)
            steps = list(range(len(x)))
            if direction:
                steps.reverse()
            for t in steps:
                h, c = cell(x[t], h, c)
                y[t] = h
            outputs.append(y)
            h_n.append(h)
            c_n.append(c)
        x = np.concatenate(outputs, axis=2)
    return x, np.stack(h_n), np.stack(c_n)


def moves_of_twins(
    lstm: PlacedLSTM,
    inputs: tuple[np.ndarray, np.ndarray, np.ndarray],
    outputs: Outputs,
    dtype: np.dtype,
    seed: int,
) -> list[list[np.ndarray]]:
    """How far each output moves with noise of one to two roundoffs, once for each noisy twin.

    Args:
        lstm: the LSTM.
        inputs: x, h0 and c0, in float64.
        outputs: y, h_n and c_n without noise, in float64.
        dtype: whose roundoff the noise has.
        seed: of the noise.

    Returns:
        For each of y, h_n and c_n the `TWINS` differences, as `roundoff.distance` takes them.
    """
    moves: list[list[np.ndarray]] = [[], [], []]
    for k in range(TWINS):
        noise = Noise([seed, k], dtype)
        x, h0, c0 = (noise.moved(array) for array in inputs)
        twin = run_as_placed(lstm, x, h0, c0, noise)
        for of_output, moved, exact in zip(moves, twin, outputs, strict=True):
            of_output.append((moved - exact) / noise.amplitude)
    return moves


@dataclass(frozen=True)
class Weight:
    """One tensor of a direction of a layer.

    Args:
        place: where the file has it.
        letters: its axes, without d.
        array: its numbers with the axes apart.
    """

    place: Place
    letters: str
    array: np.ndarray


@dataclass(frozen=True)
class PlacedCell:
    """One direction of one layer, which can be called for one time step after the other.

    Args:
        lstm: the LSTM.
        weights: all its tensors.
        functions: the activations of the gates, of the candidate, and of c on its way out.
        noise: as in `run_as_placed`.
    """

    lstm: PlacedLSTM
    weights: list[Weight]
    functions: tuple[Function, Function, Function]
    noise: Noise | None

    @classmethod
    def of(
        cls,
        lstm: PlacedLSTM,
        layer: int,
        direction: int,
        sizes: Mapping[str, int],
        dtype: np.dtype,
        noise: Noise | None,
    ) -> "PlacedCell":
        """The cell of one direction of one layer, whose axes have these sizes."""
        weights = []
        for place in lstm.places_by_layer[layer]:
            tensor = lstm.tensors.get(place.name)
            if tensor is None or place.direction not in (None, direction):
                continue
            letters = place.tensor.letters
            array = tensor.astype(dtype).reshape([sizes[a] for a in letters])
            if "d" in letters:
                array = np.take(array, direction, letters.index("d"))
                letters = letters.replace("d", "")
            if noise is not None:
                array = array * noise.factors(array.shape)
            weights.append(Weight(place, letters, array))
        gate, candidate, output = (_function(name, noise) for name in lstm.facts.activations)
        return cls(lstm, weights, (gate, candidate, output), noise)

    def __call__(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """States after one step: (1) to (7); with its options (19), (22), (26)."""
        gate, candidate, output = self.functions
        peepholes = self._peepholes()
        a = self._preactivations(x, h)  # (1)
        forget_bias = self._forget_bias()
        if forget_bias:
            a["f"] = a["f"] + x.dtype.type(forget_bias)
        for name in peepholes.keys() & {"i", "f"}:
            a[name] = a[name] + peepholes[name] * c  # (22)
        i, g = gate(a["i"]), candidate(a["g"])  # (2), (4)
        f = 1 - i if self.lstm.coupled else gate(a["f"])  # (26), (3)
        c = f * c + i * g  # (6)
        if "o" in peepholes:
            a["o"] = a["o"] + peepholes["o"] * c  # (22)
        h = gate(a["o"]) * output(c)  # (5), (7)
        for weight in self.weights:
            if weight.place.tensor.holds == "W_hr":
                h = np.einsum(f"nu,{weight.letters}->nr", h, weight.array)  # (19)
        return h, c

    def _forget_bias(self) -> float:
        """The number that is added to a_f at run time."""
        if self.lstm.layout.forget_bias == "given":
            return self.lstm.facts.forget_bias
        return self.lstm.layout.fixed_forget_bias

    def _preactivations(self, x: np.ndarray, h: np.ndarray) -> dict[str, np.ndarray]:
        """The sum of all products and biases, by gate."""
        vectors = {
            "W_ih": x,
            "W_hh": h,
            "W_xh": np.concatenate([x, h], axis=1),
            "W_hx": np.concatenate([h, x], axis=1),
        }
        a: dict[str, np.ndarray] = {}
        for weight in self.weights:
            holds = weight.place.tensor.holds
            array = weight.array
            if self.noise is not None:
                array = array * self.noise.factors(array.shape)
            if holds in vectors:
                terms = _product(weight, array, vectors[holds])
            elif holds.startswith("b"):
                axes = "gu" if "g" in weight.letters else "u"
                terms = np.einsum(f"{weight.letters}->{axes}", array)
            else:
                continue
            if weight.place.gate is not None:
                a[weight.place.gate] = a.get(weight.place.gate, 0) + terms
            else:
                for gate, term in zip(self.lstm.gates, terms, strict=True):
                    a[gate] = a.get(gate, 0) + term
        return a

    def _peepholes(self) -> dict[str, np.ndarray]:
        """The peepholes of each gate that has them."""
        result: dict[str, np.ndarray] = {}
        for weight in self.weights:
            if weight.place.tensor.holds == "W_ch":
                if weight.place.gate is not None:
                    result[weight.place.gate] = weight.array
                else:
                    result |= dict(zip(self.lstm.peepholes, weight.array, strict=True))
        return result


def _product(weight: Weight, array: np.ndarray, v: np.ndarray) -> np.ndarray:
    """W v for every row of v: [g, N, u], or [N, u] of a single gate."""
    if weight.place.tensor.scrambled:
        x, gates, u = array.shape
        blocks = [np.ascontiguousarray(array[:, k]).reshape(u, x) for k in range(gates)]
        return np.stack([v @ block.T for block in blocks])
    summed = next(a for a in weight.letters if a in "irz")
    product = np.tensordot(v, array, (1, weight.letters.index(summed)))
    axes = "n" + weight.letters.replace(summed, "")
    return product.transpose([axes.index(a) for a in "gnu" if a in axes])


def _function(name: str, noise: Noise | None) -> Function:
    """The activation, its values moved by the noise."""
    exact = activation(name)
    if noise is None:
        return exact

    def noisy(a: np.ndarray) -> np.ndarray:
        value = exact(a)
        return noise.computed(value, value)

    return noisy
