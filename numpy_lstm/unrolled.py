"""The whole LSTM by a plain loop over `cell.py`: what `lstm.py` computes fast, computed plainly.

Padded, time-major arrays and masks, as most people write it. Tests hold `lstm.py` equal to this for
every option; the fault catalogue breaks these lines and those of `cell.py`, one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.cell import (
    CellCache,
    CellGradients,
    CellWeights,
    cell_backward,
    cell_forward,
)
from numpy_lstm.lstm import LSTM, Parameters, named_gradients, places_by_layer


@dataclass(frozen=True)
class UnrolledCache:
    """One direction of one layer. States are [T + 1, ...]: step t reads [t] and writes [t + 1]."""

    lengths: Int[np.ndarray, " N"]
    steps: tuple[CellCache, ...]
    h: Shaped[np.ndarray, "T1 N P"]
    c: Shaped[np.ndarray, "T1 N H"]


@dataclass(frozen=True)
class UnrolledGradients:
    """One direction of one layer: each step's gradients, their sums, and the initial states'."""

    steps: tuple[CellGradients, ...]
    dh: Shaped[np.ndarray, "T N P"]
    """Total gradient of each h: through the output and through the next step."""
    weights: dict[str, np.ndarray]
    dh0: Shaped[np.ndarray, "N P"]
    dc0: Shaped[np.ndarray, "N H"]


def unrolled_forward(
    weights: CellWeights,
    x: Shaped[np.ndarray, "T N I"],
    h0: Shaped[np.ndarray, "N P"],
    c0: Shaped[np.ndarray, "N H"],
    lengths: Int[np.ndarray, " N"],
) -> tuple[Shaped[np.ndarray, "T N P"], UnrolledCache]:
    """Outputs, zero beyond each length; a sequence that has ended keeps its states."""
    h, c, y, steps = [h0], [c0], [], []
    for t in range(len(x)):
        alive = (lengths > t)[:, None]
        (h_t, c_t), step = cell_forward(weights, x[t], h[t], c[t])
        h.append(np.where(alive, h_t, h[t]))
        c.append(np.where(alive, c_t, c[t]))
        y.append(np.where(alive, h_t, 0))
        steps.append(step)
    return np.stack(y), UnrolledCache(lengths, tuple(steps), np.stack(h), np.stack(c))


def unrolled_backward(
    dy: Shaped[np.ndarray, "T N P"],
    cache: UnrolledCache,
    dh_n: Shaped[np.ndarray, "N P"],
    dc_n: Shaped[np.ndarray, "N H"],
) -> UnrolledGradients:
    """Backpropagation through time: the carries of a sequence start at its own last step."""
    dh_next, dc_next = dh_n, dc_n
    steps: list[CellGradients] = []
    totals: list[np.ndarray] = []
    for t in reversed(range(len(dy))):
        alive = (cache.lengths > t)[:, None]
        step = cache.steps[t]
        dh = np.where(alive, dy[t] + dh_next, 0)
        dc = np.where(alive, dc_next, 0)
        g = cell_backward(dh, dc, step)
        dh_next = np.where(alive, g.dh_prev, dh_next)
        dc_next = np.where(alive, g.dc_prev, dc_next)
        steps.append(g)
        totals.append(dh)
    weights = {
        "weight_ih": sum_of([g.dW_ih for g in steps]),  # (13)
        "weight_hh": sum_of([g.dW_hh for g in steps]),  # (13)
        "bias": sum_of([g.db for g in steps]),  # (13)
    }
    options = {"weight_hr": [g.dW_hr for g in steps], "weight_ch": [g.dW_ch for g in steps]}
    for name, parts in options.items():
        given = [part for part in parts if part is not None]
        weights |= {name: sum_of(given)} if given else {}
    in_time = tuple(steps[::-1]), np.stack(totals[::-1])
    return UnrolledGradients(*in_time, weights, dh_next, dc_next)


def sum_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum over steps of one parameter's gradient."""
    return np.sum(parts, axis=0)


@dataclass(frozen=True)
class UnrolledLSTMCache:
    """Every direction of every layer, in the order of `LSTM.suffixes`."""

    config: LSTM
    directions: tuple[UnrolledCache, ...]
    masks: tuple[Shaped[np.ndarray, "T N F"], ...]


@dataclass(frozen=True)
class UnrolledLSTMGradients:
    """As `LSTMGradients`, padded; `directions` in the order of `LSTM.suffixes`."""

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
    """``(y, h_n, c_n), cache``, as `lstm_forward`; masks are those of dropout."""
    caches: list[UnrolledCache] = []
    for layer, places in places_by_layer(config):
        outputs = []
        for k, reverse in places:
            weights = config.cell_weights(parameters, config.suffixes[k])
            own = _read(x, lengths, reverse)
            y, cache = unrolled_forward(weights, own, h0[k], c0[k], lengths)
            outputs.append(_read(y, lengths, reverse))
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
    """As `lstm_backward`, the top layer first."""
    config, P, lengths = cache.config, cache.config.output_size, cache.directions[0].lengths
    by_place: dict[int, UnrolledGradients] = {}
    parameters: dict[str, np.ndarray] = {}
    for layer, places in reversed(list(places_by_layer(config))):
        if cache.masks and layer + 1 < config.num_layers:
            dy = dy * cache.masks[layer]
        below = []
        for k, reverse in places:
            own = dy[:, :, P:] if reverse else dy[:, :, :P]
            own = _read(own, lengths, reverse)
            g = unrolled_backward(own, cache.directions[k], dh_n[k], dc_n[k])
            by_place[k] = g
            parameters |= named_gradients(config, config.suffixes[k], g.weights)
            below.append(_read(np.stack([step.dx for step in g.steps]), lengths, reverse))
        dy = sum_of(below)
    directions = tuple(by_place[k] for k in sorted(by_place))
    dh0, dc0 = np.stack([g.dh0 for g in directions]), np.stack([g.dc0 for g in directions])
    return UnrolledLSTMGradients(parameters, dy, dh0, dc0, directions)


def _read(sequences: np.ndarray, lengths: np.ndarray, reverse: bool) -> np.ndarray:
    """Each sequence [T, N, F] read from its own end, where reverse; padding stays."""
    if not reverse:
        return sequences
    t = np.arange(len(sequences))[:, None]
    return np.take_along_axis(sequences, np.where(t < lengths, lengths - 1 - t, t)[:, :, None], 0)
