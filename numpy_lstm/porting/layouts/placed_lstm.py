"""An LSTM as a file holds it: tensors under a framework's names, in that framework's layout."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.layout import Arrays, Layout, Tensor


@dataclass(frozen=True)
class Place:
    """Where a file has one tensor of an LSTM.

    Args:
        tensor: what the layout says of it.
        name: its full name in the file.
        layer: the layer that it belongs to.
        direction: 0 for forward, 1 for backward; None if it holds both.
        gate: the only gate that it holds; None if it holds all of them, or none.
    """

    tensor: Tensor
    name: str
    layer: int
    direction: int | None
    gate: str | None


@dataclass(frozen=True)
class PlacedLSTM:
    """An LSTM's tensors as a file places them, with the facts that tensors cannot hold.

    Args:
        layout: the framework's row of the table.
        tensors: the tensors by their names in the file.
        prefixes: for each layer, what stands before the layout's names.
        directions: 1, or 2 if the LSTM is bidirectional.
        facts: the forget bias that is added at run time, and the activations.
    """

    layout: Layout
    tensors: Arrays
    prefixes: tuple[str, ...]
    directions: int = 1
    facts: RuntimeFacts = field(default_factory=RuntimeFacts)

    @property
    def num_layers(self) -> int:
        """The number of layers, each of which has a prefix."""
        return len(self.prefixes)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where each tensor of such an LSTM would be, whether or not the file has it."""
        return tuple(self._all_places())

    @cached_property
    def places_by_layer(self) -> list[list[Place]]:
        """The same places, a list for each layer."""
        result: list[list[Place]] = [[] for _ in self.prefixes]
        for place in self.places:
            result[place.layer].append(place)
        return result

    @property
    def present(self) -> list[Place]:
        """The places whose tensors the file has."""
        return [place for place in self.places if place.name in self.tensors]

    @cached_property
    def coupled(self) -> bool:
        """Whether f = 1 - i, which the three blocks (not four) of W_hh show."""
        if not self.layout.coupled:
            return False
        W_hh = self._first_shape("W_hh")
        W_hr = self._first_shape("W_hr")
        if len(W_hh) != 2 or len(W_hr) not in (0, 2):
            return False
        hidden_size = W_hr[1] if W_hr else W_hh[1]
        return W_hh[0] == 3 * hidden_size

    @property
    def gates(self) -> str:
        """The gates' letters in the order in which the tensors stack their blocks."""
        if self.coupled:
            return self.layout.gates.replace("f", "")
        return self.layout.gates

    @property
    def peepholes(self) -> str:
        """The letters of the gates with peepholes, in the order in which they are stacked."""
        if self.coupled:
            return self.layout.peepholes.replace("f", "")
        return self.layout.peepholes

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the first tensor, and of all if nothing is wrong with them."""
        return next(iter(self.tensors.values())).dtype

    def _first_shape(self, holds: str) -> tuple[int, ...]:
        """The shape of the first tensor of this kind; empty if the layout or file has none."""
        for place in self.places:
            if place.tensor.holds == holds:
                array = self.tensors.get(place.name)
                return () if array is None else array.shape
        return ()

    def _all_places(self) -> Iterator[Place]:
        for layer, prefix in enumerate(self.prefixes):
            for tensor in self.layout.tensors:
                if "d" in tensor.letters:
                    yield from self._places_of(tensor, layer, prefix, None, "")
                    continue
                for direction, token in enumerate(self.layout.tokens(self.directions)):
                    yield from self._places_of(tensor, layer, prefix, direction, token)

    def _places_of(
        self, tensor: Tensor, layer: int, prefix: str, direction: int | None, token: str
    ) -> Iterator[Place]:
        """One tensor of one layer and direction: a single place, or one for each gate."""
        if "{gate}" not in tensor.name:
            name = tensor.name.format(layer=layer, direction=token)
            yield Place(tensor, prefix + name, layer, direction, None)
            return
        for gate in self.layout.order_of(tensor):
            word = self.layout.gate_name(gate, tensor)
            name = tensor.name.format(layer=layer, direction=token, gate=word)
            yield Place(tensor, prefix + name, layer, direction, gate)
