"""The whole LSTM by a plain loop over one step: what `lstm.py` computes fast, computed plainly.

It takes any cell: `cell.py`, or a variant. Arrays are padded and time-major, as most people write
it; `alive` tells which sequences have not ended. Tests hold the fast code equal to this for every
option; the catalogue of faults breaks these lines and those of `cell.py`, one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_lstm.config import LSTM, Parameters, named_gradients, places_by_layer
from numpy_lstm.shapes import Int, Shaped


@dataclass(frozen=True)
class UnrolledCache:
    """One direction of one layer, as `unrolled_backward` needs it.

    `steps` are the caches of the cell, one a step, and `m` what the cell returned as its h, before
    the projection. The states h and c have T + 1 entries: step t reads [t] and writes [t + 1].
    """

    cell: Any
    W_hr: Shaped[np.ndarray, "P H"] | None
    lengths: Int[np.ndarray, " N"]
    steps: tuple[Any, ...]
    m: Shaped[np.ndarray, "T N H"]
    h: Shaped[np.ndarray, "T1 N P"]
    c: Shaped[np.ndarray, "T1 N H"]


@dataclass(frozen=True)
class UnrolledGradients:
    """One direction of one layer: the gradients of each step, and what they add up to.

    `steps` are what the cell returned. `dh` is the total gradient of each h: through the output and
    through the next step. `by_step` holds each step's own part [T, ...] of each weight's gradient,
    `weights` their sums.
    """

    steps: tuple[Any, ...]
    dh: Shaped[np.ndarray, "T N P"]
    by_step: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    dh0: Shaped[np.ndarray, "N P"]
    dc0: Shaped[np.ndarray, "N H"]


def unrolled_forward(
    cell: Any,
    weights: tuple[np.ndarray, ...],
    W_hr: Shaped[np.ndarray, "P H"] | None,
    x: Shaped[np.ndarray, "T N I"],
    h0: Shaped[np.ndarray, "N P"],
    c0: Shaped[np.ndarray, "N H"],
    lengths: Int[np.ndarray, " N"],
) -> tuple[Shaped[np.ndarray, "T N P"], UnrolledCache]:
    """Run a cell over whole sequences; a sequence that has ended keeps its states.

    With a projection (Sak, Senior & Beaufays 2014) what the cell calls h is m here, and h, which is
    the output and what the next step reads, is::

        (19) h = W_hr m

    Args:
        cell: the module with the equations of one step.
        weights: the cell's.
        W_hr: the projection, if there is one.
        x: inputs.
        h0: initial hidden states.
        c0: initial cell states.
        lengths: number of real steps of each sequence.

    Returns:
        ``y, cache``: the outputs, zero beyond each length.
    """
    h, c, m, y, steps = [h0], [c0], [], [], []
    for t in range(len(x)):
        alive = (lengths > t)[:, None]
        (m_t, c_t), step = cell.cell_forward(weights, x[t], h[t], c[t])
        h_t = m_t
        if W_hr is not None:
            h_t = m_t @ W_hr.T  # (19)
        h.append(np.where(alive, h_t, h[t]))
        c.append(np.where(alive, c_t, c[t]))
        y.append(np.where(alive, h_t, 0))
        m.append(m_t)
        steps.append(step)
    states = np.stack(m), np.stack(h), np.stack(c)
    return np.stack(y), UnrolledCache(cell, W_hr, lengths, tuple(steps), *states)


def unrolled_backward(
    dy: Shaped[np.ndarray, "T N P"],
    cache: UnrolledCache,
    dh_n: Shaped[np.ndarray, "N P"],
    dc_n: Shaped[np.ndarray, "N H"],
) -> UnrolledGradients:
    """Backpropagation through time.

    dh_next and dc_next of a sequence start, as dh_n and dc_n, at the sequence's own last step.

    With a projection::

        (20) dm = dh W_hr, dW_hr = dh^T m

    Args:
        dy: gradient of the outputs.
        cache: what `unrolled_forward` returned; not changed.
        dh_n: gradient of the last hidden states.
        dc_n: gradient of the last cell states.
    """
    dh_next, dc_next = dh_n, dc_n
    steps, dh_by_step = [], []
    for t in reversed(range(len(dy))):
        alive = (cache.lengths > t)[:, None]
        step = cache.steps[t]
        dh = np.where(alive, dy[t] + dh_next, 0)
        dc_from_next = np.where(alive, dc_next, 0)
        dm = dh
        if cache.W_hr is not None:
            dm = dh @ cache.W_hr  # (20)
        gradients = cache.cell.cell_backward(dm, dc_from_next, step)
        dh_next = np.where(alive, gradients.dh_prev, dh_next)
        dc_next = np.where(alive, gradients.dc_prev, dc_next)
        steps.append(gradients)
        dh_by_step.append(dh)
    steps.reverse()
    dh_by_step.reverse()
    by_step = {}
    for k, name in enumerate(cache.cell.WEIGHTS):
        by_step[name] = np.stack([gradients.weights[k] for gradients in steps])
    if cache.W_hr is not None:
        parts = [dh.T @ m for dh, m in zip(dh_by_step, cache.m, strict=True)]  # (20)
        by_step["W_hr"] = np.stack(parts)
    weights = {}
    for name, parts in by_step.items():
        weights[name] = parts[::-1].sum(axis=0)  # over time, in the order of the loop above
    dh = np.stack(dh_by_step)
    return UnrolledGradients(tuple(steps), dh, by_step, weights, dh_next, dc_next)


@dataclass(frozen=True)
class UnrolledLSTMCache:
    """What `unrolled_lstm_backward` needs; `directions` are in the order of `LSTM.suffixes`."""

    config: LSTM
    directions: tuple[UnrolledCache, ...]
    masks: tuple[Shaped[np.ndarray, "T N F"], ...]


@dataclass(frozen=True)
class UnrolledLSTMGradients:
    """Gradients of all that entered, zero at padding, and of every step of each direction.

    `directions` are in the order of `LSTM.suffixes`.
    """

    parameters: dict[str, np.ndarray]
    dx: Shaped[np.ndarray, "T N I"]
    dh0: Shaped[np.ndarray, "layers N P"]
    dc0: Shaped[np.ndarray, "layers N H"]
    directions: tuple[UnrolledGradients, ...]


def unrolled_lstm_forward(
    config: LSTM,
    parameters: Parameters,
    x: Shaped[np.ndarray, "T N I"],
    h0: Shaped[np.ndarray, "layers N P"],
    c0: Shaped[np.ndarray, "layers N H"],
    lengths: Int[np.ndarray, " N"],
    masks: Sequence[Shaped[np.ndarray, "T N F"]] = (),
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], UnrolledLSTMCache]:
    """All layers and directions, forward: ``(y, h_n, c_n), cache``, as `lstm_forward` returns them.

    The masks are those of dropout, one for each layer but the last; without them there is none.
    """
    caches: list[UnrolledCache] = []
    for layer, places in places_by_layer(config):
        outputs = []
        for k, reverse in places:
            suffix = config.suffixes[k]
            weights = config.cell_weights(parameters, suffix)
            W_hr = config.projection(parameters, suffix)
            inputs = _in_reading_order(x, lengths, reverse)
            y, cache = unrolled_forward(config.cell, weights, W_hr, inputs, h0[k], c0[k], lengths)
            outputs.append(_in_reading_order(y, lengths, reverse))
            caches.append(cache)
        x = np.concatenate(outputs, axis=2)
        if masks and layer + 1 < config.num_layers:
            x = x * masks[layer]
    h_n = np.stack([cache.h[-1] for cache in caches])
    c_n = np.stack([cache.c[-1] for cache in caches])
    return (x, h_n, c_n), UnrolledLSTMCache(config, tuple(caches), tuple(masks))


def unrolled_lstm_backward(
    dy: Shaped[np.ndarray, "T N F"],
    cache: UnrolledLSTMCache,
    dh_n: Shaped[np.ndarray, "layers N P"],
    dc_n: Shaped[np.ndarray, "layers N H"],
) -> UnrolledLSTMGradients:
    """All layers and directions, backward, from the top layer down; see `lstm_backward`."""
    config, lengths = cache.config, cache.directions[0].lengths
    P = config.output_size
    by_place: dict[int, UnrolledGradients] = {}
    parameters: dict[str, np.ndarray] = {}
    for layer, places in reversed(list(places_by_layer(config))):
        if cache.masks and layer + 1 < config.num_layers:
            dy = dy * cache.masks[layer]
        dx = []
        for d, (k, reverse) in enumerate(places):
            dy_k = _in_reading_order(dy[:, :, d * P : (d + 1) * P], lengths, reverse)
            gradients = unrolled_backward(dy_k, cache.directions[k], dh_n[k], dc_n[k])
            by_place[k] = gradients
            parameters |= named_gradients(config, config.suffixes[k], gradients.weights)
            dx_k = np.stack([step.dx for step in gradients.steps])
            dx.append(_in_reading_order(dx_k, lengths, reverse))
        dy = np.sum(dx, axis=0)  # of the outputs of the layer below
    directions = tuple(by_place[k] for k in sorted(by_place))
    dh0 = np.stack([gradients.dh0 for gradients in directions])
    dc0 = np.stack([gradients.dc0 for gradients in directions])
    return UnrolledLSTMGradients(parameters, dy, dh0, dc0, directions)


def _in_reading_order(sequences: np.ndarray, lengths: np.ndarray, reverse: bool) -> np.ndarray:
    """Sequences [T, N, F]; where reverse, each from its own last step to its first, padding last.

    Applied twice, it gives back what it was given.
    """
    if not reverse:
        return sequences
    t = np.arange(len(sequences))[:, None]
    source = np.where(t < lengths, lengths - 1 - t, t)
    return np.take_along_axis(sequences, source[:, :, None], 0)
