"""How weights lie in a file, as data; conversion both ways follows from a row.

A row (`Layout`) says what each tensor of a file holds and along which axes. Axes are letters:

    d  direction                       i  features of the layer's input
    g  gate, in the row's own order    r  features of the recurrent input (H, or P if projected)
    u  unit                            z  i and r, one after the other
    s  which of PyTorch's two biases   q  gate with a peephole, in the row's own order

"i (g u)" is Keras' kernel: a matrix [I, 4H] whose columns are the four gates' blocks, one after the
other; "(u g) i" are Chainer's interleaved rows. An axis that the expression lacks is in the name:
"W_{gate}" with axes "u z" is one matrix a gate.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.canonical import CanonicalLSTM, Facts

GATES = "ifgo"
PEEPHOLES = "ifo"
CANONICAL_AXES = {
    "W_ih": "gui",
    "W_hh": "gur",
    "W_xh": "guz",
    "W_hx": "guz",
    "b": "gu",
    "b_ih": "gu",
    "b_hh": "gu",
    "b_pair": "sgu",
    "W_hr": "ru",
    "W_ch": "qu",
    "initial_h": "r",
    "initial_c": "u",
}
"""What a tensor can hold, and its axes in the canonical form: W_xh is W_ih and W_hh along z, W_hx
the other way round."""
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a layer, as a row has it.

    Args:
        holds: a key of `CANONICAL_AXES`.
        name: with {layer}, {direction} and {gate} for what is not among the axes.
        axes: see the module.
        scrambled: cuDNN's memory under Keras' shape: each gate's block [u, i], read row by row, is
            written row by row into a block [i, u].
        gate_names: what {gate} stands for in this tensor's name, where it is not as the row says.
    """

    holds: str
    name: str
    axes: str
    scrambled: bool = False
    gate_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scrambled and not (len(self.groups) == 2 and self.groups[1] == "gu"):
            raise ValueError(f"scrambled: expected axes such as 'i (g u)', got {self.axes!r}")

    @cached_property
    def groups(self) -> list[str]:
        """The letters of each axis of the tensor: "i (g u)" gives ["i", "gu"], "u 1" ["u", ""]."""
        return [re.sub(r"\W|1", "", axis) for axis in re.findall(r"\([^)]*\)|\w", self.axes)]

    @cached_property
    def letters(self) -> str:
        """All letters, in order."""
        return "".join(self.groups)

    @cached_property
    def own_axes(self) -> str:
        """The letters in the canonical order, d first."""
        return "".join(a for a in "d" + CANONICAL_AXES[self.holds] if a in self.letters)


@dataclass(frozen=True)
class Layout:
    """A row of the table: how one framework lays an LSTM's weights out.

    Args:
        key: what the command line calls it.
        title: framework and class.
        gates: the blocks' order, of the letters i, f, g, o.
        tensors: what a layer consists of. Biases and what follows them are optional, unless
            `bias_required`.
        gate_names: what {gate} stands for, by letter.
        directions: what {direction} stands for: with one direction, forward, backward. None: one
            direction only, or the axis d.
        stacked: what precedes the names of layer {layer} where a file has several; "" if the
            tensors' own names say it.
        single: what precedes them where there is one.
        prefix: what must be somewhere in the prefix, where names alone would say too little.
        peepholes: order of the axis q, or of {gate} in the names of peepholes.
        forget_bias: "stored": all there is is in the bias; "told": a number is added at run time
            that the file does not say; or that number, if it is always the same.
        activations: "fixed": sigmoid and tanh; "told": others are possible, and said elsewhere.
        bias_required: whether there is always a bias.
        state_order: in which order the framework takes and returns the states.
        verified: the package whose own LSTM runs the weights in the tests; "" if none can on the
            Python that runs them.
        checked: where no test can, what a person has run, and by which command.
        source: where the layout is documented.
        also: other frameworks with the same names and layout.
    """

    key: str
    title: str
    gates: str
    tensors: tuple[Tensor, ...]
    gate_names: Mapping[str, str] = field(default_factory=dict)
    directions: tuple[str, str, str] | None = None
    stacked: str = ""
    single: str = ""
    prefix: str = ""
    peepholes: str = PEEPHOLES
    forget_bias: Literal["stored", "told"] | float = "stored"
    activations: Literal["fixed", "told"] = "fixed"
    bias_required: bool = False
    coupled: bool = False
    state_order: Literal["h, c", "c, h"] = "h, c"
    verified: str = ""
    checked: str = ""
    source: str = ""
    also: str = ""

    def holds(self, what: str) -> bool:
        """Whether one of the tensors holds this."""
        return any(tensor.holds == what for tensor in self.tensors)

    @property
    def bias_pair(self) -> bool:
        """Whether both of PyTorch's biases are kept."""
        return self.holds("b_hh") or self.holds("b_pair")

    @property
    def both_directions(self) -> bool:
        """Whether the second direction of a bidirectional LSTM has a place."""
        return self.directions is not None or any("d" in t.letters for t in self.tensors)

    @property
    def layers_in_names(self) -> bool:
        """Whether the tensors' own names say the layer."""
        return "{layer}" in self.tensors[0].name

    def gate_name(self, gate: str, tensor: Tensor) -> str:
        """What {gate} stands for in a tensor's name."""
        return tensor.gate_names.get(gate, self.gate_names.get(gate, gate))

    def prefixes(self, num_layers: int) -> tuple[str, ...]:
        """What precedes the tensors' names in a file of our own, layer by layer."""
        if self.layers_in_names:
            return (self.single,) * num_layers
        if num_layers == 1:
            return (self.single,)
        return tuple(self.stacked.format(layer=k) for k in range(num_layers))

    def tokens(self, directions: int) -> tuple[str, ...]:
        """What {direction} stands for, for each direction that has tensors of its own."""
        if self.directions is None or directions == 1:
            return ("" if self.directions is None else self.directions[0],)
        return self.directions[1:]


@dataclass(frozen=True)
class NativeLSTM:
    """An LSTM as a framework has it: named tensors, and what they leave unsaid.

    Args:
        layout: the row.
        tensors: under their names in the file.
        prefixes: what precedes the row's names, layer by layer.
        directions: 1 or 2.
        facts: forget bias and activations.
    """

    layout: Layout
    tensors: Arrays
    prefixes: tuple[str, ...]
    directions: int = 1
    facts: Facts = field(default_factory=Facts)

    @property
    def num_layers(self) -> int:
        """Layers."""
        return len(self.prefixes)

    @cached_property
    def places(self) -> "tuple[Place, ...]":
        """Every tensor that an LSTM of this layout may consist of, there or not."""
        return tuple(_places(self))

    @property
    def coupled(self) -> bool:
        """Whether f = 1 - i, so that there are three blocks: rows of W_hh tell."""
        if not self.layout.coupled:
            return False
        first = {p.tensor.holds: p.name for p in reversed(self.places)}
        shape, projection = (
            self.tensors[first[holds]].shape if first[holds] in self.tensors else ()
            for holds in ("W_hh", "W_hr")
        )
        if len(shape) != 2 or len(projection) not in (0, 2):
            return False
        return shape[0] == 3 * (projection[1] if projection else shape[1])

    @property
    def gates(self) -> str:
        """The order of the blocks."""
        return self.layout.gates.replace("f", "") if self.coupled else self.layout.gates

    @property
    def dtype(self) -> np.dtype:
        """Of the tensors."""
        return next(iter(self.tensors.values())).dtype


@dataclass(frozen=True)
class Place:
    """Where in a file one tensor is: of which layer, directions and gate (if it has only one)."""

    tensor: Tensor
    name: str
    layer: int
    direction: int | None
    gate: str | None


def places(native: NativeLSTM) -> tuple[Place, ...]:
    """Every tensor that an LSTM of this layout may consist of, there or not."""
    return native.places


def _places(native: NativeLSTM) -> Iterator[Place]:
    layout = native.layout
    tokens = layout.tokens(native.directions)
    for layer, prefix in enumerate(native.prefixes):
        for tensor in layout.tensors:
            per_gate = "{gate}" in tensor.name
            order = layout.peepholes if tensor.holds == "W_ch" else layout.gates
            own = tokens if "d" not in tensor.letters else ("",)
            for (d, token), gate in product(enumerate(own), order if per_gate else (None,)):
                name = tensor.name.format(
                    layer=layer,
                    direction=token,
                    gate=layout.gate_name(gate, tensor) if gate else "",
                )
                direction = None if "d" in tensor.letters else d
                yield Place(tensor, prefix + name, layer, direction, gate)


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


def sizes_of(native: NativeLSTM, layer: int, *, partial: bool = False) -> dict[str, int]:
    """Sizes of all letters, from the shapes of a layer's tensors.

    Args:
        native: the LSTM.
        layer: its number.
        partial: whether some tensors may be missing, and sizes with them.

    Raises:
        InputError: shapes that contradict one another; all of them.
    """
    sizes = {"g": len(native.gates), "d": native.directions, "s": 2}
    sizes["q"] = 2 if native.coupled else 3
    own = [p for p in places(native) if p.layer == layer and p.name in native.tensors]
    # The recurrent matrix first: it tells H, which the others need.
    first = {"W_hh": 0, "W_hr": -1, "W_xh": 1, "W_hx": 1}
    wrong = []
    for place in sorted(own, key=lambda p: first.get(p.tensor.holds, 2)):
        if place.tensor.holds in ("W_xh", "W_hx") and "u" in sizes:
            sizes.setdefault("r", sizes["u"])
        problem = solve(place.tensor.groups, native.tensors[place.name].shape, sizes)
        if problem:
            shape = list(native.tensors[place.name].shape)
            wrong.append(f"{place.name}: {problem} of [{place.tensor.axes}], got {shape}")
    if "u" in sizes:
        sizes.setdefault("r", sizes["u"])
    if "z" in sizes and "r" in sizes:
        sizes.setdefault("i", sizes["z"] - sizes["r"])
    if wrong or (not partial and sizes.get("i", 0) < 1):
        raise InputError("; ".join(wrong) or f"sizes: expected I of at least 1, got {sizes}")
    return sizes


def to_canonical(native: NativeLSTM) -> CanonicalLSTM:
    """Read an LSTM in a framework's layout.

    Raises:
        InputError: tensors missing, or of shapes that contradict one another.
    """
    layout, D = native.layout, native.directions
    layers = [sizes_of(native, layer) for layer in range(native.num_layers)]
    parts = _canonical_parts(native, layers)
    parameters = _named(native, parts)
    u, r = layers[0]["u"], layers[0]["r"]
    config = LSTM(
        layers[0]["i"],
        u,
        native.num_layers,
        bias=any(name.startswith("bias") for name in parameters),
        bidirectional=D == 2,
        proj_size=r if layout.holds("W_hr") and "weight_hr_l0" in parameters else 0,
        bias_pair="bias_ih_l0" in parameters,
        peephole="weight_ch_l0" in parameters,
        coupled=native.coupled,
    )
    states = {}
    if all("initial_h" in part for part in parts):
        states = {n: np.stack([part[n] for part in parts]) for n in ("initial_h", "initial_c")}
    facts = native.facts
    if isinstance(layout.forget_bias, float):
        facts = replace(facts, forget_bias=layout.forget_bias)
    return CanonicalLSTM(config, parameters, facts, **states)


def canonical_parameters(native: NativeLSTM) -> dict[str, np.ndarray]:
    """What there is of an LSTM (or of its gradients) under the names of `LSTM.parameter_shapes`.

    Raises:
        InputError: shapes that contradict one another.
    """
    layers = [sizes_of(native, layer, partial=True) for layer in range(native.num_layers)]
    return _named(native, _canonical_parts(native, layers))


def _named(native: NativeLSTM, parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The parts of every direction of every layer, blocks stacked, under PyTorch's names."""
    ends = ("", "_reverse")[: native.directions]
    suffixes = [f"_l{k}{end}" for k in range(native.num_layers) for end in ends]
    named: dict[str, np.ndarray] = {}
    for suffix, part in zip(suffixes, parts, strict=True):
        for holds, name in CANONICAL_NAMES.items():
            if holds in part:
                array = part[holds]
                if "g" in CANONICAL_AXES[holds]:
                    array = array.reshape(-1, *array.shape[2:])
                named[name + suffix] = np.ascontiguousarray(array)
    return named


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


def _canonical_parts(
    native: NativeLSTM, layers: list[dict[str, int]]
) -> list[dict[str, np.ndarray]]:
    """What each direction of each layer holds, in canonical axes and order of gates."""
    D = native.directions
    parts: list[dict[str, np.ndarray]] = [{} for _ in range(native.num_layers * D)]
    by_gate: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    for place in places(native):
        if place.name not in native.tensors:
            continue
        own = unpack(place.tensor, native.tensors[place.name], layers[place.layer])
        directions = enumerate(own) if place.direction is None else ((place.direction, own),)
        for d, array in directions:
            k, holds = place.layer * D + d, place.tensor.holds
            if place.gate is not None:
                blocks = by_gate.setdefault((k, holds), {})
                blocks[place.gate] = array
                order = native.gates if holds != "W_ch" else native.layout.peepholes
                if len(blocks) < len(order):
                    continue
                array = np.stack([blocks[gate] for gate in order])
            parts[k] |= _split(holds, array, native, layers[place.layer])
    return parts


def _split(
    holds: str, array: np.ndarray, native: NativeLSTM, sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Canonical tensors of one of a row's, for one direction."""
    gates = native.gates
    canonical = GATES.replace("f", "") if native.coupled else GATES
    if holds == "W_ch":
        order = native.layout.peepholes
        if native.coupled:
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


def to_native(model: CanonicalLSTM, layout: Layout) -> NativeLSTM:
    """Lay an LSTM out as a framework has it; the inverse of `to_canonical`.

    Everything must have a place there: see `numpy_lstm.porting.losses.fitted`, which says what does
    not, and does what can be done about it.
    """
    c = model.config
    D, H = c.directions, c.hidden_size
    native = NativeLSTM(layout, {}, layout.prefixes(c.num_layers), D, model.facts)
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
    for place in places(native):
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
    return replace(native, tensors=tensors)
