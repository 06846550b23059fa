"""One direction of one layer over a ragged batch: the equations of `cell.py`, made fast.

Time is cut into segments. What needs no recurrence is done for a whole segment at once: the
input's part of (1), and after the time loop (13), dx of (14) and dW_hr of (20). `recurrence.py`
does the rest, step by step. Within a segment, features are rows and the tokens are columns, step
after step. A segment can be forgotten after the forward pass and recomputed in the backward pass
(Chen et al. 2016, "Training deep nets with sublinear memory cost"), with the same bits.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.sparse
from jaxtyping import Int, Shaped

from numpy_lstm.fast.packing import Packing
from numpy_lstm.fast.recurrence import (
    BackwardWeights,
    ForwardWeights,
    LayerWeights,
    StepBlock,
    advance,
    backward_weights,
    block_backward,
    block_forward,
)

SEGMENT_TOKENS = 1024
"""Tokens of a segment: enough for a product at full speed, few enough for the caches."""
FACTOR_BYTES = 1 << 18
"""Memory for the factors of several steps at once, where steps are small."""


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
class LayerCache:
    """What `layer_backward` needs of `layer_forward`."""

    weights: LayerWeights
    packing: Packing
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"]
    segments: tuple[Segment | SegmentCheckpoint, ...]


@dataclass(frozen=True)
class StepGradients:
    """Gradients of each step's quantities, packed: total dh and dc, and da of (8), (10)-(12)."""

    dh: Shaped[np.ndarray, "M P"]
    dc: Shaped[np.ndarray, "M H"]
    da: Shaped[np.ndarray, "M G"]


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of all that entered the layer; those of the weights by `LayerWeights`' names.

    `steps` is there only when it was asked for.
    """

    weights: dict[str, np.ndarray]
    dx: Shaped[np.ndarray, "M I"] | None
    dh0: Shaped[np.ndarray, "N P"]
    dc0: Shaped[np.ndarray, "N H"]
    steps: StepGradients | None


def layer_forward(
    weights: LayerWeights,
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"],
    packing: Packing,
    h0: Shaped[np.ndarray, "N P"],
    c0: Shaped[np.ndarray, "N H"],
    *,
    recompute: bool = False,
    keep_preactivations: bool = False,
) -> tuple[
    tuple[Shaped[np.ndarray, "M P"], Shaped[np.ndarray, "N P"], Shaped[np.ndarray, "N H"]],
    LayerCache,
]:
    """Equations (1) to (7), and (19), for every step.

    Args:
        weights: parameters, which the cache refers to.
        x: packed inputs; or integers, which stand for one-hot vectors.
        packing: where the tokens lie.
        h0: initial hidden states, in packed order.
        c0: initial cell states, in packed order.
        recompute: keep only the states at the segments' starts.
        keep_preactivations: keep (1) too, for inspection.

    Returns:
        ``(y, h_n, c_n), cache``, packed: outputs, and each sequence's states at its own end.
    """
    prepared = ForwardWeights(weights)
    y = np.empty((packing.M, h0.shape[1]), h0.dtype)
    h_n, c_n = np.empty_like(h0), np.empty_like(c0)
    h, c = h0.T, c0.T
    segments: list[Segment | SegmentCheckpoint] = []
    for steps in packing.segments(SEGMENT_TOKENS):
        checkpoint = SegmentCheckpoint(steps, h.copy(), c.copy())
        segment = segment_forward(prepared, x, packing, checkpoint, keep_preactivations)
        segments.append(checkpoint if recompute else segment)
        y[packing.rows(steps)] = segment.h[:, packing.batch_sizes[steps.start] :].T
        for block in segment.blocks:
            n, alive = block.c.shape[2], packing.alive_after(block.steps)
            end = packing.starts[block.steps.stop]
            h_n[alive:n] = y[end - (n - alive) : end]
            c_n[alive:n] = block.c[-1, :, alive:].T
            h, c = segment.h[:, -n:][:, :alive], block.c[-1, :, :alive]
    return (y, h_n, c_n), LayerCache(weights, packing, x, tuple(segments))


def segment_forward(
    weights: ForwardWeights,
    x: np.ndarray,
    packing: Packing,
    checkpoint: SegmentCheckpoint,
    keep_preactivations: bool,
) -> Segment:
    """The steps of one segment, block by block."""
    rows, n = packing.rows(checkpoint.steps), checkpoint.h.shape[1]
    P, H, dtype = len(checkpoint.h), weights.H, checkpoint.h.dtype
    a_x = input_part(weights, x[rows], n)
    h = _empty_columns(P, n + rows.stop - rows.start, n, dtype)
    h[:, :n] = checkpoint.h
    c = checkpoint.c
    blocks = []
    most = FACTOR_BYTES // (6 * H * dtype.itemsize)
    for steps in packing.blocks(checkpoint.steps, most):
        s, n = len(steps), packing.batch_sizes[steps.start]
        first = packing.starts[steps.start] - rows.start
        a = None
        if keep_preactivations:
            a = np.empty((s, 4 * H, n), dtype)
        gates, cells = np.empty((s, 5, H, n), dtype), np.empty((s + 1, H, n), dtype)
        block = StepBlock(steps, gates, cells, a)
        block.c[0] = c[:, :n]
        h_in = h[:, columns_read(packing, checkpoint.steps, steps.start)]
        h_out = _by_step(h, checkpoint.h.shape[1] + first, s, n)
        with np.errstate(over="ignore"):  # where exp overflows, a sigmoid is 0
            block_forward(weights, block, _by_step(a_x, first, s, n), h_in, h_out)
        blocks.append(block)
        c = block.c[-1]
    return Segment(checkpoint.steps, h, tuple(blocks))


def step_forward(
    weights: ForwardWeights,
    x: Shaped[np.ndarray, "N I"] | Int[np.ndarray, " N"],
    h: Shaped[np.ndarray, "P N"],
    c: Shaped[np.ndarray, "H N"],
    h_out: Shaped[np.ndarray, "P N"],
    c_out: Shaped[np.ndarray, "H N"],
) -> None:
    """One step from given states; the new ones are written to h_out and c_out."""
    H, N = c.shape
    a = input_part(weights, x, N)
    a += weights.W_hh @ h  # (1)
    gates, scratch = np.empty((5, H, N), c.dtype), np.empty((H, N), c.dtype)
    with np.errstate(over="ignore"):  # where exp overflows, a sigmoid is 0
        advance(weights, a, gates, c, c_out, h_out, scratch)


def input_part(weights: ForwardWeights, x: np.ndarray, n: int) -> Shaped[np.ndarray, "G m"]:
    """W_ih x + b of (1) for all tokens. A one-hot x picks a column of W_ih."""
    W_ih = weights.W_ih
    a = _empty_columns(len(W_ih), len(x), n, W_ih.dtype)
    if x.dtype.kind in "iu":
        np.take(W_ih, x, axis=1, out=a)
    else:
        np.matmul(W_ih, x.T, out=a)
    a += weights.b
    return a


def layer_backward(
    dy: Shaped[np.ndarray, "M P"],
    cache: LayerCache,
    dh_n: Shaped[np.ndarray, "N P"],
    dc_n: Shaped[np.ndarray, "N H"],
    *,
    need_dx: bool = True,
    keep_steps: bool = False,
) -> LayerGradients:
    """Equations (8) to (14), and (20), for every step, last to first; all packed."""
    weights, packing = cache.weights, cache.packing
    transposed, recomputing = backward_weights(weights), None
    if isinstance(cache.segments[0], SegmentCheckpoint):
        recomputing = ForwardWeights(weights)
    M, dtype = len(dy), dy.dtype
    dx, steps = None, None
    if need_dx:
        dx = np.empty((M, weights.W_ih.shape[1]), dtype)
    if keep_steps:
        da = np.empty((M, len(weights.b)), dtype)
        steps = StepGradients(np.empty_like(dy), np.empty((M, dc_n.shape[1]), dtype), da)
    carries = dh_n[:0].T.copy(), dc_n[:0].T.copy()
    totals: dict[str, np.ndarray] = {}
    for kept in reversed(cache.segments):
        segment = kept
        if isinstance(segment, SegmentCheckpoint):
            assert recomputing is not None
            segment = segment_forward(recomputing, cache.x, packing, segment, False)
        da, dh, carries = segment_backward(
            transposed, segment, packing, dy, (dh_n, dc_n), carries, steps
        )
        for name, gradient in weight_gradients(cache, segment, da, dh).items():
            if name in totals:
                totals[name] += gradient
            else:
                totals[name] = gradient
        if dx is not None:
            np.matmul(da.T, weights.W_ih, out=dx[packing.rows(segment.steps)])  # (14)
    dh0, dc0 = carries
    return LayerGradients(totals, dx, dh0.T.copy(), dc0.T.copy(), steps)


def segment_backward(
    weights: BackwardWeights,
    segment: Segment,
    packing: Packing,
    dy: Shaped[np.ndarray, "M P"],
    final: tuple[np.ndarray, np.ndarray],
    carries: tuple[np.ndarray, np.ndarray],
    kept: StepGradients | None,
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The steps of one segment, last to first.

    Args:
        weights: transposed weights.
        segment: what the forward pass kept.
        packing: where the tokens lie.
        dy: gradient of the outputs of the whole layer.
        final: dh_n [N, P] and dc_n [N, H], which join where a sequence ends.
        carries: dh_next [P, n] and dc_next [H, n] from the segment after.
        kept: where each step's gradients are written, if they are asked for.

    Returns:
        ``da [4H, m], dh [P, m], carries`` of the segment's m tokens.
    """
    rows, n = packing.rows(segment.steps), packing.batch_sizes[segment.steps.start]
    m = rows.stop - rows.start
    dh = _empty_columns(dy.shape[1], m, n, dy.dtype)
    dh[...] = dy[rows].T
    da = _empty_columns(weights.W_hh_T.shape[1], m, n, dy.dtype)
    dh_next, dc_next = carries
    for block in reversed(segment.blocks):
        s, (H, n) = len(block.steps), block.c.shape[1:]
        first = packing.starts[block.steps.start] - rows.start
        dh_next = _with_ending(dh_next, final[0], n)
        dc_next = _with_ending(dc_next, final[1], n)
        dc = None
        if kept is not None:
            dc = np.empty((s, H, n), dy.dtype)
        dh_block, da_block = _by_step(dh, first, s, n), _by_step(da, first, s, n)
        block_backward(weights, block, dh_block, da_block, dh_next, dc_next, dc)
        if kept is not None and dc is not None:
            kept.dc[packing.rows(block.steps)] = dc.transpose(0, 2, 1).reshape(s * n, H)
    if kept is not None:
        kept.dh[rows], kept.da[rows] = dh.T, da.T
    return da, dh, (dh_next, dc_next)


def weight_gradients(
    cache: LayerCache,
    segment: Segment,
    da: Shaped[np.ndarray, "G m"],
    dh: Shaped[np.ndarray, "P m"],
) -> dict[str, np.ndarray]:
    """(13), and dW_hr of (20): the sums over a segment's tokens."""
    x = cache.x[cache.packing.rows(segment.steps)]
    gradients = {
        "W_ih": _input_weight_gradient(cache.weights, x, da),  # (13)
        "W_hh": da @ states_read(cache.packing, segment).T,  # (13)
        # A product with ones: BLAS sums in several lanes, faster and more exactly than sum().
        "b": da @ np.ones(da.shape[1], da.dtype),  # (13)
    }
    if cache.weights.W_hr is not None:
        m = [side_by_side(block.gates[:, 2] * block.gates[:, 4]) for block in segment.blocks]
        gradients["weight_hr"] = dh @ np.concatenate(m, axis=1).T  # (20)
    return gradients


def _input_weight_gradient(weights: LayerWeights, x: np.ndarray, da: np.ndarray) -> np.ndarray:
    """dW_ih of (13). For one-hot x the sum runs over the tokens of each symbol."""
    if x.dtype.kind not in "iu":
        return da @ x
    entries = np.ones(len(x), da.dtype), x, np.arange(len(x) + 1)
    one_hot = scipy.sparse.csr_array(entries, shape=(len(x), weights.W_ih.shape[1]))
    return np.ascontiguousarray(cast(np.ndarray, one_hot.T @ da.T).T)


def states_read(packing: Packing, segment: Segment) -> Shaped[np.ndarray, "P m"]:
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


def side_by_side(blocks: Shaped[np.ndarray, "s F n"]) -> Shaped[np.ndarray, "F m"]:
    """The columns of all steps, step after step; a copy."""
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)


def _empty_columns(features: int, tokens: int, n: int, dtype: np.dtype) -> np.ndarray:
    """An empty [features, tokens] whose steps of n columns are as contiguous as may be."""
    if n == 1:
        return np.empty((tokens, features), dtype).T
    return np.empty((features, tokens), dtype)


def _by_step(columns: np.ndarray, first: int, s: int, n: int) -> Shaped[np.ndarray, "s F n"]:
    """A view of s steps of n columns each."""
    part = columns[:, first : first + s * n]
    return part.reshape(len(part), s, n, copy=False).transpose(1, 0, 2)


def _with_ending(
    carry: Shaped[np.ndarray, "F alive"], final: Shaped[np.ndarray, "N F"], n: int
) -> Shaped[np.ndarray, "F n"]:
    """The carry, and the gradients of the final states of the sequences that end here."""
    return np.concatenate([carry, final[carry.shape[1] : n].T], axis=1)
