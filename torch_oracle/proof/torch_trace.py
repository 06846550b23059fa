"""The trace by `nn.LSTMCell` and autograd: what the hand-written code is judged by.

Nothing here calls anything of `numpy_lstm` that computes an LSTM. (`Noise` only draws the random
factors that blur torch's own arithmetic in a noisy twin.)
"""

import numpy as np
import torch
from torch.nn import functional

from numpy_lstm.config import LSTM
from numpy_lstm.roundoff import Noise
from torch_oracle.proof.arithmetic import Arithmetic, Exact, Kernel, Noisy, Tensors
from torch_oracle.proof.torch_cells import TorchCell, lstm_cell, torch_cell_of
from torch_oracle.proof.trace import Problem, Trace, contribution, label, moved

BIASES = ("bias", "bias_ih", "bias_hh")
LINEAR = ("weight_ih", "weight_hh", "weight_hr", *BIASES)
"""Weights of linear maps; each other one multiplies or shifts units, and gets [N, ...] copies."""


def torch_trace(
    problem: Problem, noise: Noise | None = None, cell: TorchCell | None = None
) -> Trace:
    """The run of a problem by `nn.LSTMCell` and autograd.

    Each step uses its own clone of every weight, whose gradient is that step's contribution. The
    pre-activations are made by `functional.linear` and handed to the cell (`arithmetic.Kernel`).
    For a variant, autograd goes through single operations (`torch_cells`).

    Args:
        problem: the inputs.
        noise: run a noisy twin instead, in float64: `moved`, and by `arithmetic.Noisy`.
        cell: torch's version of a variant of one's own; see `torch_cells`.

    Raises:
        ValueError: a variant of one's own, without torch's version of it.
    """
    if noise is not None:
        problem = moved(problem, noise)
    arithmetic = Exact() if noise is None else Noisy(noise)
    if cell is None:
        cell = torch_cell_of(problem.lstm)
    leaves = {name: _leaf(array) for name, array in problem.parameters.items()}
    h0, c0, x = _leaf(problem.h0), _leaf(problem.c0), _inputs(problem)
    alive = torch.from_numpy(problem.alive)
    y, directions = _run_layers(problem, arithmetic, cell, leaves, (x, h0, c0))
    h_n = torch.stack([direction.h for direction in directions])
    c_n = torch.stack([direction.c for direction in directions])
    scalar = (h_n * torch.from_numpy(problem.dh_n)).sum()
    scalar = scalar + (c_n * torch.from_numpy(problem.dc_n)).sum()
    head = _Head(leaves, arithmetic)
    totals = {"h_n": h_n, "c_n": c_n}
    if problem.targets is None:
        assert problem.dy is not None
        totals["y"] = _zero_at_padding(y, alive)
        scalar = scalar + (totals["y"] * torch.from_numpy(problem.dy)).sum()
    else:
        losses = head.run(y, torch.from_numpy(problem.targets))
        totals["loss"] = problem.dloss * torch.where(alive, losses, 0).sum()
        scalar = scalar + totals["loss"]
    scalar.backward()
    steps, magnitudes = head.steps(alive), head.magnitudes(alive)
    for direction in directions:
        steps |= direction.steps()
        magnitudes |= direction.magnitudes()
    totals |= {"dh0": gradient(h0), "dc0": gradient(c0)}
    if problem.targets is None:
        totals["dx"] = _zero_at_padding(gradient(x), alive)
    totals |= {contribution(name): gradient(leaf) for name, leaf in leaves.items()}
    if noise is not None:
        magnitudes = {}
    return Trace(_arrays(steps), _arrays(totals), _arrays(magnitudes))


def _run_layers(
    problem: Problem,
    arithmetic: Arithmetic,
    cell: TorchCell,
    leaves: Tensors,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, list["_Direction"]]:
    """The outputs of the last layer [T, N, F], and every direction of every layer, run."""
    config, alive = problem.lstm, torch.from_numpy(problem.alive)
    y, h0, c0 = inputs
    directions: list[_Direction] = []
    for layer in range(config.num_layers):
        outputs = []
        for d in range(config.directions):
            k = layer * config.directions + d
            suffix = config.suffixes[k]
            weights = _weights_of(leaves, problem.prefix, suffix)
            direction = _Direction(config, suffix, arithmetic, cell, weights, alive)
            direction.run(y, h0[k], c0[k])
            directions.append(direction)
            outputs.append(direction.outputs())
        y = torch.cat(outputs, dim=2)
        if problem.masks and layer + 1 < config.num_layers:
            y = y * torch.from_numpy(problem.masks[layer])
    return y, directions


def _weights_of(leaves: Tensors, prefix: str, suffix: str) -> dict[str, tuple[str, torch.Tensor]]:
    """One direction's parameters: the problem's name and the leaf, by the name without suffix."""
    weights = {}
    for name, leaf in leaves.items():
        if name.startswith(prefix) and name.endswith(suffix):
            weights[name.removeprefix(prefix).removesuffix(suffix)] = (name, leaf)
    return weights


class _Direction:
    """One direction of one layer: its steps' tensors, kept until autograd has filled them."""

    def __init__(
        self,
        config: LSTM,
        suffix: str,
        arithmetic: Arithmetic,
        cell: TorchCell,
        weights: dict[str, tuple[str, torch.Tensor]],
        alive: torch.Tensor,
    ) -> None:
        self._config, self._label = config, label(suffix)
        self._arithmetic, self._cell = arithmetic, cell
        # By the names without suffix, such as weight_ih: the names in the problem, and the leaves.
        self._names = {base: name for base, (name, _) in weights.items()}
        self._leaves = {base: leaf for base, (_, leaf) in weights.items()}
        self._alive, self._lengths = alive, alive.sum(dim=0)
        self._reverse = suffix.endswith("_reverse")
        self._records: list[Tensors] = []
        self._copies: list[Tensors] = []

    def _in_reading_order(self, sequences: torch.Tensor) -> torch.Tensor:
        """Sequences [T, N, F], read from their own ends where reverse; a copy either way."""
        if not self._reverse:
            return sequences.clone()
        t, lengths = torch.arange(len(sequences))[:, None], self._lengths
        index = torch.where(t < lengths, lengths - 1 - t, t)
        return sequences.gather(0, index[:, :, None].expand_as(sequences))

    def run(self, y_below: torch.Tensor, h0: torch.Tensor, c0: torch.Tensor) -> None:
        """All steps; `h` and `c` are then the states at each sequence's own end."""
        self._x, self._h0, self._c0 = self._in_reading_order(y_below), h0, c0
        self._x.retain_grad()
        kernel = None
        if isinstance(self._arithmetic, Exact) and self._cell is lstm_cell:
            kernel = Kernel(self._config.hidden_size, h0.dtype)
        self.h, self.c = h0, c0
        for x_t, alive in zip(self._x, self._alive[:, :, None], strict=True):
            w = {base: self._arithmetic.weight(leaf) for base, leaf in self._leaves.items()}
            copies = {}
            for base in w.keys() - set(LINEAR):
                copies[base] = w[base].expand(len(h0), *w[base].shape)
            z = functional.linear(x_t, w["weight_ih"], w.get("bias", w.get("bias_ih")))
            z = z + functional.linear(self.h, w["weight_hh"], w.get("bias_hh"))
            blocks = z.chunk(z.shape[1] // c0.shape[1], dim=1)
            if kernel is None:
                values = self._cell(self._arithmetic, blocks, self.c, copies)
            else:
                values = kernel.cell(blocks, self.c)
            h = values["m"]
            if "weight_hr" in w:
                h = functional.linear(h, w["weight_hr"])
            record = w | values | {"z": z, "h": h}
            for tensor in (*record.values(), *copies.values()):
                if tensor.requires_grad:
                    tensor.retain_grad()
            self._records.append(record)
            self._copies.append(copies)
            self.h = torch.where(alive, h, self.h)
            self.c = torch.where(alive, values["c"], self.c)

    def outputs(self) -> torch.Tensor:
        """h of every step [T, N, P], in the order of the inputs."""
        return self._in_reading_order(torch.stack([record["h"] for record in self._records]))

    def _values(self, name: str) -> torch.Tensor:
        return _zero_at_padding(_step_values(self._records, name), self._alive)

    def steps(self) -> Tensors:
        """Every quantity under its name, in the order of computation, zero at padding."""
        steps = {}
        for name in (*self._config.step_values, "h"):
            steps[name + self._label] = self._values(name)
        for name in ("dh", *self._config.step_gradients):
            steps[name + self._label] = _zero_at_padding(
                _step_gradients(self._records, name[1:]), self._alive
            )
        steps["dx" + self._label] = _zero_at_padding(gradient(self._x), self._alive)
        for base, name in self._names.items():
            steps[contribution(name)] = _step_gradients(self._records, base)
        return steps

    def magnitudes(self) -> Tensors:
        """For each contribution, the sum of its terms' magnitudes, times the root of their number.

        A term is the product of a gradient and an input, of one sequence.
        """
        dz = _zero_at_padding(_step_gradients(self._records, "z"), self._alive).abs()
        h_prev = torch.cat([self._h0.detach()[None], self._values("h")[:-1]])
        sums: Tensors = {name: dz.sum(dim=1) for name in BIASES}
        sums["weight_ih"] = dz.transpose(1, 2) @ self._x.detach().abs()
        sums["weight_hh"] = dz.transpose(1, 2) @ h_prev.abs()
        if "weight_hr" in self._leaves:
            dh = _zero_at_padding(_step_gradients(self._records, "h"), self._alive).abs()
            sums["weight_hr"] = dh.transpose(1, 2) @ self._values("m").abs()
        for base in self._copies[0]:
            terms = torch.stack([gradient(copies[base]) for copies in self._copies])
            sums[base] = _zero_at_padding(terms, self._alive).abs().sum(dim=1)
        root = self._alive.shape[1] ** 0.5
        return {contribution(name): sums[base] * root for base, name in self._names.items()}


class _Head:
    """The language model's output: W_v, b_v and the loss, step by step."""

    def __init__(self, leaves: Tensors, arithmetic: Arithmetic) -> None:
        self._leaves = {n: leaf for n, leaf in leaves.items() if n.startswith("projection.")}
        self._arithmetic = arithmetic
        self._records: list[Tensors] = []

    def run(self, y: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of every token [T, N]."""
        self._y = y.detach()
        for y_t, target in zip(y, targets, strict=True):
            w = {name: self._arithmetic.weight(leaf) for name, leaf in self._leaves.items()}
            logits = functional.linear(y_t, w["projection.weight"], w["projection.bias"])
            log_probabilities = self._arithmetic.log_softmax(logits)
            loss = functional.nll_loss(log_probabilities, target, reduction="none")
            for tensor in (*w.values(), logits):
                tensor.retain_grad()
            self._records.append(w | {"logits": logits, "loss": loss})
        return torch.stack([record["loss"] for record in self._records])

    def steps(self, alive: torch.Tensor) -> Tensors:
        """As `_Direction.steps`; nothing where there is no language model."""
        if not self._records:
            return {}
        steps = {}
        for name in ("logits", "loss"):
            steps[name] = _zero_at_padding(_step_values(self._records, name), alive)
        steps["dlogits"] = _zero_at_padding(_step_gradients(self._records, "logits"), alive)
        for name in self._leaves:
            steps[contribution(name)] = _step_gradients(self._records, name)
        return steps

    def magnitudes(self, alive: torch.Tensor) -> Tensors:
        """As `_Direction.magnitudes`; nothing where there is no language model."""
        if not self._records:
            return {}
        dlogits = _zero_at_padding(_step_gradients(self._records, "logits"), alive).abs()
        root = alive.shape[1] ** 0.5
        return {
            contribution("projection.weight"): dlogits.transpose(1, 2) @ self._y.abs() * root,
            contribution("projection.bias"): dlogits.sum(dim=1) * root,
        }


def _zero_at_padding(tensor: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
    """Zero at padding; tensor [T, N, ...], alive [T, N]."""
    return torch.where(alive.reshape(*alive.shape, *[1] * (tensor.ndim - 2)), tensor, 0)


def _inputs(problem: Problem) -> torch.Tensor:
    """x as a leaf [T, N, I], one-hot where the problem holds tokens."""
    if np.issubdtype(problem.x.dtype, np.floating):
        return _leaf(problem.x)
    one_hot = functional.one_hot(torch.from_numpy(problem.x), problem.lstm.input_size)
    return one_hot.to(torch.from_numpy(problem.h0).dtype).requires_grad_()


def _leaf(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).detach().requires_grad_()


def _step_values(records: list[Tensors], name: str) -> torch.Tensor:
    return torch.stack([record[name].detach() for record in records])


def _step_gradients(records: list[Tensors], name: str) -> torch.Tensor:
    return torch.stack([gradient(record[name]) for record in records])


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The gradient of the scalar, zero where it did not depend on the tensor."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _arrays(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
