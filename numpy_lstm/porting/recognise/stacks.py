"""Which cells of a file are the layers of one LSTM, and in which order."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.arrangement import sizes_of
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.recognise.readings import RECURRENT, with_leading_directions


@dataclass(frozen=True)
class StackFinder:
    """Finds the LSTMs of one layout and as many directions, by their recurrent matrices.

    Args:
        row: the layout.
        directions: 1, or 2 where the names of the tensors say the direction.
        tensors: the floating tensors of the file that no other LSTM has.
        archive: the file.
    """

    row: Layout
    directions: int
    tensors: Mapping[str, np.ndarray]
    archive: Archive

    def stacks(self) -> Iterator[tuple[str, ...]]:
        """The prefixes of each LSTM, layer by layer.

        Layers follow each other as the container says or, if it does not, as their names count up;
        and only where their sizes fit and their activations are the same.
        """
        cells = self._cells()
        if self.row.layers_in_names:
            for prefix, layers in cells.items():
                # A number beyond that of the tensors is no layer's.
                layers = {k for k in layers if k < len(self.tensors)}
                if layers:
                    yield (prefix,) * (1 + max(layers))
            return
        prefixes = sorted((prefix for prefix, layers in cells.items() if layers), key=_numbered)
        above = self._pairs(prefixes)
        fed = set(above.values())
        for prefix in prefixes:
            if prefix not in fed:
                stack = [prefix]
                while stack[-1] in above:
                    stack.append(above.pop(stack[-1]))
                yield tuple(stack)

    def _cells(self) -> dict[str, set[int]]:
        """Prefixes under which all directions of a recurrent matrix lie, with the layers' numbers.

        A layer whose name says no number is layer 0.
        """
        seen: dict[str, dict[int, set[str]]] = {}
        for tensor, pattern in self.row.name_patterns(self.directions):
            if tensor.holds not in RECURRENT:
                continue
            literals = [part for part in re.split(r"\{\w+\}", tensor.name) if part]
            for name in self.tensors:
                if not all(literal in name for literal in literals):
                    continue  # much faster than the pattern, in a file of thousands of tensors
                match = pattern.fullmatch(name)
                if match and self.row.prefix in match["prefix"]:
                    words = match.groupdict()
                    layers = seen.setdefault(words["prefix"], {})
                    directions = layers.setdefault(int(words.get("layer") or 0), set())
                    directions.add(words.get("direction") or "")
        if self.directions == 1:
            return {prefix: set(layers) for prefix, layers in seen.items()}
        both = set(self.row.tokens(self.directions))
        return {
            prefix: {k for k, directions in layers.items() if directions == both}
            for prefix, layers in seen.items()
        }

    def _pairs(self, prefixes: list[str]) -> dict[str, str]:
        """By the prefix of a layer: the prefix of the layer that reads its outputs."""
        candidates = self.archive.chains
        if candidates is None:
            candidates = {pair for pair in pairwise(prefixes) if _counts_up(*pair)}
        facts = self.archive.facts
        return {
            below: above
            for below, above in sorted(candidates)
            if below in prefixes
            and above in prefixes
            and facts.get(below) == facts.get(above)
            and self._feeds(below, above)
        }

    def _feeds(self, below: str, above: str) -> bool:
        """Whether one layer's outputs fit the other's inputs, and both have as many units."""
        try:
            features, units, _ = self._sizes(below)
            _, units_above, inputs_above = self._sizes(above)
        except InputError:
            return False
        return inputs_above == features and units_above == units

    def _sizes(self, prefix: str) -> tuple[int, int, int]:
        """The number of features that a layer puts out, of its units, and of its inputs."""
        lstm = PlacedLSTM(self.row, self.tensors, (prefix,), self.directions)
        lstm = with_leading_directions(lstm)
        sizes = sizes_of(lstm, 0)
        return sizes["r"] * lstm.directions, sizes["u"], sizes["i"]


def _numbered(prefix: str) -> tuple[str, int, str]:
    """The prefix without its last number, and that number: lstm_1/ gives lstm/ and 1."""
    match = re.fullmatch(r"(.*?)_?(\d+)(\D*)", prefix)
    if match is None:
        return prefix, 0, prefix
    before, number, after = match.groups()
    return before + after, int(number), prefix


def _counts_up(below: str, above: str) -> bool:
    """Whether two prefixes differ in their last number alone, and the second has the next one."""
    name, number, _ = _numbered(below)
    return _numbered(above)[:2] == (name, number + 1)
