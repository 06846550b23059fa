"""Our implementation of each workload, and its matrix products alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_lstm import LSTM, LanguageModel, generate, init_language_model
from numpy_lstm.lstm import lstm_backward, lstm_forward
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Position, Recipe, apply_gradients, batch_gradients
from numpy_lstm.training.optimizers import Adam

from .workloads import DType, Workload, arrays


def numpy_call(w: Workload, dtype: DType) -> Callable[[], Any]:
    """Our implementation of a workload."""
    if w.kind == "layer":
        return layer_call(w, dtype)
    model = LanguageModel(w.I, w.H)
    rng = np.random.default_rng(0)
    parameters = init_language_model(model, rng=rng, dtype=np.dtype(dtype).type)
    if w.kind == "generation":

        def tokens() -> None:
            stream = generate(model, parameters, np.array([0]), rng=rng)
            for _ in range(w.T):
                next(stream)

        return tokens
    a = arrays(w, dtype)
    recipe, batch = Recipe(Adam(), 1), Batch(a["tokens"], a["targets"], np.full(w.N, w.T))
    position = Position(parameters, recipe.optimizer.init(parameters))

    def step() -> None:
        nonlocal position
        _, gradients, state = batch_gradients(model, position, batch, batch.tokens)
        _, position = apply_gradients(recipe, position, gradients, state, 1e-3)

    return step


def layer_call(w: Workload, dtype: DType) -> Callable[[], Any]:
    """One layer forward and backward, from and to arrays."""
    config = LSTM(w.I, w.H)
    a = arrays(w, dtype)
    lengths = None
    if w.ragged:
        lengths = a["lengths"]

    def layer() -> Any:
        _, cache = lstm_forward(config, a["parameters"], a["x"], a["h0"], a["c0"], lengths)
        return lstm_backward(a["dy"], cache, a["dh_n"], a["dc_n"])

    return layer


def products_call(w: Workload, dtype: DType) -> Callable[[], Any]:
    """The matrix products of a layer's forward and backward pass, and nothing else."""
    a = arrays(w, dtype)
    W_ih, W_hh = a["parameters"]["weight_ih_l0"], a["parameters"]["weight_hh_l0"]
    steps = [int((a["lengths"] > t).sum()) for t in range(w.T)]
    x, M = a["x"].reshape(-1, w.I)[: sum(steps)], sum(steps)
    da, h = np.ones((4 * w.H, M), dtype), np.ones((w.H, M), dtype)
    W_hh_T, a_x, dx = np.ascontiguousarray(W_hh.T), np.empty_like(da), np.empty_like(x)
    starts = np.cumsum([0, *steps])
    rows = [slice(start, start + n) for start, n in zip(starts, steps, strict=False)]
    outputs = [np.empty((4 * w.H, n), dtype) for n in steps]
    carries = [np.empty((w.H, n), dtype) for n in steps]

    def products() -> None:
        np.matmul(W_ih, x.T, out=a_x)
        for row, out in zip(rows, outputs, strict=True):
            np.matmul(W_hh, h[:, row], out=out)
        for row, out in zip(rows, carries, strict=True):
            np.matmul(W_hh_T, da[:, row], out=out)
        _ = da @ x, da @ h.T
        np.matmul(da.T, W_ih, out=dx)

    return products
