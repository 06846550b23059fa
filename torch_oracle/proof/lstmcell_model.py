"""The language model around `torch.nn.LSTMCell`. Every number here comes from torch.

Weights are tied to the NumPy arrays (shared memory) or copied. The one-bias model has its bias in
`bias_ih`; `bias_hh` is zero and frozen. Of PyTorch's pair both train.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from numpy_lstm.training.batching import Batch

CELL = "lstm."
State = tuple[torch.Tensor, torch.Tensor]
"""(h, c), each [layers, N, H]."""


def cell_name(name: str) -> tuple[int, str]:
    """Layer, and parameter name of its nn.LSTMCell, for a name of ours; one bias is bias_ih."""
    base, _, layer = name.removeprefix(CELL).rpartition("_l")
    return int(layer), "bias_ih" if base == "bias" else base


class LSTMCellModel(nn.Module):
    """One nn.LSTMCell a layer, and nn.Linear, with the weights of the NumPy model.

    Args:
        parameters: the NumPy model's parameters.
        tied: share the arrays' memory, so that a change on either side is seen on both; else
            copy them.
    """

    def __init__(self, parameters: Mapping[str, np.ndarray], tied: bool = True) -> None:
        super().__init__()
        V, H = parameters["projection.weight"].shape
        layers = 1 + max(cell_name(name)[0] for name in parameters if name.startswith(CELL))
        tensors = {
            name: torch.from_numpy(array if tied else array.copy())
            for name, array in parameters.items()
        }
        dtype = tensors["projection.weight"].dtype
        # On the meta device no memory is allocated for weights that are replaced at once.
        self.cells = nn.ModuleList(
            nn.LSTMCell(H if layer else V, H, device="meta", dtype=dtype) for layer in range(layers)
        )
        self.projection = nn.Linear(H, V, device="meta", dtype=dtype)
        for cell in self.cells:
            for name in ("bias_ih", "bias_hh"):
                zeros = nn.Parameter(torch.zeros(4 * H, dtype=dtype), requires_grad=False)
                setattr(cell, name, zeros)
        self.by_name: dict[str, nn.Parameter] = {}
        for name, tensor in tensors.items():
            parameter = nn.Parameter(tensor)
            self.by_name[name] = parameter
            if name.startswith(CELL):
                layer, own = cell_name(name)
                setattr(self.cells[layer], own, parameter)
            else:
                setattr(self.projection, name.removeprefix("projection."), parameter)

    def forward(self, batch: Batch, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Summed loss over the real tokens, and the states at each sequence's own end."""
        inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        lengths = torch.from_numpy(batch.lengths)
        V, H = self.projection.weight.shape
        x = functional.one_hot(inputs, V).to(self.projection.weight.dtype)
        if state is None:
            zeros = x.new_zeros(len(self.cells), len(lengths), H)
            state = zeros, zeros
        h, c = list(state[0]), list(state[1])
        losses = []
        for t in range(len(inputs)):
            alive, y = lengths > t, x[t]
            for k, cell in enumerate(self.cells):
                y, c_t = cell(y, (h[k], c[k]))
                h[k] = torch.where(alive[:, None], y, h[k])
                c[k] = torch.where(alive[:, None], c_t, c[k])
            logits = self.projection(y[alive])
            losses.append(functional.cross_entropy(logits, targets[t][alive], reduction="sum"))
        return torch.stack(losses).sum(), (torch.stack(h), torch.stack(c))

    def gradients(self) -> dict[str, np.ndarray]:
        """What autograd left in `.grad`, under the NumPy model's names."""
        return {name: _numpy(parameter.grad) for name, parameter in self.by_name.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters, under the NumPy model's names (views, not copies)."""
        return {name: _numpy(parameter) for name, parameter in self.by_name.items()}


def _numpy(tensor: torch.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().numpy()


def oracle_loss(oracle: LSTMCellModel, batches: list[Batch]) -> float:
    """Loss over all real tokens, in nats per token, carrying states where batches continue."""
    total, state = 0.0, None
    with torch.no_grad():
        for batch in batches:
            loss_sum, state = oracle(batch, state if batch.continues else None)
            total += float(loss_sum)
    return total / sum(batch.tokens for batch in batches)
