"""How a framework lays an LSTM's weights out, as data; conversion both ways follows from it.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

Arrays = Mapping[str, np.ndarray]
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
"""The kinds of tensors, each with its axes in the canonical form. W_xh is W_ih and W_hh one after
the other along z, and W_hx is W_hh and W_ih."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a layer, as a framework has it.

    Args:
        holds: what it holds, a key of `CANONICAL_AXES`.
        name: its name, with {layer}, {direction} and {gate} for what is not among the axes.
        axes: its axes, as the module describes them.
        scrambled: whether it is cuDNN's memory under Keras' shape: each gate's block [u, i], read
            row by row, is written row by row into a block [i, u].
        gate_names: the words that {gate} stands for in this tensor's name, where they are others
            than those of the row.
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
        """The letters of all axes, in the tensor's order."""
        return "".join(self.groups)

    @cached_property
    def letters_in_canonical_order(self) -> str:
        """The same letters in the canonical order, with d first."""
        return "".join(a for a in "d" + CANONICAL_AXES[self.holds] if a in self.letters)


@dataclass(frozen=True)
class Layout:
    """A row of the table: how one framework lays an LSTM's weights out.

    Args:
        key: what the options and commands call it.
        title: framework and class.
        gates: the order of the gates' blocks, in the letters i, f, g, o.
        tensors: what a layer consists of. Biases and what follows them are optional, unless
            `bias_required`.
        gate_names: the words that {gate} stands for, by letter; the letter itself where it is not
            among them.
        directions: what {direction} stands for with one direction, forward, and backward. None if
            there is one direction only, or an axis d.
        stacked: what precedes the names of layer {layer} where a file has several; "" if the
            tensors' own names say the layer.
        single: what precedes the names where there is one layer.
        prefix: what must be somewhere in the prefix, where names alone would say too little.
        own_prefix: a regular expression of prefixes that only this framework gives; it decides
            between rows with the same names.
        peepholes: the order of the axis q, or of {gate} in the names of peepholes.
        forget_bias: "stored" if all of it is in the bias; "given" if a number is added at run time
            that the file does not say; or that number, if it is always the same.
        activations: "fixed" if they are always sigmoid and tanh; "given" if others are possible.
        bias_required: whether there is always a bias.
        coupled: whether f = 1 - i is possible, with three blocks of weights.
        state_order: the order in which the framework takes and returns the states.
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
    forget_bias: Literal["stored", "given"] | float = "stored"
    activations: Literal["fixed", "given"] = "fixed"
    bias_required: bool = False
    coupled: bool = False
    state_order: Literal["h, c", "c, h"] = "h, c"
    verified: str = ""
    checked: str = ""
    source: str = ""
    also: str = ""

    def holds(self, what: str) -> bool:
        """Whether one of the tensors is of this kind."""
        return any(tensor.holds == what for tensor in self.tensors)

    @property
    def bias_pair(self) -> bool:
        """Whether both of PyTorch's biases have a place."""
        return self.holds("b_hh") or self.holds("b_pair")

    @property
    def both_directions(self) -> bool:
        """Whether the second direction of a bidirectional LSTM has a place."""
        return self.directions is not None or any("d" in t.letters for t in self.tensors)

    @property
    def layers_in_names(self) -> bool:
        """Whether the tensors' own names say the layer."""
        return "{layer}" in self.tensors[0].name

    @property
    def several_layers(self) -> bool:
        """Whether more than one layer has a place."""
        return bool(self.stacked) or self.layers_in_names

    @property
    def fixed_forget_bias(self) -> float:
        """The number that this framework always adds to a_f at run time."""
        return self.forget_bias if isinstance(self.forget_bias, float) else 0.0

    def order_of(self, tensor: Tensor) -> str:
        """The gates that a tensor of this layout holds, in the order in which it has them."""
        return self.peepholes if tensor.holds == "W_ch" else self.gates

    def gate_name(self, gate: str, tensor: Tensor) -> str:
        """The word that {gate} stands for in a tensor's name."""
        return tensor.gate_names.get(gate, self.gate_names.get(gate, gate))

    def prefixes(self, num_layers: int) -> tuple[str, ...]:
        """For each layer, what precedes the tensors' names in a file that this package writes."""
        if self.layers_in_names:
            return (self.single,) * num_layers
        if num_layers == 1:
            return (self.single,)
        return tuple(self.stacked.format(layer=k) for k in range(num_layers))

    def tokens(self, directions: int) -> tuple[str, ...]:
        """What {direction} stands for, for each direction that has tensors of its own."""
        if self.directions is None:
            return ("",)
        if directions == 1:
            return self.directions[:1]
        return self.directions[1:]

    def name_patterns(self, directions: int) -> list[tuple[Tensor, re.Pattern[str]]]:
        """Each tensor with what its names look like, whose groups say prefix, layer and so on."""
        return self._name_patterns[directions]

    @cached_property
    def _name_patterns(self) -> dict[int, list[tuple[Tensor, re.Pattern[str]]]]:
        return {
            directions: [(tensor, self._pattern(tensor, directions)) for tensor in self.tensors]
            for directions in (1, 2)
        }

    def _pattern(self, tensor: Tensor, directions: int) -> re.Pattern[str]:
        """The names of a tensor, after any prefix that ends in a separator."""
        gates = [self.gate_name(gate, tensor) for gate in self.order_of(tensor)]
        groups = {
            "layer": r"(?P<layer>\d+)",
            "direction": f"(?P<direction>{_any_of(self.tokens(directions))})",
            "gate": f"(?P<gate>{_any_of(gates)})",
        }
        body = ""
        for k, part in enumerate(re.split(r"\{(\w+)\}", tensor.name)):
            is_field = k % 2 == 1
            body += groups[part] if is_field else re.escape(part)
        # Names with slashes are paths: "basic_lstm_cell" is no "lstm_cell" under "basic_".
        separators = "/" if "/" in tensor.name else "./_:-"
        return re.compile(rf"(?P<prefix>|.*[{separators}]){body}")


def _any_of(words: Sequence[str]) -> str:
    """A pattern of any of these words, the longest tried first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
