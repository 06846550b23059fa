"""From a framework's arrangement of an LSTM's tensors to the canonical one, and back.

Both follow from a row of the table, which says what axes a tensor has (module `axes`) and in which
order the gates' blocks stand.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.axes import Sizes, pack, reordered, solve_sizes, unpack
from numpy_lstm.porting.layouts.canonical import INITIAL_STATES, CanonicalLSTM
from numpy_lstm.porting.layouts.layout import CANONICAL_AXES, GATES, PEEPHOLES, Layout
from numpy_lstm.porting.layouts.placed_lstm import Place, PlacedLSTM

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
"""By kind of tensor, the name of a canonical parameter without the layer's suffix."""
COMPOSED = {"W_xh": ("W_ih", "W_hh"), "W_hx": ("W_hh", "W_ih"), "b_pair": ("b_ih", "b_hh")}
"""Kinds of tensors that hold two canonical ones."""


def sizes_of(lstm: PlacedLSTM, layer: int, *, partial: bool = False) -> dict[str, int]:
    """Sizes of all letters, from the shapes of a layer's tensors.

    Args:
        lstm: the LSTM.
        layer: the layer's number.
        partial: whether some tensors may be missing, and sizes with them.

    Raises:
        InputError: shapes contradict one another; it names all of them.
    """
    sizes = {"g": len(lstm.gates), "d": lstm.directions, "s": 2, "q": len(lstm.peepholes)}
    # The recurrent matrix first: it tells H, which the others need.
    ranks = {"W_hr": -1, "W_hh": 0, "W_xh": 1, "W_hx": 1}
    places = [p for p in lstm.places_by_layer[layer] if p.name in lstm.tensors]
    wrong = []
    for place in sorted(places, key=lambda p: ranks.get(p.tensor.holds, 2)):
        if place.tensor.holds in ("W_xh", "W_hx") and "u" in sizes:
            sizes.setdefault("r", sizes["u"])
        shape = lstm.tensors[place.name].shape
        problem = solve_sizes(place.tensor.groups, shape, sizes)
        if problem:
            wrong.append(f"{place.name}: {problem} of [{place.tensor.axes}], got {list(shape)}")
    if "u" in sizes:
        sizes.setdefault("r", sizes["u"])
    if "z" in sizes and "r" in sizes:
        sizes.setdefault("i", sizes["z"] - sizes["r"])
    if wrong:
        raise InputError("; ".join(wrong))
    if not partial and sizes.get("i", 0) < 1:
        raise InputError(f"sizes: expected I of at least 1, got {sizes}")
    return sizes


# --- to the canonical form ---------------------------------------------------------------------


def to_canonical(lstm: PlacedLSTM) -> CanonicalLSTM:
    """Read an LSTM in a framework's layout.

    Raises:
        InputError: tensors are missing, or their shapes contradict one another.
    """
    layers = [sizes_of(lstm, layer) for layer in range(lstm.num_layers)]
    parts = _canonical_parts(lstm, layers)
    parameters = _named(lstm, parts)
    has_projection = lstm.layout.holds("W_hr") and "weight_hr_l0" in parameters
    config = LSTM(
        layers[0]["i"],
        layers[0]["u"],
        lstm.num_layers,
        bias=any(name.startswith("bias") for name in parameters),
        bidirectional=lstm.directions == 2,
        proj_size=layers[0]["r"] if has_projection else 0,
        bias_pair="bias_ih_l0" in parameters,
        variant=VARIANTS["weight_ch_l0" in parameters, lstm.coupled],
    )
    states = {}
    if all("initial_h" in part for part in parts):
        states = {name: np.stack([part[name] for part in parts]) for name in INITIAL_STATES}
    facts = lstm.facts
    if isinstance(lstm.layout.forget_bias, float):
        facts = replace(facts, forget_bias=lstm.layout.forget_bias)
    return CanonicalLSTM(config, parameters, facts, **states)


def canonical_parameters(lstm: PlacedLSTM) -> dict[str, np.ndarray]:
    """What there is of an LSTM (or of its gradients) under the names of `LSTM.parameter_shapes`.

    Raises:
        InputError: shapes contradict one another.
    """
    layers = [sizes_of(lstm, layer, partial=True) for layer in range(lstm.num_layers)]
    return _named(lstm, _canonical_parts(lstm, layers))


def _named(lstm: PlacedLSTM, parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The parts of every direction of every layer, blocks stacked, under PyTorch's names."""
    named: dict[str, np.ndarray] = {}
    for k, part in enumerate(parts):
        layer, direction = divmod(k, lstm.directions)
        suffix = f"_l{layer}_reverse" if direction else f"_l{layer}"
        for holds, name in CANONICAL_NAMES.items():
            if holds in part:
                array = part[holds]
                if "g" in CANONICAL_AXES[holds]:
                    array = array.reshape(-1, *array.shape[2:])
                named[name + suffix] = np.ascontiguousarray(array)
    return named


def _canonical_parts(lstm: PlacedLSTM, layers: list[dict[str, int]]) -> list[dict[str, np.ndarray]]:
    """What each direction of each layer holds, in canonical axes and order of gates."""
    parts: list[dict[str, np.ndarray]] = [{} for _ in range(lstm.num_layers * lstm.directions)]
    blocks: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    for place in lstm.present:
        sizes = layers[place.layer]
        holds = place.tensor.holds
        array = unpack(place.tensor, lstm.tensors[place.name], sizes)
        for direction, one in _by_direction(place, array):
            k = place.layer * lstm.directions + direction
            if place.gate is not None:
                # A gate's own tensor: it waits until those of the other gates are there.
                gates = blocks.setdefault((k, holds), {})
                gates[place.gate] = one
                order = lstm.layout.peepholes if holds == "W_ch" else lstm.gates
                if len(gates) < len(order):
                    continue
                one = np.stack([gates[gate] for gate in order])
            parts[k] |= _canonical_tensors(lstm, holds, one, sizes)
    return parts


def _by_direction(place: Place, array: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """A tensor's directions: the one it is of, or those along its first axis."""
    if place.direction is None:
        return list(enumerate(array))
    return [(place.direction, array)]


def _canonical_tensors(
    lstm: PlacedLSTM, holds: str, array: np.ndarray, sizes: Sizes
) -> dict[str, np.ndarray]:
    """The canonical tensors that are in one tensor of a row, for one direction."""
    gates = _canonical_gates(lstm.coupled)
    if holds == "W_ch":
        if lstm.coupled:
            return {holds: array}
        return {holds: reordered(array, lstm.layout.peepholes, PEEPHOLES)}
    if holds == "b_pair":
        pair = zip(COMPOSED[holds], array, strict=True)
        return {name: reordered(bias, lstm.gates, gates) for name, bias in pair}
    if "g" not in CANONICAL_AXES[holds]:
        return {holds: array}
    array = reordered(array, lstm.gates, gates)
    if holds == "W_xh":
        return {"W_ih": array[..., : sizes["i"]], "W_hh": array[..., sizes["i"] :]}
    if holds == "W_hx":
        return {"W_hh": array[..., : sizes["r"]], "W_ih": array[..., sizes["r"] :]}
    return {holds: array}


def _canonical_gates(coupled: bool) -> str:
    return GATES.replace("f", "") if coupled else GATES


# --- from the canonical form -------------------------------------------------------------------


def to_layout(model: CanonicalLSTM, layout: Layout) -> PlacedLSTM:
    """Lay an LSTM out as a framework has it; the inverse of `to_canonical`.

    Everything must have a place there: see `fit_to_layout`, which says what does not.
    """
    config = model.config
    prefixes = layout.prefixes(config.num_layers)
    empty = PlacedLSTM(layout, {}, prefixes, config.directions, model.facts)
    tensors = {}
    for place in empty.places:
        array = _at(place, model, layout)
        if array is not None:
            tensors[place.name] = pack(place.tensor, array)
    return replace(empty, tensors=tensors)


def _at(place: Place, model: CanonicalLSTM, layout: Layout) -> np.ndarray | None:
    """What belongs at a place, in canonical axes and the layout's order of gates."""
    holds = place.tensor.holds
    first = place.layer * model.config.directions
    if place.direction is None:
        directions = range(first, first + model.config.directions)
        parts = [_part(model, layout, holds, k) for k in directions]
        return _joined(parts, np.stack)
    array = _part(model, layout, holds, first + place.direction)
    if array is None or place.gate is None:
        return array
    order = layout.peepholes if holds == "W_ch" else _gates_in(layout, model)
    return array[order.index(place.gate)]


def _part(model: CanonicalLSTM, layout: Layout, holds: str, k: int) -> np.ndarray | None:
    """One direction's tensor in canonical axes, gates in the layout's order; None if absent."""
    if holds in INITIAL_STATES:
        states = getattr(model, holds)
        return None if states is None else states[k]
    if holds in COMPOSED:
        parts = [_part(model, layout, name, k) for name in COMPOSED[holds]]
        if holds == "b_pair":
            return _joined(parts, np.stack)
        return _joined(parts, _side_by_side)
    array = model.parameters.get(CANONICAL_NAMES[holds] + model.config.suffixes[k])
    if array is None or holds == "W_hr":
        return array
    coupled = model.config.coupled
    if holds == "W_ch":
        return array if coupled else reordered(array, PEEPHOLES, layout.peepholes)
    gates = _gates_in(layout, model)
    blocks = array.reshape(len(gates), model.config.hidden_size, *array.shape[1:])
    return reordered(blocks, _canonical_gates(coupled), gates)


def _gates_in(layout: Layout, model: CanonicalLSTM) -> str:
    return layout.gates.replace("f", "") if model.config.coupled else layout.gates


def _side_by_side(matrices: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(matrices, axis=-1)


def _joined(
    parts: list[np.ndarray | None], join: Callable[[list[np.ndarray]], np.ndarray]
) -> np.ndarray | None:
    """All parts in one array; None if any of them is absent."""
    arrays = [part for part in parts if part is not None]
    return join(arrays) if len(arrays) == len(parts) else None
