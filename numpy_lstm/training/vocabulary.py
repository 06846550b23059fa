"""The vocabulary: which token has which index."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.shapes import Int

UNK = "UNK"
"""The token that stands for every token outside the vocabulary."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens in the order of their indices; the last is UNK, which stands for all others.

    Raises:
        InputError: no token besides UNK, a token twice, or UNK not last.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) < 2:
            raise InputError(f"vocabulary: expected a token besides {UNK}, got none")
        if self.tokens[-1] != UNK or UNK in self.tokens[:-1]:
            raise InputError(
                f"vocabulary: expected {UNK!r} once and last, got it elsewhere;"
                " rename that token in the data"
            )
        twice = [token for token, count in Counter(self.tokens).items() if count > 1]
        if twice:
            raise InputError(f"vocabulary: expected distinct tokens, got {twice} more than once")

    @classmethod
    def from_sequences(cls, sequences: Iterable[Iterable[str]]) -> "Vocabulary":
        """All tokens of the sequences by falling frequency (ties in code-point order), then UNK."""
        counts = Counter(token for sequence in sequences for token in sequence)
        by_frequency = sorted(counts, key=lambda token: (-counts[token], token))
        return cls((*by_frequency, UNK))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> Int[np.ndarray, " M"]:
        """The index of each token, and that of UNK for tokens outside the vocabulary."""
        unknown = len(self.tokens) - 1
        return np.array([self._index.get(token, unknown) for token in tokens], np.int64)

    def decode(self, indices: Iterable[int] | np.ndarray) -> list[str]:
        """The token that belongs to each index."""
        return [self.tokens[index] for index in indices]

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """The distinct tokens that `encode` would turn into UNK, in order of appearance."""
        return list(dict.fromkeys(token for token in tokens if token not in self._index))
