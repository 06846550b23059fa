"""LSTMs in the shapes in which people write them, each with its adapter."""

from typing import Any

import numpy as np
import torch

from numpy_lstm.language_model import (
    LanguageModel,
    language_model_backward,
    language_model_forward,
)
from numpy_lstm.lstm import LSTM, lstm_backward, lstm_forward
from torch_oracle.adapters import adapter
from torch_oracle.layouts import ColumnVectors, GatePairs, Stacked


def our_layer(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
    """An adapter of the project's own LSTM."""
    G, I = weights["weight_ih_l0"].shape
    config = LSTM(I, G // 4, bias_pair=True)
    (y, h_n, c_n), cache = lstm_forward(config, weights, x, h0[None], c0[None], lengths)
    g = lstm_backward(dy, cache, dh_n[None], dc_n[None])
    states = {"h_n": h_n[0], "c_n": c_n[0], "dh0": g.dh0[0], "dc0": g.dc0[0]}
    return {"y": y, "dx": g.dx} | states | g.parameters


@adapter(bias_pair=False)
def our_model(weights, tokens, targets, h0, c0, lengths):
    """The project's own language model."""
    model = LanguageModel(*weights["projection.weight"].shape)
    state = h0[None], c0[None]
    outputs, cache = language_model_forward(model, weights, tokens, targets, lengths, state)
    g = language_model_backward(1 / int(lengths.sum()), cache)
    states = {"h_n": outputs.h_n[0], "c_n": outputs.c_n[0], "dh0": g.dh0[0], "dc0": g.dc0[0]}
    losses = cache.packing.unpack(outputs.losses)
    logits, dlogits = cache.packing.unpack(outputs.logits), cache.packing.unpack(g.dlogits)
    more = {"losses": losses, "logits": logits, "dlogits": dlogits}
    return {"loss": outputs.losses.mean()} | states | more | g.parameters


torch_layers = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
torch_cell = torch.nn.LSTMCell(4, 3)


class BatchFirst(torch.nn.LSTM):
    """An LSTM of batch-first sequences that is made without arguments."""

    def __init__(self):
        super().__init__(5, 4, bias=False, batch_first=True)


def sigmoid(a):
    """As most people write it."""
    return 1 / (1 + np.exp(-a))


def column_model(w, tokens, targets, h, c):
    """Summed loss and gradients of one sequence, with column vectors and z = [h; x]."""
    steps, loss = [], 0
    for token, target in zip(tokens, targets, strict=True):
        x = np.zeros_like(w["b_v"])
        x[token] = 1
        z, c_prev = np.vstack([h, x]), c
        i, f, o = (sigmoid(w[f"W_{k}"] @ z + w[f"b_{k}"]) for k in "ifo")
        g = np.tanh(w["W_g"] @ z + w["b_g"])
        c = f * c_prev + i * g
        h = o * np.tanh(c)
        v = w["W_v"] @ h + w["b_v"]
        p = np.exp(v - v.max()) / np.exp(v - v.max()).sum()
        loss += v.max() + np.log(np.exp(v - v.max()).sum()) - v[target, 0]
        steps.append((z, c_prev, i, f, g, o, c, h, p, target))
    d, states = {name: np.zeros_like(array) for name, array in w.items()}, []
    dh_next, dc_next = np.zeros_like(h), np.zeros_like(c)
    for z, c_prev, i, f, g, o, c, h, p, target in reversed(steps):
        dv = p.copy()
        dv[target] -= 1
        d["W_v"] += dv @ h.T
        d["b_v"] += dv
        dh = w["W_v"].T @ dv + dh_next
        dc = dc_next + dh * o * (1 - np.tanh(c) ** 2)
        da = {"i": dc * g * i * (1 - i), "f": dc * c_prev * f * (1 - f)}
        da |= {"g": dc * i * (1 - g**2), "o": dh * np.tanh(c) * o * (1 - o)}
        for k in "ifgo":
            d[f"W_{k}"] += da[k] @ z.T
            d[f"b_{k}"] += da[k]
        dh_next = sum(w[f"W_{k}"].T @ da[k] for k in "ifgo")[: len(h)]
        dc_next = dc * f
        states.append(da | {"h": h, "dh": dh})
    return loss, d, dh_next, dc_next, states[::-1]


COLUMNS = ColumnVectors()


@adapter(single=True, loss="sum")
def columns(weights, tokens, targets, h0, c0):
    """The weights in the seed's layout, where a state is a column."""
    w = COLUMNS.to_theirs(weights)
    loss, d, dh0, dc0, states = column_model(w, tokens, targets, h0[:, None], c0[:, None])
    steps = {f"da_{k}": [s[k][:, 0] for s in states] for k in "ifgo"}
    steps |= {k: [s[k][:, 0] for s in states] for k in ("h", "dh")}
    ends = {"loss": loss, "dh0": dh0[:, 0], "dc0": dc0[:, 0]}
    return ends | steps | COLUMNS.to_torch_gradients(d)


def pairs_layer(w, x, dy):
    """Outputs and gradients from zero states, by rows: x W_k + h U_k + b_k."""
    h = np.zeros((x.shape[1], len(w["b_i"])), x.dtype)
    c, steps, y = h, [], []
    for x_t in x:
        a = {k: x_t @ w[f"W_{k}"] + h @ w[f"U_{k}"] + w[f"b_{k}"] for k in "ifgo"}
        i, f, g, o = sigmoid(a["i"]), sigmoid(a["f"]), np.tanh(a["g"]), sigmoid(a["o"])
        steps.append((h, c, i, f, g, o, f * c + i * g))
        c = f * c + i * g
        h = o * np.tanh(c)
        y.append(h)
    d, dx = {name: np.zeros_like(array) for name, array in w.items()}, np.zeros_like(x)
    dh, dc = np.zeros_like(h), np.zeros_like(c)
    for t in reversed(range(len(x))):
        h_prev, c_prev, i, f, g, o, c = steps[t]
        dh = dh + dy[t]
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        da = {"i": dc * g * i * (1 - i), "f": dc * c_prev * f * (1 - f)}
        da |= {"g": dc * i * (1 - g**2), "o": dh * np.tanh(c) * o * (1 - o)}
        for k in "ifgo":
            d[f"W_{k}"] += x[t].T @ da[k]
            d[f"U_{k}"] += h_prev.T @ da[k]
            d[f"b_{k}"] += da[k].sum(axis=0)
        dx[t] = sum(da[k] @ w[f"W_{k}"].T for k in "ifgo")
        dh = sum(da[k] @ w[f"U_{k}"].T for k in "ifgo")
        dc = dc * f
    return np.array(y), dx, d


PAIRS = GatePairs(orientation="rows")


def pairs(weights, x, dy):
    """A pair of matrices a gate."""
    y, dx, d = pairs_layer(PAIRS.to_theirs(weights), x, dy)
    return {"y": y, "dx": dx} | PAIRS.to_torch_gradients(d)


def stacked_layer(w, x, h, c, dy, dh, dc):
    """Outputs and gradients; one kernel for all gates, in the order i, f, o, g."""
    H, steps, y = h.shape[1], [], []
    for x_t in x:
        a = x_t @ w["W_x"] + h @ w["W_h"] + w["b"]
        s, g = sigmoid(a[:, : 3 * H]), np.tanh(a[:, 3 * H :])
        i, f, o = np.split(s, 3, axis=1)
        c_prev, h_prev = c, h
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((h_prev, c_prev, i, f, o, g, c))
        y.append(h)
    d: dict[str, Any] = {name: np.zeros_like(array) for name, array in w.items()}
    dx, h_n, c_n = np.zeros_like(x), h, c
    for t in reversed(range(len(x))):
        h_prev, c_prev, i, f, o, g, c = steps[t]
        dh = dh + dy[t]
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        parts = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dh * np.tanh(c) * o * (1 - o)
        da = np.concatenate([*parts, dc * i * (1 - g**2)], axis=1)
        d["W_x"] += x[t].T @ da
        d["W_h"] += h_prev.T @ da
        d["b"] += da.sum(axis=0)
        dx[t], dh, dc = da @ w["W_x"].T, da @ w["W_h"].T, dc * f
    return {"y": np.array(y), "h_n": h_n, "c_n": c_n, "dx": dx, "dh0": dh, "dc0": dc}, d


def stacked_adapter(order: str):
    """The adapter of `stacked_layer`, if its order were this."""
    layout = Stacked(order)

    @adapter(bias_pair=False)
    def stacked(weights, x, h0, c0, dy, dh_n, dc_n):
        w = layout.to_theirs(weights)
        result, d = stacked_layer(w, x, h0, c0, dy, dh_n, dc_n)
        return result | Stacked(order, bias_pair=False).to_torch_gradients(d)

    return stacked


stacked = stacked_adapter("ifog")
stacked_in_a_wrong_order = stacked_adapter("ifgo")


def forgetful(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
    """One percent too much in a gradient."""
    result = our_layer(weights, x, h0, c0, dy, dh_n, dc_n, lengths)
    return result | {"weight_hh_l0": result["weight_hh_l0"] * 1.01}
