"""The second oracle: torch.nn.LSTM itself, with the same state_dict, over whole sequences."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from numpy_lstm.lstm import LSTM
from torch_oracle.proof.torch_trace import gradient
from torch_oracle.proof.trace import Problem, contribution


def torch_lstm(config: LSTM, parameters: Mapping[str, np.ndarray]) -> nn.LSTM:
    """nn.LSTM with copies of the weights; a single bias becomes bias_ih, with bias_hh zero.

    Raises:
        ValueError: a variant, which torch lacks.
    """
    if config.variant is not None:
        raise ValueError(f"torch.nn.LSTM has no variants, such as {config.variant!r}")
    tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
    for suffix in config.suffixes if config.bias and not config.bias_pair else ():
        tensors[f"bias_ih{suffix}"] = tensors.pop(f"bias{suffix}")
        tensors[f"bias_hh{suffix}"] = torch.zeros_like(tensors[f"bias_ih{suffix}"])
    module = nn.LSTM(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        bias=config.bias,
        batch_first=config.batch_first,
        bidirectional=config.bidirectional,
        proj_size=config.proj_size,
        dtype=next(iter(tensors.values())).dtype,
    )
    module.load_state_dict(tensors)
    return module


def module_totals(problem: Problem) -> dict[str, np.ndarray]:
    """Everything in the totals of an LSTM's trace, by nn.LSTM; ragged by pack_padded_sequence."""
    p = problem
    module = torch_lstm(p.lstm, p.parameters)
    assert p.dy is not None
    result = run_lstm(module, p.x, p.h0, p.c0, p.dy, p.dh_n, p.dc_n, p.lengths)
    totals = {name: result[name] for name in ("y", "h_n", "c_n", "dx", "dh0", "dc0")}
    for name in p.parameters:
        own = name if hasattr(module, name) else name.replace("bias", "bias_ih")
        totals[contribution(name)] = result[own]
    return totals


def run_lstm(
    module: nn.Module,
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    dy: np.ndarray,
    dh_n: np.ndarray,
    dc_n: np.ndarray,
    lengths: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Outputs y, h_n, c_n and gradients (the parameters' under their own names, dx, dh0, dc0).

    Arrays are time-major, whatever the module's batch_first. A module that is called as nn.LSTM is
    will do; lengths that differ reach it as a PackedSequence.
    """
    batch_first, T = bool(getattr(module, "batch_first", False)), len(x)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, h0, c0)]
    given = leaves[0]
    if batch_first:
        given = given.transpose(0, 1)
    if lengths is None or bool((lengths == T).all()):
        y, (h_n, c_n) = module(given, (leaves[1], leaves[2]))
    else:
        packed = pack_padded_sequence(
            given, torch.from_numpy(lengths), batch_first, enforce_sorted=False
        )
        y, (h_n, c_n) = module(packed, (leaves[1], leaves[2]))
        y, _ = pad_packed_sequence(y, batch_first, total_length=T)
    if batch_first:
        y = y.transpose(0, 1)
    cotangents = [torch.from_numpy(d) for d in (dy, dh_n, dc_n)]
    torch.autograd.backward([y, h_n, c_n], cotangents)
    result = {"y": y, "h_n": h_n, "c_n": c_n}
    result |= {f"d{n}": gradient(leaf) for n, leaf in zip(("x", "h0", "c0"), leaves, strict=True)}
    result |= {name: gradient(parameter) for name, parameter in module.named_parameters()}
    return {name: tensor.detach().numpy() for name, tensor in result.items()}
