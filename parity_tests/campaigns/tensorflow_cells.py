"""TensorFlow's own cells, connected by its own functions and run over a random sequence."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from numpy_lstm.porting.proof.run_as_placed import Outputs

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
tf: Any = import_module("tensorflow")  # Any: not installed where types are checked
v1 = tf.compat.v1
T, N, I, H, P = 7, 3, 5, 4, 2


@dataclass(frozen=True)
class TFRun:
    """What TensorFlow made of a random sequence: x, the initial states, and (y, h_n, c_n)."""

    checkpoint: Path
    x: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    outputs: Outputs


def tf_run(
    folder: Path, cells: Callable[[], list[Any]], kind: str, rng: np.random.Generator
) -> TFRun:
    """Run TensorFlow's cells over a random sequence, in float64; save their variables.

    Args:
        folder: where to.
        cells: makes fresh cells, one a layer.
        kind: a key of `PREFIXES`.
        rng: for weights, inputs and initial states.
    """
    with tf.Graph().as_default() as graph:
        layers = [cells(), cells()] if kind == "bidirectional" else [cells()]
        size, count = layers[0][0].state_size, len(layers) * len(layers[0])
        x = rng.standard_normal((T, N, I))
        h0, c0 = rng.standard_normal((count, N, size.h)), rng.standard_normal((count, N, size.c))
        states = [
            v1.nn.rnn_cell.LSTMStateTuple(tf.constant(c), tf.constant(h))
            for c, h in zip(c0, h0, strict=True)
        ]
        y, final = connected(kind, layers, tf.constant(x), states)
        variables = v1.global_variables()
        assign = [v.assign(0.7 * rng.standard_normal([int(n) for n in v.shape])) for v in variables]
        saver = v1.train.Saver(variables)
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            session.run(assign)
            last = [tf.stack([getattr(state, which) for state in final]) for which in "hc"]
            outputs = session.run((y, *last))
            checkpoint = Path(saver.save(session, str(folder / "model"), global_step=1))
    return TFRun(checkpoint, x, h0, c0, outputs)


def connected(
    kind: str, layers: list[list[Any]], x: Any, states: list[Any]
) -> tuple[Any, list[Any]]:
    """Outputs and final states of cells, connected as TensorFlow's own functions do it."""
    if kind == "bidirectional":
        return stack_bidirectional(layers[0], layers[1], x, states)
    if kind == "single":
        y, last = v1.nn.dynamic_rnn(layers[0][0], x, initial_state=states[0], time_major=True)
        return y, [last]
    cell = v1.nn.rnn_cell.MultiRNNCell(layers[0])
    y, last = v1.nn.dynamic_rnn(cell, x, initial_state=tuple(states), time_major=True)
    return y, list(last)


def stack_bidirectional(
    forward: list[Any], backward: list[Any], x: Any, states: list[Any]
) -> tuple[Any, list[Any]]:
    """Layers in both directions, named as tf.contrib's stack_bidirectional_dynamic_rnn did."""
    final = []
    with v1.variable_scope("stack_bidirectional_rnn"):
        for k, (f, b) in enumerate(zip(forward, backward, strict=True)):
            with v1.variable_scope(f"cell_{k}"):
                outputs, last = v1.nn.bidirectional_dynamic_rnn(
                    f,
                    b,
                    x,
                    initial_state_fw=states[2 * k],
                    initial_state_bw=states[2 * k + 1],
                    time_major=True,
                )
            x = tf.concat(outputs, axis=2)
            final += last
    return x, final


PREFIXES = {
    "single": ("rnn/",),
    "stacked": ("rnn/multi_rnn_cell/cell_0/", "rnn/multi_rnn_cell/cell_1/"),
    "bidirectional": tuple(
        f"stack_bidirectional_rnn/cell_{k}/bidirectional_rnn/" for k in range(2)
    ),
}
