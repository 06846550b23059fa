"""Every quantity of every time step of one run, from NumPy and from torch, in one schema.

All arrays are padded and time-major, zero where a sequence has ended. `dh` and `dc` are totals
(through the step's own output and through the next step); `dW_ih` and the like are the step's own
contribution to the sum of (13), (18), (22) and (23). Names of the first layer are plain, those of
others end as their parameters do (`da_f_l1_reverse`); a reverse direction counts its own steps, the
last token of each sequence being step 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from jaxtyping import Int, Shaped
from numpy.typing import DTypeLike
from torch.nn import functional

from numpy_lstm.fast.layer import LayerCache, LayerGradients, layer_values, step_weight_gradients
from numpy_lstm.fast.packing import make_packing
from numpy_lstm.language_model import (
    LanguageModel,
    language_model_backward,
    language_model_forward,
    projection_gradients,
)
from numpy_lstm.lstm import LSTM, named_gradients, packed_backward, packed_forward
from numpy_lstm.roundoff import Noise
from torch_oracle.proof.arithmetic import Arithmetic, Exact, Kernel, Noisy, Tensors, composed_cell

GATES = ("i", "f", "g", "o")
VALUES = ("a_i", "a_f", "a_g", "i", "f", "g", "c", "a_o", "o", "h")
"""Forward quantities of a layer's step, in the order of their computation."""
GRADIENTS = ("dh", "da_o", "dc", "da_i", "da_f", "da_g", "dx")
"""Backward quantities of a layer's step, in their order; then the contributions."""
CONTRIBUTIONS = {
    "weight_ih": "dW_ih",
    "weight_hh": "dW_hh",
    "bias": "db",
    "bias_ih": "db_ih",
    "bias_hh": "db_hh",
    "weight_hr": "dW_hr",
    "weight_ch": "dW_ch",
    "projection.weight": "dW_v",
    "projection.bias": "db_v",
}
"""Name of a gradient in the trace, by the name of the parameter without its layer."""


@dataclass(frozen=True)
class Problem:
    """All inputs of one forward and backward run: an LSTM's, or a language model's.

    The scalar that is differentiated is ``<dy, y> + <dh_n, h_n> + <dc_n, c_n>`` for an LSTM, and
    ``dloss * sum of the losses + <dh_n, h_n> + <dc_n, c_n>`` for a language model.
    """

    config: LSTM | LanguageModel
    parameters: Mapping[str, np.ndarray]
    x: Shaped[np.ndarray, "T N *I"]
    """[T, N, I], or tokens [T, N]."""
    lengths: Int[np.ndarray, " N"]
    h0: Shaped[np.ndarray, "layers N P"]
    c0: Shaped[np.ndarray, "layers N H"]
    dh_n: Shaped[np.ndarray, "layers N P"]
    dc_n: Shaped[np.ndarray, "layers N H"]
    dy: Shaped[np.ndarray, "T N F"] | None = None
    """For an LSTM."""
    targets: Int[np.ndarray, "T N"] | None = None
    """For a language model."""
    dloss: float = 1.0
    masks: tuple[Shaped[np.ndarray, "T N F"], ...] = ()
    """For dropout."""

    @property
    def lstm(self) -> LSTM:
        """Configuration of the LSTM."""
        return self.config.lstm if isinstance(self.config, LanguageModel) else self.config


@dataclass(frozen=True)
class Trace:
    """Per step: name -> [T, ...]. Totals: h_n, c_n, dh0, dc0 and the parameters' gradients; of an
    LSTM y and dx, in which directions are joined; of a language model ``dloss * sum of the losses``
    as loss [].

    `magnitudes` [T, ...], from torch alone: of each contribution, which is a sum over the batch,
    the sum of its terms' magnitudes times the root of their number.
    """

    steps: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]
    magnitudes: dict[str, np.ndarray] = field(default_factory=dict)


def label(suffix: str) -> str:
    """How the names of a layer's quantities end: as its parameters', but plain for the first."""
    return "" if suffix == "_l0" else suffix


def contribution(parameter: str) -> str:
    """Name in the trace of a parameter's gradient."""
    base, mark, layer = parameter.removeprefix("lstm.").rpartition("_l")
    return CONTRIBUTIONS[base] + label(mark + layer) if mark else CONTRIBUTIONS[parameter]


def in_dtype(problem: Problem, dtype: DTypeLike) -> Problem:
    """The same problem with its floating-point arrays in another dtype."""

    def cast(array: np.ndarray) -> np.ndarray:
        return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

    return _converted(problem, cast, cast)


def moved(problem: Problem, noise: Noise) -> Problem:
    """The same problem in float64, its inputs and parameters moved by noise."""
    return _converted(
        in_dtype(problem, np.float64),
        noise.moved,
        lambda parameter: parameter * noise.factors(parameter.shape),
    )


def _converted(
    problem: Problem,
    inputs: Callable[[np.ndarray], np.ndarray],
    parameters: Callable[[np.ndarray], np.ndarray],
) -> Problem:
    """The problem with a function applied to each of its arrays."""
    arrays = {
        field.name: inputs(value)
        for field in fields(problem)
        if isinstance(value := getattr(problem, field.name), np.ndarray)
    }
    masks = tuple(inputs(mask) for mask in problem.masks)
    converted = {name: parameters(array) for name, array in problem.parameters.items()}
    return replace(problem, parameters=converted, masks=masks, **arrays)


def numpy_trace(problem: Problem) -> Trace:
    """Run the hand-written code and lay its own intermediate results out."""
    p = problem
    if isinstance(p.config, LanguageModel):
        assert p.targets is not None
        outputs, model_cache = language_model_forward(
            p.config,
            p.parameters,
            p.x,
            p.targets,
            p.lengths,
            (p.h0, p.c0),
            keep_preactivations=True,
        )
        g = language_model_backward(p.dloss, model_cache, p.dh_n, p.dc_n, keep_steps=True)
        cache, states = model_cache.lstm, (outputs.h_n, outputs.c_n)
        packing, prefix = cache.packing, "lstm."
        whole = {"loss": np.asarray(p.dloss * outputs.losses.sum())}
        steps = {"logits": model_cache.logits, "loss": outputs.losses, "dlogits": g.dlogits}
        steps = {name: packing.unpack(array) for name, array in steps.items()}
        rows = [packing.rows(range(t, t + 1)) for t in range(len(packing.batch_sizes))]
        parts = [projection_gradients(g.dlogits[r], model_cache.y[r]) for r in rows]
        steps |= _contributions(parts, packing.T)
    else:
        assert p.dy is not None
        packing = make_packing(p.x.shape[0], p.x.shape[1], p.lengths)
        (y, *states), cache = packed_forward(
            p.config,
            p.parameters,
            packing.pack(p.x),
            packing,
            p.h0,
            p.c0,
            masks=p.masks,
            keep_preactivations=True,
        )
        g = packed_backward(packing.pack(p.dy), cache, p.dh_n, p.dc_n, keep_steps=True)
        assert g.dx is not None
        steps, prefix, whole = {}, "", {"y": packing.unpack(y), "dx": packing.unpack(g.dx)}
    for suffix, layer, gradients in zip(p.lstm.suffixes, cache.layers, g.layers, strict=True):
        steps |= _numpy_layer(p.lstm, suffix, prefix, layer, gradients)
    totals = dict(zip(("h_n", "c_n"), states, strict=True)) | {"dh0": g.dh0, "dc0": g.dc0}
    totals |= whole
    totals |= {contribution(name): gradient for name, gradient in g.parameters.items()}
    return Trace(steps, totals)


def _numpy_layer(
    config: LSTM, suffix: str, prefix: str, cache: LayerCache, gradients: LayerGradients
) -> dict[str, np.ndarray]:
    """The steps of one direction of one layer."""
    packing, steps = cache.packing, gradients.steps
    assert steps is not None
    assert gradients.dx is not None
    packed = layer_values(cache)
    packed |= {"dh": steps.dh, "dc": steps.dc, "dx": gradients.dx}
    gates = ("i", "g", "o") if config.coupled else GATES
    blocks = np.split(steps.da, len(gates), axis=1)
    packed |= {f"da_{gate}": block for gate, block in zip(gates, blocks, strict=True)}
    by_step = {f"{name}{label(suffix)}": packing.unpack(array) for name, array in packed.items()}
    parts = [
        named_gradients(config, suffix, step_weight_gradients(cache, steps, t))
        for t in range(len(packing.batch_sizes))
    ]
    return by_step | _contributions(
        [{f"{prefix}{name}": array for name, array in part.items()} for part in parts], packing.T
    )


def _contributions(parts: Sequence[Mapping[str, np.ndarray]], T: int) -> dict[str, np.ndarray]:
    """Each step's contribution to each parameter's gradient, padded to T steps."""
    by_step = {}
    for name, first in parts[0].items():
        array = np.zeros((T, *first.shape), first.dtype)
        array[: len(parts)] = np.stack([part[name] for part in parts])
        by_step[contribution(name)] = array
    return by_step


def torch_trace(problem: Problem, noise: Noise | None = None) -> Trace:
    """The same run by `nn.LSTMCell` and autograd.

    Each step uses its own clone of every weight, whose gradient is that step's contribution. The
    pre-activations are made by `functional.linear` and handed to the cell (`arithmetic.Kernel`).
    Where the problem has peepholes or coupled gates, autograd goes through single operations.

    Args:
        problem: the inputs.
        noise: run a noisy twin instead, in float64: `moved`, and by `arithmetic.Noisy`.
    """
    if noise is not None:
        problem = moved(problem, noise)
    config, arithmetic = problem.lstm, Exact() if noise is None else Noisy(noise)
    leaves = {name: _leaf(array) for name, array in problem.parameters.items()}
    h0, c0, x = _leaf(problem.h0), _leaf(problem.c0), _torch_inputs(problem)
    lengths = torch.from_numpy(problem.lengths)
    directions, y = [], x
    for k, suffix in enumerate(config.suffixes):
        prefix = "lstm." if isinstance(problem.config, LanguageModel) else ""
        names = {n: n[len(prefix) : -len(suffix)] for n in leaves if n.endswith(suffix)}
        weights = {names[n]: leaf for n, leaf in leaves.items() if n in names}
        direction = _Direction(config, suffix, list(names), arithmetic, weights, lengths)
        direction.run(y, h0[k], c0[k])
        directions.append(direction)
        if (k + 1) % config.directions == 0:
            y = torch.cat([d.outputs() for d in directions[-config.directions :]], dim=2)
            if problem.masks and k + 1 < len(config.suffixes):
                y = y * torch.from_numpy(problem.masks[k // config.directions])
    h_n = torch.stack([direction.h for direction in directions])
    c_n = torch.stack([direction.c for direction in directions])
    scalar = (h_n * torch.from_numpy(problem.dh_n)).sum()
    scalar = scalar + (c_n * torch.from_numpy(problem.dc_n)).sum()
    alive = lengths > torch.arange(len(x))[:, None]
    top, loss = _Projection(leaves, arithmetic), None
    if problem.targets is None:
        assert problem.dy is not None
        scalar = scalar + torch.where(alive[:, :, None], y * torch.from_numpy(problem.dy), 0).sum()
    else:
        losses = top.run(y, torch.from_numpy(problem.targets))
        loss = problem.dloss * torch.where(alive, losses, 0).sum()
        scalar = scalar + loss
    scalar.backward()
    steps, magnitudes = top.layout(alive)
    for direction in directions:
        more, sums = direction.layout(alive)
        steps, magnitudes = steps | more, magnitudes | sums
    totals = {"h_n": h_n.detach(), "c_n": c_n.detach()}
    totals |= {"dh0": gradient(h0), "dc0": gradient(c0)}
    if loss is not None:
        totals["loss"] = loss.detach()
    else:
        totals |= {"y": _blank(y.detach(), alive), "dx": _blank(gradient(x), alive)}
    totals |= {contribution(name): gradient(leaf) for name, leaf in leaves.items()}
    return Trace(_arrays(steps), _arrays(totals), {} if noise is not None else _arrays(magnitudes))


class _Direction:
    """One direction of one layer: its steps' tensors, kept until autograd has filled them."""

    def __init__(
        self,
        config: LSTM,
        suffix: str,
        names: list[str],
        arithmetic: Arithmetic,
        weights: Tensors,
        lengths: torch.Tensor,
    ) -> None:
        self._config, self._label, self._names = config, label(suffix), names
        self._arithmetic, self._weights, self._lengths = arithmetic, weights, lengths
        self._reverse = suffix.endswith("_reverse")
        self._records: list[Tensors] = []

    def _mirrored(self, sequences: torch.Tensor) -> torch.Tensor:
        """Each sequence [T, N, F] read from its own end; a copy either way."""
        if not self._reverse:
            return sequences.clone()
        t, lengths = torch.arange(len(sequences))[:, None], self._lengths
        index = torch.where(t < lengths, lengths - 1 - t, t)
        return sequences.gather(0, index[:, :, None].expand_as(sequences))

    def run(self, y_below: torch.Tensor, h0: torch.Tensor, c0: torch.Tensor) -> None:
        """All steps; `h` and `c` are then the states at each sequence's own end."""
        self._x, self._h0, self._c0 = self._mirrored(y_below), h0, c0
        self._x.retain_grad()
        plain = isinstance(self._arithmetic, Exact) and "weight_ch" not in self._weights
        kernel = None
        if plain and not self._config.coupled:
            kernel = Kernel(self._config.hidden_size, h0.dtype)
        self.h, self.c = h0, c0
        for t, x_t in enumerate(self._x):
            w = {name: self._arithmetic.weight(leaf) for name, leaf in self._weights.items()}
            a = functional.linear(x_t, w["weight_ih"], w.get("bias", w.get("bias_ih")))
            a = a + functional.linear(self.h, w["weight_hh"], w.get("bias_hh"))
            if kernel is None:
                peephole, coupled = w.get("weight_ch"), self._config.coupled
                values = composed_cell(self._arithmetic, a, self.c, peephole, coupled)
            else:
                values = kernel.cell(a, self.c)
            h = functional.linear(values["m"], w["weight_hr"]) if "weight_hr" in w else values["m"]
            record = w | {"a": a, "h": h} | values
            for name in (*w, "a", "c", "h"):
                record[name].retain_grad()
            self._records.append(record)
            alive = (self._lengths > t)[:, None]
            self.h, self.c = torch.where(alive, h, self.h), torch.where(alive, record["c"], self.c)

    def outputs(self) -> torch.Tensor:
        """h of every step [T, N, P], in the order of the inputs."""
        return self._mirrored(torch.stack([record["h"] for record in self._records]))

    def layout(self, alive: torch.Tensor) -> tuple[Tensors, Tensors]:
        """Steps and magnitudes under their names, with blanks beyond the lengths."""
        records, gates = self._records, ("i", "g", "o") if self._config.coupled else GATES

        def values(name: str) -> torch.Tensor:
            return _blank(torch.stack([record[name].detach() for record in records]), alive)

        def gradients(name: str) -> torch.Tensor:
            return torch.stack([gradient(record[name]) for record in records])

        a, da = (
            block.chunk(len(gates), dim=2) for block in (values("a"), _blank(gradients("a"), alive))
        )
        steps = {name: values(name) for name in (*GATES, "c", "h")}
        steps |= {f"a_{gate}": block for gate, block in zip(gates, a, strict=True)}
        steps |= {name: values(name) for name in ("a_i", "a_f", "a_o") if name in records[0]}
        steps |= {f"da_{gate}": block for gate, block in zip(gates, da, strict=True)}
        steps |= {f"d{name}": _blank(gradients(name), alive) for name in ("h", "c")}
        steps["dx"] = _blank(gradient(self._x), alive)
        steps = {name + self._label: tensor for name, tensor in steps.items()}
        bases = list(self._weights)
        contributions = {
            contribution(name): gradients(base)
            for name, base in zip(self._names, bases, strict=True)
        }
        sums = self._magnitudes(alive, torch.cat(da, dim=2).abs())
        magnitudes = {
            contribution(name): sums[base] for name, base in zip(self._names, bases, strict=True)
        }
        return steps | contributions, magnitudes

    def _magnitudes(self, alive: torch.Tensor, da: torch.Tensor) -> Tensors:
        """|delta|^T |input| for each weight, |delta| summed for each bias; see `Trace`."""

        def values(name: str) -> torch.Tensor:
            return _blank(torch.stack([r[name].detach() for r in self._records]), alive)

        def product(delta: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
            return delta.transpose(1, 2) @ factor.abs()

        c, root = values("c"), len(self._lengths) ** 0.5
        h_prev = torch.cat([self._h0.detach()[None], values("h")[:-1]])
        c_prev = torch.cat([self._c0.detach()[None], c[:-1]])
        sums = {
            "weight_ih": product(da, self._x.detach()),
            "weight_hh": product(da, h_prev),
        } | dict.fromkeys(("bias", "bias_ih", "bias_hh"), da.sum(dim=1))
        if "weight_hr" in self._weights:
            dh = torch.stack([gradient(record["h"]) for record in self._records])
            sums["weight_hr"] = product(_blank(dh, alive).abs(), values("m"))
        if "weight_ch" in self._weights:
            *reading, (_, da_o) = enumerate(da.chunk(3 if self._config.coupled else 4, dim=2))
            before = [block for _, block in reading[: len(self._weights["weight_ch"]) - 1]]
            terms = [block * c_prev.abs() for block in before] + [da_o * c.abs()]
            sums["weight_ch"] = torch.stack([term.sum(dim=1) for term in terms], dim=1)
        return {name: sums[name] * root for name in self._weights}


class _Projection:
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

    def layout(self, alive: torch.Tensor) -> tuple[Tensors, Tensors]:
        """Steps and magnitudes; nothing where there is no language model."""
        if not self._records:
            return {}, {}
        stacked = {
            name: torch.stack([record[name].detach() for record in self._records])
            for name in ("logits", "loss")
        }
        gradients = {
            name: torch.stack([gradient(record[name]) for record in self._records])
            for name in ("logits", *self._leaves)
        }
        steps = {name: _blank(tensor, alive) for name, tensor in stacked.items()}
        steps["dlogits"] = _blank(gradients["logits"], alive)
        delta, root = steps["dlogits"].abs(), alive.shape[1] ** 0.5
        magnitudes = {
            "projection.weight": delta.transpose(1, 2) @ self._y.abs() * root,
            "projection.bias": delta.sum(dim=1) * root,
        }
        steps |= {contribution(name): gradients[name] for name in self._leaves}
        return steps, {contribution(name): sums for name, sums in magnitudes.items()}


def _blank(tensor: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
    """Zero beyond the lengths; tensor [T, N, ...], alive [T, N]."""
    return torch.where(alive.reshape(*alive.shape, *[1] * (tensor.ndim - 2)), tensor, 0)


def _torch_inputs(problem: Problem) -> torch.Tensor:
    """x as a leaf [T, N, I], one-hot where the problem holds tokens."""
    if np.issubdtype(problem.x.dtype, np.floating):
        return _leaf(problem.x)
    one_hot = functional.one_hot(torch.from_numpy(problem.x), problem.lstm.input_size)
    return one_hot.to(torch.from_numpy(problem.h0).dtype).requires_grad_()


def _leaf(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).detach().requires_grad_()


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The gradient, zero where the scalar did not depend on the tensor."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _arrays(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
