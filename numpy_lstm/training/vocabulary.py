"""Tokens <-> indices."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.errors import check

UNK = "UNK"
"""The token that stands for every token outside the vocabulary."""


@dataclass(frozen=True)
class Vocabulary:
    """Known tokens in index order; the last is UNK.

    Raises:
        InputError: no token besides UNK, a token twice, or UNK not last.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        check(len(self.tokens) >= 2, f"vocabulary: expected a token besides {UNK}, got none")
        check(
            self.tokens[-1] == UNK and UNK not in self.tokens[:-1],
            f"vocabulary: expected {UNK!r} once and last, got it elsewhere;"
            " rename that token in the data",
        )
        twice = [token for token, count in Counter(self.tokens).items() if count > 1]
        check(not twice, f"vocabulary: expected distinct tokens, got {twice} more than once")

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
        """Index of each token; that of UNK for unknown ones."""
        unknown = len(self.tokens) - 1
        return np.array([self._index.get(token, unknown) for token in tokens], np.int64)

    def decode(self, indices: Iterable[int] | np.ndarray) -> list[str]:
        """Token of each index."""
        return [self.tokens[index] for index in indices]

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """The distinct tokens that `encode` would turn into UNK, in order of appearance."""
        return list(dict.fromkeys(token for token in tokens if token not in self._index))


def one_hot(
    indices: Int[np.ndarray, "*batch"] | Sequence[int], vocab_size: int, dtype: type = np.float64
) -> Shaped[np.ndarray, "*batch V"]:
    """Indicator vectors along a new last axis. The model itself never builds them."""
    return np.eye(vocab_size, dtype=dtype)[np.asarray(indices)]
