"""The second oracle: torch.nn.LSTM itself, with the same state_dict, over whole sequences."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from numpy_lstm.lstm import LSTM
from torch_oracle.trace import Problem, contribution


def torch_lstm(config: LSTM, parameters: Mapping[str, np.ndarray]) -> nn.LSTM:
    """nn.LSTM with copies of the weights; a single bias becomes bias_ih, with bias_hh zero.

    Raises:
        ValueError: peepholes or coupled gates, which torch lacks.
    """
    if config.peephole or config.coupled:
        raise ValueError("torch.nn.LSTM has neither peepholes nor coupled gates")
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
    config, lengths = problem.lstm, torch.from_numpy(problem.lengths)
    module = torch_lstm(config, problem.parameters)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (problem.x, problem.h0, problem.c0)]
    x, h0, c0 = leaves
    batch_first, T = config.batch_first, len(x)
    given = x.transpose(0, 1) if batch_first else x
    if bool((lengths == T).all()):
        y, (h_n, c_n) = module(given, (h0, c0))
    else:
        packed = pack_padded_sequence(given, lengths, batch_first, enforce_sorted=False)
        y, (h_n, c_n) = module(packed, (h0, c0))
        y, _ = pad_packed_sequence(y, batch_first, total_length=T)
    y = y.transpose(0, 1) if batch_first else y
    cotangents = [torch.from_numpy(d) for d in (problem.dy, problem.dh_n, problem.dc_n)]
    torch.autograd.backward([y, h_n, c_n], cotangents)
    totals = {"y": y, "h_n": h_n, "c_n": c_n}
    totals |= {f"d{name}": leaf.grad for name, leaf in zip(("x", "h0", "c0"), leaves, strict=True)}
    for name in problem.parameters:
        own = name if hasattr(module, name) else name.replace("bias", "bias_ih")
        totals[contribution(name)] = getattr(module, own).grad
    return {name: tensor.detach().numpy() for name, tensor in totals.items()}
