"""Every value and gradient of every step that the fast layer computed, for the comparison."""

import numpy as np

from numpy_lstm.fast.layer import LayerCache, weight_gradients
from numpy_lstm.fast.recurrence import StepBlock
from numpy_lstm.fast.segment import Segment, StepGradients, columns_read, side_by_side
from numpy_lstm.shapes import Shaped


def layer_values(cache: LayerCache) -> dict[str, Shaped[np.ndarray, "M F"]]:
    """Packed i, f, g, o, c, h of every token, and a_i ... where `layer_forward` kept them."""
    collected: dict[str, list[np.ndarray]] = {}
    for segment in cache.segments:
        assert isinstance(segment, Segment), "the values of a recomputed segment are not kept"
        n = cache.packing.batch_sizes[segment.steps.start]
        collected.setdefault("h", []).append(segment.h[:, n:])
        for block in segment.blocks:
            for name, values in _block_values(block).items():
                collected.setdefault(name, []).append(side_by_side(values))
    return {name: np.concatenate(parts, axis=1).T for name, parts in collected.items()}


def _block_values(block: StepBlock) -> dict[str, Shaped[np.ndarray, "s H n"]]:
    """The values of consecutive steps, under the names of `cell.py`."""
    f, i, o, g, _ = block.gates.swapaxes(0, 1)
    values = {"i": i, "f": f, "g": g, "o": o, "c": block.c[1:]}
    if block.a is not None:
        a_f, a_i, a_o, a_g = np.split(block.a, 4, axis=1)  # those of the sigmoids are negated
        values |= {"a_i": -a_i, "a_f": -a_f, "a_g": a_g, "a_o": -a_o}
    return values


def step_weight_gradients(cache: LayerCache, steps: StepGradients, t: int) -> dict[str, np.ndarray]:
    """Step t's own part of `LayerGradients.weights`, by the same code."""
    packing = cache.packing
    segment = next(segment for segment in cache.segments if t in segment.steps)
    assert isinstance(segment, Segment), "the values of a recomputed segment are not kept"
    block = next(block for block in segment.blocks if t in block.steps)
    k = t - block.steps.start
    alone = StepBlock(range(t, t + 1), block.gates[k : k + 1], block.c[k : k + 2], None)
    rows, first = packing.rows(alone.steps), packing.starts[segment.steps.start]
    n = packing.batch_sizes[segment.steps.start]
    h_prev = segment.h[:, columns_read(packing, segment.steps, t)]
    h = segment.h[:, n + rows.start - first : n + rows.stop - first]
    one_step = Segment(alone.steps, np.concatenate([h_prev, h], axis=1), (alone,))
    return weight_gradients(cache, one_step, steps.da[rows].T, steps.dh[rows].T)
