"""A whole LSTM by a plain loop over `cell.py`, the specification; its trace, step by step."""

from collections import defaultdict

import numpy as np

from numpy_lstm.cell import cell_backward, cell_forward
from numpy_lstm.lstm import named_gradients
from torch_oracle.trace import Problem, Trace, contribution, label


def mirrored(sequences: np.ndarray, lengths: np.ndarray, reverse: bool) -> np.ndarray:
    """Each sequence [T, N, F] read from its own end."""
    result = sequences.copy()
    if reverse:
        for n, length in enumerate(lengths):
            result[:length, n] = sequences[:length, n][::-1]
    return result


def cell_trace(problem: Problem) -> Trace:
    """The trace of a problem, masked where sequences have ended."""
    p, config, D = problem, problem.lstm, problem.lstm.directions
    steps: dict[str, np.ndarray] = {}
    alive = [(p.lengths > t)[:, None] for t in range(len(p.x))]
    totals = {name: np.zeros_like(s) for name, s in (("h_n", p.h0), ("c_n", p.c0))}
    totals |= {name: np.zeros_like(s) for name, s in (("dh0", p.h0), ("dc0", p.c0))}
    caches: list[list] = []
    y = p.x
    for k, suffix in enumerate(config.suffixes):
        if k % D == 0:
            below, outputs = y, []
        weights = config.cell_weights(p.parameters, suffix)
        x = mirrored(below, p.lengths, k % D == 1)
        h, c, own = p.h0[k], p.c0[k], []
        recorded = defaultdict(list)
        for t, mask in enumerate(alive):
            (h_t, c_t), cache = cell_forward(weights, x[t], h, c)
            own.append(cache)
            gates = ("a_i", "a_g", "a_o") if config.coupled else ("a_i", "a_f", "a_g", "a_o")
            values = dict(zip(gates, np.split(cache.a, len(gates), axis=1), strict=True))
            values |= {"i": cache.i, "f": cache.f, "g": cache.g, "o": cache.o, "c": c_t, "h": h_t}
            for name, value in values.items():
                recorded[name + label(suffix)].append(np.where(mask, value, 0))
            h, c = np.where(mask, h_t, h), np.where(mask, c_t, c)
        steps |= {name: np.stack(values) for name, values in recorded.items()}
        caches.append(own)
        totals["h_n"][k], totals["c_n"][k] = h, c
        outputs.append(mirrored(steps["h" + label(suffix)], p.lengths, k % D == 1))
        if k % D == D - 1:
            y = np.concatenate(outputs, axis=2)
            if p.masks and k + 1 < len(config.suffixes):
                y = y * p.masks[k // D]
    totals["y"], dy = np.where(np.stack(alive), y, 0), p.dy
    for k, suffix in reversed(list(enumerate(config.suffixes))):
        if k % D == D - 1:
            if p.masks and k + 1 < len(config.suffixes):
                dy = dy * p.masks[k // D]
            above, dy = dy, 0
        P = config.output_size
        own = mirrored(above[:, :, (k % D) * P : (k % D + 1) * P], p.lengths, k % D == 1)
        dh_next, dc_next = p.dh_n[k], p.dc_n[k]
        recorded = defaultdict(list)
        for t, mask in reversed(list(enumerate(alive))):
            dh = np.where(mask, own[t] + dh_next, 0)
            g = cell_backward(dh, np.where(mask, dc_next, 0), caches[k][t])
            gates = ("da_i", "da_g", "da_o") if config.coupled else ("da_i", "da_f", "da_g", "da_o")
            values = dict(zip(gates, np.split(g.da, len(gates), axis=1), strict=True))
            values |= {"dh": dh, "dc": g.dc, "dx": g.dx}
            values = {name + label(suffix): value for name, value in values.items()}
            weights = {"weight_ih": g.dW_ih, "weight_hh": g.dW_hh, "bias": g.db}
            weights |= {"weight_hr": g.dW_hr} if config.proj_size else {}
            weights |= {"weight_ch": g.dW_ch} if config.peephole else {}
            for name, gradient in named_gradients(config, suffix, weights).items():
                values[contribution(name)] = gradient
            for name, value in values.items():
                recorded[name].insert(0, value)
            dh_next = np.where(mask, g.dh_prev, dh_next)
            dc_next = np.where(mask, g.dc_prev, dc_next)
        steps |= {name: np.stack(values) for name, values in recorded.items()}
        totals["dh0"][k], totals["dc0"][k] = dh_next, dc_next
        dy = dy + mirrored(steps["dx" + label(suffix)], p.lengths, k % D == 1)
    totals["dx"] = dy
    totals |= {contribution(k): steps[contribution(k)].sum(axis=0) for k in p.parameters}
    return Trace(steps, totals)
