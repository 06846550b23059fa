"""From a framework's arrangement of an LSTM's tensors to the canonical one, and back.

Both follow from a row of the table: `unpack` takes a tensor's axes apart and puts them into the
canonical order, `pack` does the opposite, and the gates' blocks are looked up by the row's order.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM
from numpy_lstm.porting.layouts.layout import CANONICAL_AXES, GATES, PEEPHOLES, Layout, Tensor
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

VARIANTS = {
    (False, False): None,
    (True, False): "peephole",
    (False, True): "coupled",
    (True, True): "coupled_peephole",
}
"""The cell, by whether it has peepholes and coupled gates."""
CANONICAL_NAMES = {
    "W_ih": "weight_ih",
    "W_hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "b": "bias",
    "W_hr": "weight_hr",
    "W_ch": "weight_ch",
}
"""Name of a canonical parameter, without the layer's suffix, by what it holds."""


def solve(groups: list[str], shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
    """Find the sizes of the letters of each axis; None if it works, else what does not fit.

    Args:
        groups: as `Tensor.groups`.
        shape: the array's.
        sizes: those known; those found are added.
    """
    if len(groups) != len(shape):
        return f"expected {len(groups)} axes"
    for letters, size in zip(groups, shape, strict=True):
        unknown = [a for a in letters if a not in sizes]
        known = prod(sizes[a] for a in letters if a in sizes)
        if len(unknown) > 1 or size < 1:
            return f"expected axis ({letters}) of at least 1"
        if unknown and size % known == 0:
            sizes[unknown[0]] = size // known
        elif unknown or size != known:
            return f"expected axis ({letters}) = {'a multiple of ' if unknown else ''}{known}"
    return None


def unpack(tensor: Tensor, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """The tensor with its axes apart and in canonical order (a view where it can be)."""
    apart = array.reshape([sizes[a] for a in tensor.letters])
    own = apart.transpose([tensor.letters.index(a) for a in tensor.own_axes])
    if not tensor.scrambled:
        return own
    # [g, u, x] from Keras' shape: the block [x, u] is the memory of [u, x].
    g, u, x = own.shape
    return np.ascontiguousarray(own.transpose(0, 2, 1)).reshape(g, u, x)


def pack(tensor: Tensor, own: np.ndarray) -> np.ndarray:
    """The inverse of `unpack`: the tensor as it lies in the file, contiguous."""
    if tensor.scrambled:
        g, u, x = own.shape
        own = np.ascontiguousarray(own).reshape(g, x, u).transpose(0, 2, 1)
    sizes = dict(zip(tensor.own_axes, own.shape, strict=True))
    apart = own.transpose([tensor.own_axes.index(a) for a in tensor.letters])
    return np.ascontiguousarray(
        apart.reshape([prod(sizes[a] for a in letters) for letters in tensor.groups])
    )


def reordered(parts: np.ndarray, before: str, after: str) -> np.ndarray:
    """Blocks along the first axis, in another order."""
    return parts[[before.index(letter) for letter in after]]


def sizes_of(lstm: PlacedLSTM, layer: int, *, partial: bool = False) -> dict[str, int]:
    """Sizes of all letters, from the shapes of a layer's tensors.

    Args:
        lstm: the LSTM.
        layer: its number.
        partial: whether some tensors may be missing, and sizes with them.

    Raises:
        InputError: shapes that contradict one another; all of them.
    """
    sizes = {"g": len(lstm.gates), "d": lstm.directions, "s": 2}
    sizes["q"] = 2 if lstm.coupled else 3
    own = [p for p in lstm.places_by_layer[layer] if p.name in lstm.tensors]
    # The recurrent matrix first: it tells H, which the others need.
    first = {"W_hh": 0, "W_hr": -1, "W_xh": 1, "W_hx": 1}
    wrong = []
    for place in sorted(own, key=lambda p: first.get(p.tensor.holds, 2)):
        if place.tensor.holds in ("W_xh", "W_hx") and "u" in sizes:
            sizes.setdefault("r", sizes["u"])
        problem = solve(place.tensor.groups, lstm.tensors[place.name].shape, sizes)
        if problem:
            shape = list(lstm.tensors[place.name].shape)
            wrong.append(f"{place.name}: {problem} of [{place.tensor.axes}], got {shape}")
    if "u" in sizes:
        sizes.setdefault("r", sizes["u"])
    if "z" in sizes and "r" in sizes:
        sizes.setdefault("i", sizes["z"] - sizes["r"])
    if wrong or (not partial and sizes.get("i", 0) < 1):
        raise InputError("; ".join(wrong) or f"sizes: expected I of at least 1, got {sizes}")
    return sizes


def to_canonical(lstm: PlacedLSTM) -> CanonicalLSTM:
    """Read an LSTM in a framework's layout.

    Raises:
        InputError: tensors missing, or of shapes that contradict one another.
    """
    layout, D = lstm.layout, lstm.directions
    layers = [sizes_of(lstm, layer) for layer in range(lstm.num_layers)]
    parts = _canonical_parts(lstm, layers)
    parameters = _named(lstm, parts)
    u, r = layers[0]["u"], layers[0]["r"]
    config = LSTM(
        layers[0]["i"],
        u,
        lstm.num_layers,
        bias=any(name.startswith("bias") for name in parameters),
        bidirectional=D == 2,
        proj_size=r if layout.holds("W_hr") and "weight_hr_l0" in parameters else 0,
        bias_pair="bias_ih_l0" in parameters,
        variant=VARIANTS["weight_ch_l0" in parameters, lstm.coupled],
    )
    states = {}
    if all("initial_h" in part for part in parts):
        states = {n: np.stack([part[n] for part in parts]) for n in ("initial_h", "initial_c")}
    facts = lstm.facts
    if isinstance(layout.forget_bias, float):
        facts = replace(facts, forget_bias=layout.forget_bias)
    return CanonicalLSTM(config, parameters, facts, **states)


def canonical_parameters(lstm: PlacedLSTM) -> dict[str, np.ndarray]:
    """What there is of an LSTM (or of its gradients) under the names of `LSTM.parameter_shapes`.

    Raises:
        InputError: shapes that contradict one another.
    """
    layers = [sizes_of(lstm, layer, partial=True) for layer in range(lstm.num_layers)]
    return _named(lstm, _canonical_parts(lstm, layers))


def _named(lstm: PlacedLSTM, parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The parts of every direction of every layer, blocks stacked, under PyTorch's names."""
    ends = ("", "_reverse")[: lstm.directions]
    suffixes = [f"_l{k}{end}" for k in range(lstm.num_layers) for end in ends]
    named: dict[str, np.ndarray] = {}
    for suffix, part in zip(suffixes, parts, strict=True):
        for holds, name in CANONICAL_NAMES.items():
            if holds in part:
                array = part[holds]
                if "g" in CANONICAL_AXES[holds]:
                    array = array.reshape(-1, *array.shape[2:])
                named[name + suffix] = np.ascontiguousarray(array)
    return named


def _canonical_parts(lstm: PlacedLSTM, layers: list[dict[str, int]]) -> list[dict[str, np.ndarray]]:
    """What each direction of each layer holds, in canonical axes and order of gates."""
    D = lstm.directions
    parts: list[dict[str, np.ndarray]] = [{} for _ in range(lstm.num_layers * D)]
    by_gate: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    for place in lstm.places:
        if place.name not in lstm.tensors:
            continue
        own = unpack(place.tensor, lstm.tensors[place.name], layers[place.layer])
        directions = enumerate(own) if place.direction is None else ((place.direction, own),)
        for d, array in directions:
            k, holds = place.layer * D + d, place.tensor.holds
            if place.gate is not None:
                blocks = by_gate.setdefault((k, holds), {})
                blocks[place.gate] = array
                order = lstm.gates if holds != "W_ch" else lstm.layout.peepholes
                if len(blocks) < len(order):
                    continue
                array = np.stack([blocks[gate] for gate in order])
            parts[k] |= _split(holds, array, lstm, layers[place.layer])
    return parts


def _split(
    holds: str, array: np.ndarray, lstm: PlacedLSTM, sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Canonical tensors of one of a row's, for one direction."""
    gates = lstm.gates
    canonical = GATES.replace("f", "") if lstm.coupled else GATES
    if holds == "W_ch":
        order = lstm.layout.peepholes
        if lstm.coupled:
            return {holds: array}
        return {holds: reordered(array, order, PEEPHOLES)}
    if holds == "b_pair":
        return {
            name: reordered(b, gates, canonical)
            for name, b in zip(("b_ih", "b_hh"), array, strict=True)
        }
    if "g" not in CANONICAL_AXES[holds]:
        return {holds: array}
    array = reordered(array, gates, canonical)
    if holds == "W_xh":
        return {"W_ih": array[..., : sizes["i"]], "W_hh": array[..., sizes["i"] :]}
    if holds == "W_hx":
        return {"W_hh": array[..., : sizes["r"]], "W_ih": array[..., sizes["r"] :]}
    return {holds: array}


def to_layout(model: CanonicalLSTM, layout: Layout) -> PlacedLSTM:
    """Lay an LSTM out as a framework has it; the inverse of `to_canonical`.

    Everything must have a place there: see `fit_to_layout`, which says what does not.
    """
    c = model.config
    D, H = c.directions, c.hidden_size
    lstm = PlacedLSTM(layout, {}, layout.prefixes(c.num_layers), D, model.facts)
    gates = layout.gates.replace("f", "") if c.coupled else layout.gates
    canonical = GATES.replace("f", "") if c.coupled else GATES

    def part(holds: str, k: int) -> np.ndarray | None:
        """One direction's tensor in the row's order of gates, canonical axes."""
        if holds in ("initial_h", "initial_c"):
            state = getattr(model, holds)
            return None if state is None else state[k]
        if holds in ("W_xh", "W_hx", "b_pair"):
            names = {"W_xh": ("W_ih", "W_hh"), "W_hx": ("W_hh", "W_ih"), "b_pair": ("b_ih", "b_hh")}
            pair = [part(name, k) for name in names[holds]]
            if any(each is None for each in pair):
                return None
            join = np.stack if holds == "b_pair" else lambda p: np.concatenate(p, axis=-1)
            return join([each for each in pair if each is not None])
        array = model.parameters.get(CANONICAL_NAMES[holds] + c.suffixes[k])
        if array is None or holds == "W_hr":
            return array
        if holds == "W_ch":
            return array if c.coupled else reordered(array, PEEPHOLES, layout.peepholes)
        blocks = array.reshape(len(gates), H, *array.shape[1:])
        return reordered(blocks, canonical, gates)

    tensors = {}
    for place in lstm.places:
        k, order = place.layer * D, gates
        if place.direction is None:
            each = [part(place.tensor.holds, k + d) for d in range(D)]
            array = None if each[0] is None else np.stack([a for a in each if a is not None])
        else:
            array = part(place.tensor.holds, k + place.direction)
        if array is None:
            continue
        if place.gate is not None:
            order = layout.peepholes if place.tensor.holds == "W_ch" else gates
            array = array[order.index(place.gate)]
        tensors[place.name] = pack(place.tensor, array)
    return replace(lstm, tensors=tensors)
