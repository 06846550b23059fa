"""One direction of one layer over a ragged batch: the equations of `cell.py`, made fast.

Time is cut into segments (`segment.py`), and within them what needs no recurrence is done for all
tokens at once; `recurrence.py` does the rest, step by step. A segment can be forgotten after the
forward pass and recomputed in the backward pass (Chen et al. 2016, "Training deep nets with
sublinear memory cost"), with the same bits.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from numpy_lstm.fast.packing import Packing
from numpy_lstm.fast.recurrence import ForwardWeights, LayerWeights, advance, backward_weights
from numpy_lstm.fast.segment import (
    Segment,
    SegmentCheckpoint,
    StepGradients,
    input_part,
    segment_backward,
    segment_forward,
    side_by_side,
    states_read,
)
from numpy_lstm.shapes import Int, Shaped

SEGMENT_TOKENS = 1024
"""Tokens of a segment: enough for a product at full speed, few enough for the CPU's caches."""


@dataclass(frozen=True)
class LayerCache:
    """What `layer_backward` needs of `layer_forward`."""

    weights: LayerWeights
    packing: Packing
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"]
    segments: tuple[Segment | SegmentCheckpoint, ...]


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of all that entered the layer; those of the weights by `LayerWeights`' names.

    `dx` and the gradients of every step, `steps`, are there only when they were asked for.
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
            last_step = slice(
                packing.starts[block.steps.stop] - n, packing.starts[block.steps.stop]
            )
            h_n[alive:n] = y[last_step][alive:]  # of the sequences that end with this block
            c_n[alive:n] = block.c[-1, :, alive:].T
        last = segment.blocks[-1]
        n, alive = last.c.shape[2], packing.alive_after(segment.steps)
        h = segment.h[:, -n:][:, :alive]  # what the next segment reads
        c = last.c[-1, :, :alive]
    return (y, h_n, c_n), LayerCache(weights, packing, x, tuple(segments))


def layer_backward(
    dy: Shaped[np.ndarray, "M P"],
    cache: LayerCache,
    dh_n: Shaped[np.ndarray, "N P"],
    dc_n: Shaped[np.ndarray, "N H"],
    *,
    need_dx: bool = True,
    keep_steps: bool = False,
) -> LayerGradients:
    """Equations (8) to (14), and (20), for every step, last to first; all packed.

    Args:
        dy: gradient of the outputs.
        cache: what `layer_forward` returned; not changed.
        dh_n: gradient of the last hidden states.
        dc_n: gradient of the last cell states.
        need_dx: whether the gradient of the inputs is computed.
        keep_steps: whether the gradients of every step are kept, for inspection.
    """
    weights, packing = cache.weights, cache.packing
    transposed, forward_weights = backward_weights(weights), None
    if isinstance(cache.segments[0], SegmentCheckpoint):
        forward_weights = ForwardWeights(weights)
    M, dtype = len(dy), dy.dtype
    dx, step_gradients = None, None
    if need_dx:
        dx = np.empty((M, weights.W_ih.shape[1]), dtype)
    if keep_steps:
        dc, da = np.empty((M, dc_n.shape[1]), dtype), np.empty((M, len(weights.b)), dtype)
        step_gradients = StepGradients(np.empty_like(dy), dc, da)
    carries = (
        dh_n[:0].T.copy(),
        dc_n[:0].T.copy(),
    )  # no columns: after the last step no sequence is alive
    totals: dict[str, np.ndarray] = {}
    for segment in reversed(cache.segments):
        if isinstance(segment, SegmentCheckpoint):
            assert forward_weights is not None
            segment = segment_forward(forward_weights, cache.x, packing, segment, False)
        da, dh, carries = segment_backward(
            transposed, segment, packing, dy, (dh_n, dc_n), carries, step_gradients
        )
        for name, gradient in weight_gradients(cache, segment, da, dh).items():
            if name in totals:
                gradient += totals[name]
            totals[name] = gradient
        if dx is not None:
            np.matmul(da.T, weights.W_ih, out=dx[packing.rows(segment.steps)])  # (14)
    dh0, dc0 = carries
    return LayerGradients(totals, dx, dh0.T.copy(), dc0.T.copy(), step_gradients)


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


def weight_gradients(
    cache: LayerCache,
    segment: Segment,
    da: Shaped[np.ndarray, "G tokens"],
    dh: Shaped[np.ndarray, "P tokens"],
) -> dict[str, np.ndarray]:
    """(13), and dW_hr of (20): the sums over a segment's tokens."""
    x = cache.x[cache.packing.rows(segment.steps)]
    gradients = {
        "W_ih": _input_weight_gradient(cache.weights, x, da),  # (13)
        "W_hh": da @ states_read(cache.packing, segment).T,  # (13)
        # A product with ones; NumPy's sum() loses digits where the tokens are rows (n = 1).
        "b": da @ np.ones(da.shape[1], da.dtype),  # (13)
    }
    if cache.weights.W_hr is not None:
        m = []
        for block in segment.blocks:
            _, _, o, _, tanh_c = block.gates.swapaxes(0, 1)
            m.append(side_by_side(o * tanh_c))  # (7), what the projection read
        gradients["W_hr"] = dh @ np.concatenate(m, axis=1).T  # (20)
    return gradients


def _input_weight_gradient(weights: LayerWeights, x: np.ndarray, da: np.ndarray) -> np.ndarray:
    """dW_ih of (13). For one-hot x the sum runs over the tokens of each symbol."""
    if x.dtype.kind not in "iu":
        return da @ x
    from scipy.sparse import csr_array  # takes longer to import than NumPy

    entries = np.ones(len(x), da.dtype), x, np.arange(len(x) + 1)
    one_hot = csr_array(entries, shape=(len(x), weights.W_ih.shape[1]))
    return np.ascontiguousarray(cast(np.ndarray, one_hot.T @ da.T).T)
