"""The language model around one `torch.nn.LSTMCell`. Every number here comes from torch.

Weights are tied to the NumPy arrays (shared memory) or copied. The one-bias model has its bias in
`bias_ih`; `bias_hh` is zero and frozen. Of PyTorch's pair both train.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from numpy_lstm.batching import Batch

CELL = "lstm."
ONE_BIAS = "lstm.bias_l0"
State = tuple[torch.Tensor, torch.Tensor]


def cell_name(name: str) -> str:
    """Parameter name of nn.LSTMCell for a name of ours: no layer suffix, one bias in bias_ih."""
    name = name.removeprefix(CELL)
    return "bias_ih" if name == "bias_l0" else name.removesuffix("_l0")


class Oracle(nn.Module):
    """nn.LSTMCell and nn.Linear with the weights of the NumPy model.

    Args:
        parameters: the NumPy model's parameters.
        tied: share the arrays' memory, so that a change on either side is seen on both; else
            copy them.
    """

    def __init__(self, parameters: Mapping[str, np.ndarray], tied: bool = True) -> None:
        super().__init__()
        G, I = parameters["lstm.weight_ih_l0"].shape
        V, H = parameters["projection.weight"].shape
        tensors = {
            name: torch.from_numpy(array if tied else array.copy())
            for name, array in parameters.items()
        }
        dtype = tensors["projection.weight"].dtype
        # On the meta device no memory is allocated for weights that are replaced at once.
        self.cell = nn.LSTMCell(I, G // 4, device="meta", dtype=dtype)
        self.projection = nn.Linear(H, V, device="meta", dtype=dtype)
        for name in ("bias_ih", "bias_hh"):
            setattr(self.cell, name, nn.Parameter(torch.zeros(G, dtype=dtype), requires_grad=False))
        self.by_name: dict[str, nn.Parameter] = {}
        for name, tensor in tensors.items():
            parameter = nn.Parameter(tensor)
            self.by_name[name] = parameter
            if name.startswith(CELL):
                setattr(self.cell, cell_name(name), parameter)
            else:
                setattr(self.projection, name.removeprefix("projection."), parameter)

    def forward(self, batch: Batch, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Summed loss over the real tokens, and the states at each sequence's own end."""
        inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        lengths = torch.from_numpy(batch.lengths)
        V, H = self.projection.weight.shape
        x = functional.one_hot(inputs, V).to(self.projection.weight.dtype)
        zeros = x.new_zeros(len(lengths), H)
        h, c = state if state is not None else (zeros, zeros)
        losses = []
        for t in range(len(inputs)):
            alive = lengths > t
            h_t, c_t = self.cell(x[t], (h, c))
            h, c = torch.where(alive[:, None], h_t, h), torch.where(alive[:, None], c_t, c)
            logits = self.projection(h[alive])
            losses.append(functional.cross_entropy(logits, targets[t][alive], reduction="sum"))
        return torch.stack(losses).sum(), (h, c)

    def gradients(self) -> dict[str, np.ndarray]:
        """What autograd left in `.grad`, under the NumPy model's names."""
        return {name: _numpy(parameter.grad) for name, parameter in self.by_name.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters, under the NumPy model's names (views, not copies)."""
        return {name: _numpy(parameter) for name, parameter in self.by_name.items()}


def _numpy(tensor: torch.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().numpy()


def oracle_loss(oracle: Oracle, batches: list[Batch]) -> float:
    """Loss over all real tokens, in nats per token, carrying states where batches continue."""
    total, state = 0.0, None
    with torch.no_grad():
        for batch in batches:
            loss_sum, state = oracle(batch, state if batch.continues else None)
            total += float(loss_sum)
    return total / sum(batch.tokens for batch in batches)
