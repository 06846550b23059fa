"""Ragged batches without masks: the real tokens of a padded batch, step by step, side by side.

Sequences are ordered by decreasing length, so that those that reach step t are the first
``batch_sizes[t]``. Packed arrays [M, ...] hold these rows for t = 0, 1, ...; M is the number of
real tokens. Padding is never read, whatever it holds. States carry one block more, the initial
state, in front: [N + M, H]; step t reads the block that step t - 1 wrote.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.errors import check


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
    final: Int[np.ndarray, " N"]
    """State row of each sequence's last step, in the caller's order."""

    @property
    def M(self) -> int:
        """Number of real tokens."""
        return self.starts[-1]

    def rows(self, t: int) -> slice:
        """Packed rows of step t."""
        return slice(self.starts[t], self.starts[t + 1])

    def writes(self, t: int) -> slice:
        """State rows that step t writes."""
        return slice(self.N + self.starts[t], self.N + self.starts[t + 1])

    def reads(self, t: int) -> slice:
        """State rows that step t reads: the previous step's, of the sequences still alive."""
        first = self.N + self.starts[t - 1] if t else 0
        return slice(first, first + self.batch_sizes[t])

    def previous(self, states: Shaped[np.ndarray, "NM H"]) -> Shaped[np.ndarray, "M H"]:
        """The state that each token's step read."""
        if self.tokens is None:
            return states[: self.M]
        steps = range(len(self.batch_sizes))
        return np.concatenate([states[self.reads(t)] for t in steps])

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
    check(T >= 1 and N >= 1, f"batch: expected at least one step and one sequence, got [{T}, {N}]")
    if lengths is None or (lengths.shape == (N,) and (lengths == T).all()):
        starts = tuple(range(0, T * N + 1, N))
        return Packing(T, N, np.arange(N), (N,) * T, starts, None, T * N + np.arange(N))
    check(
        np.issubdtype(lengths.dtype, np.integer), f"lengths: expected integers, got {lengths.dtype}"
    )
    check(lengths.shape == (N,), f"lengths: expected [N] = [{N}], got {list(lengths.shape)}")
    wrong = np.flatnonzero((lengths < 1) | (lengths > T))
    check(
        wrong.size == 0,
        f"lengths: expected 1 to T = {T}, got {lengths[wrong[:1]]} at index {wrong[:1]};"
        " leave out empty sequences",
    )
    order = np.argsort(-lengths, kind="stable")
    alive = lengths[order] > np.arange(lengths.max())[:, None]  # [T, N], a staircase
    batch_sizes = alive.sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(batch_sizes)])
    tokens = (np.arange(len(alive))[:, None] * N + order)[alive]
    final = N + starts[lengths - 1] + np.argsort(order)
    sizes, firsts = tuple(batch_sizes.tolist()), tuple(starts.tolist())
    return Packing(T, N, order, sizes, firsts, tokens, final)
