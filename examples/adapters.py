"""The two scripts as adapters, for `lstm-oracle verify examples.adapters:seed`."""

import numpy as np

from examples import fixed_lstm, seed_lstm
from torch_oracle.adapters import adapter
from torch_oracle.layouts import ColumnVectors

LAYOUT = ColumnVectors(bias_pair=False)


def run(script, weights, tokens, targets, h0, c0):
    """Loss and gradients of one sequence by a script, under torch's names."""
    p = LAYOUT.to_theirs(weights)
    symbols = np.eye(len(p["b_v"]))
    inputs, wanted = symbols[tokens][:, :, None], symbols[targets][:, :, None]
    values = script.forward(inputs, h0[:, None], c0[:, None], p)
    loss, gradients = script.backward(*values, wanted, p)
    return {"loss": loss} | LAYOUT.to_torch_gradients(gradients)


@adapter(single=True, bias_pair=False, loss="sum")
def seed(weights, tokens, targets, h0, c0):
    """The script as it was."""
    return run(seed_lstm, weights, tokens, targets, h0, c0)


@adapter(single=True, bias_pair=False, loss="sum")
def fixed(weights, tokens, targets, h0, c0):
    """The script after its repair, as an adapter."""
    return run(fixed_lstm, weights, tokens, targets, h0, c0)
