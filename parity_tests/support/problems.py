"""Random problems, the options of an LSTM one by one, and results by the public functions."""

from typing import Any

import numpy as np

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.lstm import lstm_backward, lstm_forward
from torch_oracle.proof.random_problems import random_parameters, random_problem
from torch_oracle.proof.torch_cells import TORCH_CELLS
from torch_oracle.proof.trace import Problem, contribution

__all__ = [
    "OPTIONS",
    "TORCH_OPTIONS",
    "public_totals",
    "random_language_model",
    "random_parameters",
    "random_problem",
]

TORCH_OPTIONS = {
    "plain": {},
    "bias pair": {"bias_pair": True},
    "no bias": {"bias": False},
    "layers": {"num_layers": 3},
    "bidirectional": {"bidirectional": True},
    "projection": {"proj_size": 2},
    "dropout": {"num_layers": 2, "dropout": 0.4},
    "everything": {
        "num_layers": 2,
        "bidirectional": True,
        "proj_size": 1,
        "dropout": 0.3,
        "bias_pair": True,
    },
}
"""Every option of torch's own cell by itself, and most of them together."""
OPTIONS = {
    **TORCH_OPTIONS,
    **{variant: {"variant": variant} for variant in TORCH_CELLS},
    "everything, peephole": {**TORCH_OPTIONS["everything"], "variant": "peephole"},
}
"""The same and every variant, which runs through the plain loop."""


def random_language_model(
    dtype: Any = np.float64,
) -> tuple[LanguageModel, dict[str, np.ndarray], list[np.ndarray]]:
    """A language model of six symbols, its weights, and seven sequences of different lengths."""
    rng = np.random.default_rng(0)
    model = LanguageModel(6, 9)
    parameters = random_parameters(model.parameter_shapes(), rng, dtype)
    sequences = [rng.integers(0, 6, length) for length in (5, 2, 9, 5, 3, 12, 7)]
    return model, parameters, sequences


def public_totals(problem: Problem, **arguments: Any) -> dict[str, np.ndarray]:
    """All outputs and gradients by the public functions, time-major, as a trace names them."""
    p, order = problem, (1, 0, 2) if problem.lstm.batch_first else (0, 1, 2)
    given = {"lengths": p.lengths, "masks": p.masks} | arguments
    (y, h_n, c_n), cache = lstm_forward(
        p.lstm, p.parameters, p.x.transpose(order), p.h0, p.c0, **given
    )
    g = lstm_backward(p.dy.transpose(order), cache, p.dh_n, p.dc_n)
    totals = {"y": y.transpose(order), "h_n": h_n, "c_n": c_n}
    totals |= {"dx": g.dx.transpose(order), "dh0": g.dh0, "dc0": g.dc0}
    return totals | {contribution(name): gradient for name, gradient in g.parameters.items()}
