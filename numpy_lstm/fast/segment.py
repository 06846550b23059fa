"""A segment: consecutive steps of a layer, about a thousand tokens, forward and backward.

What needs no recurrence is done for a whole segment at once: here the input's part of (1), in
`layer.py` the gradients of the weights. Within a segment, features are rows and the tokens are
columns, step after step. `recurrence.py` does what must be done step by step.
"""

from dataclasses import dataclass

import numpy as np

from numpy_lstm.fast.packing import Packing
from numpy_lstm.fast.recurrence import (
    BackwardWeights,
    ForwardWeights,
    StepBlock,
    block_backward,
    block_forward,
)
from numpy_lstm.shapes import Shaped

BLOCK_FACTOR_BYTES = 1 << 18
"""A block has as many steps as keep its `backward_factors` within this: they stay in the cache."""


@dataclass(frozen=True)
class Segment:
    """What is kept of consecutive steps; `h` begins with the states that the first step reads."""

    steps: range
    h: Shaped[np.ndarray, "P states"]
    blocks: tuple[StepBlock, ...]


@dataclass(frozen=True)
class SegmentCheckpoint:
    """The states with which a segment begins: enough to compute it again."""

    steps: range
    h: Shaped[np.ndarray, "P n"]
    c: Shaped[np.ndarray, "H n"]


@dataclass(frozen=True)
class StepGradients:
    """Gradients of each step's quantities, packed: total dh and dc, and da of (8), (10)-(12)."""

    dh: Shaped[np.ndarray, "M P"]
    dc: Shaped[np.ndarray, "M H"]
    da: Shaped[np.ndarray, "M G"]


def segment_forward(
    weights: ForwardWeights,
    x: np.ndarray,
    packing: Packing,
    checkpoint: SegmentCheckpoint,
    keep_preactivations: bool,
) -> Segment:
    """The steps of one segment, block by block.

    Args:
        weights: prepared weights.
        x: inputs of the whole layer, packed.
        packing: where the tokens lie.
        checkpoint: the steps, and the states with which they begin.
        keep_preactivations: keep (1) too, for inspection.
    """
    rows, first_n = packing.rows(checkpoint.steps), checkpoint.h.shape[1]
    P, H, dtype = len(checkpoint.h), weights.H, checkpoint.h.dtype
    a_x = input_part(weights, x[rows], first_n)
    h = _empty_columns(P, first_n + rows.stop - rows.start, first_n, dtype)
    h[:, :first_n] = checkpoint.h
    c = checkpoint.c
    blocks = []
    most_tokens = BLOCK_FACTOR_BYTES // (6 * H * dtype.itemsize)
    for steps in packing.blocks(checkpoint.steps, most_tokens):
        s, n = len(steps), packing.batch_sizes[steps.start]
        first = packing.starts[steps.start] - rows.start
        a = None
        if keep_preactivations:
            a = np.empty((s, 4 * H, n), dtype)
        gates, cells = np.empty((s, 5, H, n), dtype), np.empty((s + 1, H, n), dtype)
        block = StepBlock(steps, gates, cells, a)
        block.c[0] = c[:, :n]
        h_in = h[:, columns_read(packing, checkpoint.steps, steps.start)]
        h_out = _by_step(h, first_n + first, s, n)
        with np.errstate(over="ignore"):  # where exp overflows, a sigmoid is 0
            block_forward(weights, block, _by_step(a_x, first, s, n), h_in, h_out)
        blocks.append(block)
        c = block.c[-1]
    return Segment(checkpoint.steps, h, tuple(blocks))


def input_part(weights: ForwardWeights, x: np.ndarray, n: int) -> Shaped[np.ndarray, "G tokens"]:
    """W_ih x + b of (1) for all tokens, in the order and with the signs of `ForwardWeights`.

    A one-hot x picks a column of W_ih. The batch size n decides only the order in memory.
    """
    W_ih = weights.W_ih
    a = _empty_columns(len(W_ih), len(x), n, W_ih.dtype)
    if x.dtype.kind in "iu":
        np.take(W_ih, x, axis=1, out=a)
    else:
        np.matmul(W_ih, x.T, out=a)
    a += weights.b
    return a


def segment_backward(
    weights: BackwardWeights,
    segment: Segment,
    packing: Packing,
    dy: Shaped[np.ndarray, "M P"],
    final: tuple[np.ndarray, np.ndarray],
    carries: tuple[np.ndarray, np.ndarray],
    step_gradients: StepGradients | None,
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The steps of one segment, last to first.

    Args:
        weights: transposed weights.
        segment: what the forward pass kept.
        packing: where the tokens lie.
        dy: gradient of the outputs of the whole layer.
        final: dh_n [N, P] and dc_n [N, H], which join where a sequence ends.
        carries: dh_next [P, n] and dc_next [H, n] from the segment after.
        step_gradients: where each step's gradients are written, if they are asked for.

    Returns:
        ``da [4H, tokens], dh [P, tokens], carries`` of the segment.
    """
    rows, n = packing.rows(segment.steps), packing.batch_sizes[segment.steps.start]
    tokens = rows.stop - rows.start
    dh = _empty_columns(dy.shape[1], tokens, n, dy.dtype)
    dh[...] = dy[rows].T
    da = _empty_columns(weights.W_hh_T.shape[1], tokens, n, dy.dtype)
    dh_next, dc_next = carries
    for block in reversed(segment.blocks):
        s, (H, n) = len(block.steps), block.c.shape[1:]
        first = packing.starts[block.steps.start] - rows.start
        dh_next = with_ending(dh_next, final[0], n)  # a new array, which block_backward overwrites
        dc_next = with_ending(dc_next, final[1], n)
        dc = None
        if step_gradients is not None:
            dc = np.empty((s, H, n), dy.dtype)
        dh_block, da_block = _by_step(dh, first, s, n), _by_step(da, first, s, n)
        block_backward(weights, block, dh_block, da_block, dh_next, dc_next, dc)
        if step_gradients is not None and dc is not None:
            by_token = dc.transpose(0, 2, 1).reshape(s * n, H)
            step_gradients.dc[packing.rows(block.steps)] = by_token
    if step_gradients is not None:
        step_gradients.dh[rows], step_gradients.da[rows] = dh.T, da.T
    return da, dh, (dh_next, dc_next)


def states_read(packing: Packing, segment: Segment) -> Shaped[np.ndarray, "P tokens"]:
    """The hidden state that each token's step read."""
    steps, sizes = segment.steps, packing.batch_sizes
    if sizes[steps[0]] == sizes[steps[-1]]:
        return segment.h[:, : len(steps) * sizes[steps[0]]]
    return np.concatenate([segment.h[:, columns_read(packing, steps, t)] for t in steps], axis=1)


def columns_read(packing: Packing, steps: range, t: int) -> slice:
    """Columns of `Segment.h` that step t reads: the step before, of the sequences still alive."""
    first = 0
    if t > steps.start:
        tokens = packing.starts[t - 1] - packing.starts[steps.start]
        first = packing.batch_sizes[steps.start] + tokens
    return slice(first, first + packing.batch_sizes[t])


def side_by_side(blocks: Shaped[np.ndarray, "s F n"]) -> Shaped[np.ndarray, "F tokens"]:
    """The columns of all steps, step after step; a copy."""
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)


def _empty_columns(features: int, tokens: int, n: int, dtype: np.dtype) -> np.ndarray:
    """An empty [features, tokens]; each token is contiguous where there is but one sequence."""
    if n == 1:
        return np.empty((tokens, features), dtype).T
    return np.empty((features, tokens), dtype)


def _by_step(columns: np.ndarray, first: int, s: int, n: int) -> Shaped[np.ndarray, "s F n"]:
    """A view of s steps of n columns each."""
    part = columns[:, first : first + s * n]
    return part.reshape(len(part), s, n, copy=False).transpose(1, 0, 2)


def with_ending(
    carry: Shaped[np.ndarray, "F alive"], final: Shaped[np.ndarray, "N F"], n: int
) -> Shaped[np.ndarray, "F n"]:
    """The carry, and the gradients of the final states of the sequences that end here."""
    return np.concatenate([carry, final[carry.shape[1] : n].T], axis=1)
