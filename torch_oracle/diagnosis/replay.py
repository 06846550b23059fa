"""The exact derivative of the hand-written forward pass as it stands, faults and all."""

import numpy as np

from numpy_lstm.fast.packing import make_packing
from numpy_lstm.language_model import LanguageModel, head_forward
from numpy_lstm.unrolled import unrolled_lstm_forward
from torch_oracle.proof.numpy_trace import plain_language_model_lstm
from torch_oracle.proof.trace import Problem
from torch_oracle.proof.witnesses import STEP, differentiable, with_inputs


def slope(problem: Problem, name: str, direction: np.ndarray) -> float:
    """Derivative of the scalar along a direction in one input, by the plain forward pass.

    It is the complex step's (`witnesses`), so it is exact for the forward pass as it stands: where
    that has a fault, it is what autograd would make of it.
    """
    inputs = {key: value.astype(complex) for key, value in differentiable(problem).items()}
    inputs[name] += direction * (1j * STEP)
    p = with_inputs(problem, inputs)
    if isinstance(p.config, LanguageModel):
        assert p.targets is not None
        packing = make_packing(p.x.shape[0], p.x.shape[1], p.lengths)
        (y, h_n, c_n), _ = plain_language_model_lstm(p)
        (_, losses), _ = head_forward(p.parameters, packing.pack(y), packing.pack(p.targets))
        value = p.dloss * losses.sum()
    else:
        assert p.dy is not None
        (y, h_n, c_n), _ = unrolled_lstm_forward(
            p.lstm, p.parameters, p.x, p.h0, p.c0, p.lengths, p.masks
        )
        value = (y * p.dy).sum()
    total = value + (h_n * p.dh_n).sum() + (c_n * p.dc_n).sum()
    return float(total.imag / STEP)
