"""From sequences and texts to padded, time-major batches of inputs and next-token targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_lstm.errors import InputError, check_positive
from numpy_lstm.shapes import Int

Tokens = Int[np.ndarray, "_"]


@dataclass(frozen=True)
class Batch:
    """Inputs and targets [T, N] and the real length of each sequence [N].

    `continues` says that each sequence goes on where the same place of the previous batch ended,
    so that the state is carried over.
    """

    inputs: Int[np.ndarray, "T N"]
    targets: Int[np.ndarray, "T N"]
    lengths: Int[np.ndarray, " N"]
    continues: bool = False

    @property
    def tokens(self) -> int:
        """The number of real tokens, padding left out."""
        return int(self.lengths.sum())


def pad(sequences: Sequence[Tokens]) -> Batch:
    """One batch of whole sequences: inputs without the last token, targets without the first.

    Raises:
        InputError: no sequence, or one of fewer than two tokens.
    """
    if not sequences:
        raise InputError("batch: expected at least one sequence, got none")
    lengths = np.array([len(sequence) - 1 for sequence in sequences])
    short = np.flatnonzero(lengths < 1)
    if short.size:
        raise InputError(
            f"sequence {short[:1]}: expected at least two tokens (an input and its target)"
        )
    inputs = np.zeros((lengths.max(), len(sequences)), np.int64)
    targets = np.zeros_like(inputs)
    for n, sequence in enumerate(sequences):
        inputs[: lengths[n], n] = sequence[:-1]
        targets[: lengths[n], n] = sequence[1:]
    return Batch(inputs, targets, lengths)


def batches(
    sequences: Sequence[Tokens], batch_size: int, *, rng: np.random.Generator
) -> list[Batch]:
    """All sequences once, in random order, in batches (the last may be smaller)."""
    check_positive(batch_size=batch_size)
    order = rng.permutation(len(sequences))
    starts = range(0, len(sequences), batch_size)
    return [pad([sequences[n] for n in order[start : start + batch_size]]) for start in starts]


def stream_batches(tokens: Tokens, streams: int, steps: int) -> list[Batch]:
    """One text as `streams` contiguous streams side by side, cut every `steps` steps.

    Each batch continues the one before. Nothing wraps round: the last token is only a target.
    What does not fill all streams equally (fewer tokens than streams, at the end) is left out.

    Raises:
        InputError: the text is shorter than one token and its target for each stream.
    """
    check_positive(streams=streams, steps=steps)
    length = (len(tokens) - 1) // streams
    if length < 1:
        raise InputError(
            f"text: expected at least {streams + 1} tokens for {streams} streams, got {len(tokens)}"
        )
    inputs = tokens[: streams * length].reshape(streams, length).T
    targets = tokens[1 : streams * length + 1].reshape(streams, length).T
    return [
        Batch(
            np.ascontiguousarray(inputs[start : start + steps]),
            np.ascontiguousarray(targets[start : start + steps]),
            np.full(streams, min(steps, length - start)),
            continues=start > 0,
        )
        for start in range(0, length, steps)
    ]
