"""A character-level LSTM as it is often written for the first time.

NumPy, one sequence, column vectors, z = [h; x], four weight matrices. It runs, its loss even falls,
and its backward pass is wrong in ten places. `fixed_lstm.py` is the same script repaired.
"""

import numpy as np


def sigmoid(x, derivative=False):
    """The logistic function; or its derivative at x."""
    s = 1 / (1 + np.exp(-x))
    return s * (1 - s) if derivative else s


def tanh(x, derivative=False):
    """The hyperbolic tangent; or its derivative at x."""
    t = np.tanh(x)
    return 1 - t**2 if derivative else t


def softmax(v):
    """Probabilities of the symbols [V, 1]."""
    e = np.exp(v - v.max())
    return e / e.sum()


def forward(inputs, h_prev, C_prev, p):
    """All steps; h and C begin with the initial state, so they are one longer than the rest."""
    z, f, i, g, o, v, outputs = [], [], [], [], [], [], []
    h, C = [h_prev], [C_prev]
    for x in inputs:
        z.append(np.vstack([h[-1], x]))
        f.append(sigmoid(p["W_f"] @ z[-1] + p["b_f"]))
        i.append(sigmoid(p["W_i"] @ z[-1] + p["b_i"]))
        g.append(tanh(p["W_g"] @ z[-1] + p["b_g"]))
        C.append(f[-1] * C[-1] + i[-1] * g[-1])
        o.append(sigmoid(p["W_o"] @ z[-1] + p["b_o"]))
        h.append(o[-1] * tanh(C[-1]))
        v.append(p["W_v"] @ h[-1] + p["b_v"])
        outputs.append(softmax(v[-1]))
    return z, f, i, g, C, o, h, v, outputs


def backward(z, f, i, g, C, o, h, v, outputs, targets, p):
    """Loss of the sequence, and its gradients."""
    d = {name: np.zeros_like(weight) for name, weight in p.items()}
    dh_next, dC_next = np.zeros_like(h[0]), np.zeros_like(C[0])
    H, loss = len(h[0]), 0
    for t in reversed(range(len(outputs))):
        loss += -np.mean(np.log(outputs[t]) * targets[t])
        C_prev = C[t - 1]

        dv = outputs[t].copy()
        dv[np.argmax(targets[t])] -= 1
        d["W_v"] += dv @ h[t].T
        d["b_v"] += dv
        dh = p["W_v"].T @ dv + dh_next

        do = sigmoid(o[t], derivative=True) * dh * tanh(C[t])
        dC = dC_next + dh * o[t] * tanh(tanh(C[t]), derivative=True)
        dg = tanh(g[t], derivative=True) * dC * i[t]
        di = sigmoid(i[t], derivative=True) * dC * g[t]
        df = sigmoid(f[t]) * dC * C_prev

        dz = np.zeros_like(z[t])
        for gate, da in (("f", df), ("i", di), ("g", dg), ("o", do)):
            d["W_" + gate] += da @ z[t].T
            d["b_" + gate] += da
            dz += p["W_" + gate].T @ da
        dh_prev = dz[:H]  # noqa: F841
        dC_prev = f[t] * dC  # noqa: F841
    return loss, d
