"""Ragged batches without masks: the real tokens of a padded batch, step by step, side by side.

Sequences are ordered by decreasing length, so that those that reach step t are the first
``batch_sizes[t]``. Packed arrays [M, ...] hold these rows for t = 0, 1, ...; M is the number of
real tokens. Padding is never read, whatever it holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.shapes import Int, Shaped


@dataclass(frozen=True)
class Packing:
    """Where the rows of each step lie. T is the padded number of steps, N the batch size."""

    T: int
    N: int
    order: Int[np.ndarray, " N"]
    """Index of the sequence in each sorted place."""
    batch_sizes: tuple[int, ...]
    """Sequences alive at each step, up to the longest length (at most T entries)."""
    starts: tuple[int, ...]
    """First packed row of each step, and M at the end."""
    tokens: Int[np.ndarray, " M"] | None
    """Row of each packed token in the flattened [T * N] batch; None where they coincide."""

    @property
    def M(self) -> int:
        """Number of real tokens of the whole batch."""
        return self.starts[-1]

    @cached_property
    def lengths(self) -> Int[np.ndarray, " N"]:
        """Number of real steps of each sequence, in the order in which they were given."""
        alive = np.array(self.batch_sizes)[:, None] > np.arange(self.N)
        lengths = np.empty(self.N, np.int64)
        lengths[self.order] = alive.sum(axis=0)
        return lengths

    def rows(self, steps: range) -> slice:
        """Packed rows of consecutive steps."""
        return slice(self.starts[steps.start], self.starts[steps.stop])

    def segments(self, tokens: int) -> Iterator[range]:
        """All steps, cut into consecutive ranges of about this many tokens."""
        first = 0
        for t in range(len(self.batch_sizes)):
            last = t + 1 == len(self.batch_sizes)
            if last or self.starts[t + 2] - self.starts[first] > tokens:
                yield range(first, t + 1)
                first = t + 1

    def blocks(self, steps: range, tokens: int) -> Iterator[range]:
        """Consecutive steps, cut where the batch size changes and after this many tokens."""
        for n, group in groupby(steps, key=self.batch_sizes.__getitem__):
            same = list(group)
            size = max(1, tokens // n)
            for k in range(0, len(same), size):
                part = same[k : k + size]
                yield range(part[0], part[-1] + 1)

    def alive_after(self, steps: range) -> int:
        """Sequences that go on after the last of these steps."""
        return self.batch_sizes[steps.stop] if steps.stop < len(self.batch_sizes) else 0

    @cached_property
    def reversal(self) -> Int[np.ndarray, " M"]:
        """Packed row of each token's mirror image, its sequence read from its own end."""
        starts, sizes = np.array(self.starts), np.array(self.batch_sizes)
        steps = np.repeat(np.arange(len(sizes)), sizes)
        place = np.arange(self.M) - starts[steps]
        lengths = (sizes[:, None] > np.arange(self.N)).sum(axis=0)
        return starts[lengths[place] - 1 - steps] + place

    def pack(self, padded: Shaped[np.ndarray, "T N ..."]) -> Shaped[np.ndarray, "M ..."]:
        """Real tokens of a padded, time-major array."""
        flat = padded.reshape(self.T * self.N, *padded.shape[2:])
        return flat if self.tokens is None else flat[self.tokens]

    def unpack(self, packed: Shaped[np.ndarray, "M ..."]) -> Shaped[np.ndarray, "T N ..."]:
        """Padded array with zeros where there is no token."""
        if self.tokens is None:
            return packed.reshape(self.T, self.N, *packed.shape[1:])
        flat = np.zeros((self.T * self.N, *packed.shape[1:]), packed.dtype)
        flat[self.tokens] = packed
        return flat.reshape(self.T, self.N, *packed.shape[1:])


def make_packing(T: int, N: int, lengths: Int[np.ndarray, " N"] | None = None) -> Packing:
    """Plan for a padded batch [T, N] of sequences with these lengths (all T when None).

    Raises:
        InputError: no sequence, no step, or a length outside 1 .. T.
    """
    if T < 1 or N < 1:
        raise InputError(f"batch: expected at least one step and one sequence, got [{T}, {N}]")
    if lengths is None:
        return _full(T, N)
    if not isinstance(lengths, np.ndarray) or not np.issubdtype(lengths.dtype, np.integer):
        kind = getattr(lengths, "dtype", type(lengths))
        raise InputError(f"lengths: expected an array of integers, got {kind}")
    if lengths.shape != (N,):
        raise InputError(f"lengths: expected [N] = [{N}], got {list(lengths.shape)}")
    wrong = np.flatnonzero((lengths < 1) | (lengths > T))
    if wrong.size > 0:
        raise InputError(
            f"lengths: expected 1 to T = {T}, got {lengths[wrong[:1]]} at index {wrong[:1]};"
            " leave out empty sequences"
        )
    if (lengths == T).all():
        return _full(T, N)
    order = np.argsort(-lengths, kind="stable")
    alive = lengths[order] > np.arange(lengths.max())[:, None]  # [T, N], a staircase
    batch_sizes = alive.sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(batch_sizes)])
    tokens = (np.arange(len(alive))[:, None] * N + order)[alive]
    return Packing(T, N, order, tuple(batch_sizes.tolist()), tuple(starts.tolist()), tokens)


def _full(T: int, N: int) -> Packing:
    return Packing(T, N, np.arange(N), (N,) * T, tuple(range(0, T * N + 1, N)), None)
