"""Random problems, and their results by the public functions."""

from typing import Any

import numpy as np

from numpy_lstm.lstm import lstm_backward, lstm_forward
from torch_oracle.proof.random_problems import random_parameters, random_problem
from torch_oracle.proof.trace import Problem, contribution

__all__ = ["public_totals", "random_parameters", "random_problem"]


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
