"""PyTorch's implementations of each workload: nn.LSTM, and a loop over nn.LSTMCell."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .workloads import DType, Workload, arrays

Unroll = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
"""x [T, N, I], h [N, H] and c [N, H] -> y [T, N, H], h_n [N, H] and c_n [N, H]."""


def torch_call(w: Workload, dtype: DType, cell_loop: bool) -> Callable[[], Any]:
    """PyTorch's implementation of a workload, by nn.LSTM or a loop over nn.LSTMCell."""
    a = arrays(w, dtype)
    lengths = torch.from_numpy(a["lengths"])
    kind = getattr(torch, dtype)
    if cell_loop:
        lstm = nn.LSTMCell(w.I, w.H, dtype=kind)
        unroll = cells_unrolled(lstm, lengths, w)
    else:
        lstm = nn.LSTM(w.I, w.H, dtype=kind)
        unroll = whole_sequence(lstm, lengths, w)
    if w.kind == "layer":
        return layer_call(lstm, unroll, a)
    projection = nn.Linear(w.H, w.I, dtype=kind)
    if w.kind == "generation":
        return generation_call(lstm, projection, w)
    return training_call(lstm, projection, unroll, a, w)


def whole_sequence(lstm: nn.LSTM, lengths: torch.Tensor, w: Workload) -> Unroll:
    """nn.LSTM over all steps at once."""

    def unroll(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if w.ragged:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            y, (h_n, c_n) = lstm(packed, (h[None], c[None]))
            y = pad_packed_sequence(y, total_length=w.T)[0]
        else:
            y, (h_n, c_n) = lstm(x, (h[None], c[None]))
        return y, h_n[0], c_n[0]

    return unroll


def cells_unrolled(cell: nn.LSTMCell, lengths: torch.Tensor, w: Workload) -> Unroll:
    """nn.LSTMCell called step by step, on the sequences that last."""
    alive = [int((lengths > t).sum()) for t in range(w.T)]

    def unroll(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Sequences come sorted by falling length: those alive at step t are the first ones.
        outputs, ended = [], []
        for t, x_t in enumerate(x):
            n = alive[t]
            if n < len(h):
                ended.append((h[n:], c[n:]))
            h, c = cell(x_t[:n], (h[:n], c[:n]))
            y = h
            if n < w.N:
                y = functional.pad(h, (0, 0, 0, w.N - n))
            outputs.append(y)
        ended.append((h, c))
        h_n, c_n = (torch.cat(parts) for parts in zip(*reversed(ended), strict=True))
        return torch.stack(outputs), h_n, c_n

    return unroll


def layer_call(lstm: nn.Module, unroll: Unroll, a: dict[str, Any]) -> Callable[[], None]:
    """One layer forward and backward, from and to arrays."""
    x, dy = torch.from_numpy(a["x"]), torch.from_numpy(a["dy"])
    h0, c0, dh_n, dc_n = (torch.from_numpy(a[name][0]) for name in ("h0", "c0", "dh_n", "dc_n"))

    def layer() -> None:
        leaves = [leaf.detach().requires_grad_() for leaf in (x, h0, c0)]
        torch.autograd.backward(unroll(*leaves), (dy, dh_n, dc_n))
        lstm.zero_grad()  # at the end, so that peak memory begins without gradients

    return layer


def generation_call(cell: nn.Module, projection: nn.Linear, w: Workload) -> Callable[[], None]:
    """Tokens sampled one after another from a language model."""
    eye = torch.eye(w.I, dtype=projection.weight.dtype)
    zeros = torch.zeros(w.N, w.H, dtype=projection.weight.dtype)

    @torch.inference_mode()
    def tokens() -> None:
        token, h, c = 0, zeros, zeros
        for _ in range(w.T):
            h, c = cell(eye[token : token + 1], (h, c))
            probabilities = torch.softmax(projection(h)[0], 0)
            token = int(torch.multinomial(probabilities, 1))

    return tokens


def training_call(
    lstm: nn.Module, projection: nn.Linear, unroll: Unroll, a: dict[str, Any], w: Workload
) -> Callable[[], None]:
    """A step of training a language model: loss, gradients, clipping and Adam."""
    eye = torch.eye(w.I, dtype=projection.weight.dtype)
    zeros = torch.zeros(w.N, w.H, dtype=projection.weight.dtype)
    parameters = [*lstm.parameters(), *projection.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    inputs, targets = torch.from_numpy(a["tokens"]), torch.from_numpy(a["targets"]).reshape(-1)

    def step() -> None:
        y, *_ = unroll(eye[inputs], zeros, zeros)
        functional.cross_entropy(projection(y).reshape(-1, w.I), targets).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        optimizer.zero_grad()

    return step
