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
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

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
        own_prefix: a regular expression of what precedes them where only this framework does so;
            it decides between rows with the same names.
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
    own_prefix: str = ""
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

    def order_of(self, tensor: Tensor) -> str:
        """The gates that a tensor of this layout holds, in the order in which it has them."""
        return self.peepholes if tensor.holds == "W_ch" else self.gates

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
