"""The counting language a^n b^n EOS with n uniform on n_min .. n_max.

Once the first b has come, everything is determined; before, the next token is a or b. A model
that knows the distribution therefore pays exactly ln(n_max - n_min + 1) nats for a sequence,
spread over its 2n targets. That is the floor of any set of sequences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from numpy_lstm.errors import InputError, check_memory, check_not_negative, check_positive
from numpy_lstm.language_model import LanguageModel, predict
from numpy_lstm.lstm import Parameters
from numpy_lstm.training.batching import Batch, Tokens, batches, pad
from numpy_lstm.training.vocabulary import Vocabulary

EOS = "EOS"


def counting_sequence(n: int | np.integer) -> list[str]:
    """The 2n + 1 tokens of a^n b^n EOS."""
    return ["a"] * n + ["b"] * n + [EOS]


@dataclass(frozen=True)
class CountingTask:
    """A seeded sample of the language, split 80 / 10 / 10 into train, validation and test.

    Every drawn sequence belongs to exactly one split. (Equal sequences are drawn many times
    over: there are only n_max - n_min + 1 different ones.)

    Args:
        num_sequences: sequences drawn for all three splits.
        n_min: smallest n.
        n_max: largest n.
        batch_size: sequences in a training batch.
        seed: decides the sample and the order of every epoch.

    Raises:
        InputError: a range that is empty or reversed, or too few sequences for three splits.
    """

    num_sequences: int = 1000
    n_min: int = 1
    n_max: int = 11
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(n_min=self.n_min, n_max=self.n_max, batch_size=self.batch_size)
        if self.n_min > self.n_max:
            raise InputError(
                f"n range: expected n_min <= n_max, got {self.n_min} to {self.n_max}; swap them"
            )
        check_not_negative(seed=self.seed)
        longest = 2 * self.n_max + 1  # every split is padded to about this
        needed = 8 * self.num_sequences * longest
        check_memory("num_sequences", "sequences of this number and length", needed)
        if self.num_sequences < 10:
            raise InputError(
                "expected at least 10, so that no split of 80/10/10 is empty,"
                f" got {self.num_sequences}",
                argument="num_sequences",
            )

    @cached_property
    def lengths(self) -> np.ndarray:
        """The n of every drawn sequence, in the order of drawing."""
        rng = np.random.default_rng([self.seed, 0])
        return rng.integers(self.n_min, self.n_max + 1, self.num_sequences)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the training split by falling frequency, and UNK."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.from_sequences(counting_sequence(n) for n in self.split("train"))

    def split(self, name: str) -> np.ndarray:
        """The n of each sequence of the split "train", "validation" or "test"."""
        first, second = self.num_sequences * 8 // 10, self.num_sequences * 9 // 10
        bounds = {"train": (0, first), "validation": (first, second), "test": (second, None)}
        return self.lengths[slice(*bounds[name])]

    def encoded(self, ns: Sequence[int] | np.ndarray) -> list[Tokens]:
        """The indices of the tokens a^n b^n EOS, for each n."""
        return [self.vocabulary.encode(counting_sequence(n)) for n in ns]

    def training_batches(self, epoch: int) -> list[Batch]:
        """The training split in this epoch's random order, as padded batches."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        return batches(self.encoded(self.split("train")), self.batch_size, rng=rng)

    def validation_batches(self) -> list[Batch]:
        """The validation split as one batch."""
        return [pad(self.encoded(self.split("validation")))]

    def test_batches(self) -> list[Batch]:
        """The test split as one batch."""
        return [pad(self.encoded(self.split("test")))]

    def language_batches(self) -> list[Batch]:
        """Every sequence of the language once: the exact distribution, no sample."""
        return [pad(self.encoded(range(self.n_min, self.n_max + 1)))]

    def sample_floor(self, ns: Sequence[int] | np.ndarray) -> float:
        """Loss of the true distribution on these sequences, in nats per token."""
        return len(ns) * math.log(self.n_max - self.n_min + 1) / (2 * float(np.sum(ns)))

    @property
    def floor(self) -> float:
        """The loss of the true distribution on the validation split, in nats per token."""
        return self.sample_floor(self.split("validation"))

    @property
    def language_floor(self) -> float:
        """Nats per token of the language itself: ln(n_max - n_min + 1) / (n_min + n_max)."""
        return self.sample_floor(range(self.n_min, self.n_max + 1))


def longest_solved(
    model: LanguageModel,
    parameters: Parameters,
    vocabulary: Vocabulary,
    limit: int = 200,
    n_min: int = 1,
) -> int:
    """Largest n such that a^m b is continued, greedily, to a^m b^m EOS for all m of n_min .. n.

    Zero if even n_min is continued wrongly; no n above ``limit`` is tried.

    A greedy continuation is right exactly if, fed the right tokens, the most probable next token
    is right at every place; so one forward pass over all m answers for all of them.
    """
    sequences = [vocabulary.encode(counting_sequence(m)) for m in range(1, limit + 1)]
    batch = pad(sequences)
    cache = predict(model, parameters, batch.inputs, batch.lengths)
    right = cache.packing.unpack(cache.logits.argmax(axis=-1)) == batch.targets
    for m in range(n_min, limit + 1):
        if not right[m : 2 * m, m - 1].all():  # the first b, input m, and all after it
            return m - 1 if m > n_min else 0
    return limit
