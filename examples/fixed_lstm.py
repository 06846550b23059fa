"""`seed_lstm.py` with its loss and its backward pass repaired; the forward pass was right."""

import numpy as np

from examples.seed_lstm import forward as forward
from examples.seed_lstm import softmax as softmax


def backward(z, f, i, g, C, o, h, v, outputs, targets, p):
    """Loss of the sequence, and its gradients."""
    d = {name: np.zeros_like(weight) for name, weight in p.items()}
    dh_next, dC_next = np.zeros_like(h[-1]), np.zeros_like(C[-1])
    H, loss = len(h[0]), 0
    for t in reversed(range(len(outputs))):
        shifted = v[t] - v[t].max()
        loss += np.log(np.exp(shifted).sum()) - shifted[np.argmax(targets[t])].item()
        h_t, C_t, C_prev = h[t + 1], C[t + 1], C[t]

        dv = outputs[t].copy()
        dv[np.argmax(targets[t])] -= 1
        d["W_v"] += dv @ h_t.T
        d["b_v"] += dv
        dh = p["W_v"].T @ dv + dh_next

        do = o[t] * (1 - o[t]) * dh * np.tanh(C_t)
        dC = dC_next + dh * o[t] * (1 - np.tanh(C_t) ** 2)
        dg = (1 - g[t] ** 2) * dC * i[t]
        di = i[t] * (1 - i[t]) * dC * g[t]
        df = f[t] * (1 - f[t]) * dC * C_prev

        dz = np.zeros_like(z[t])
        for gate, da in (("f", df), ("i", di), ("g", dg), ("o", do)):
            d["W_" + gate] += da @ z[t].T
            d["b_" + gate] += da
            dz += p["W_" + gate].T @ da
        dh_next = dz[:H]
        dC_next = f[t] * dC
    return loss, d
