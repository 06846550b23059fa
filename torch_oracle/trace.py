"""Every quantity of every time step of one run, from NumPy and from torch, in one schema.

All arrays are padded and time-major, zero where a sequence has ended. `dh` and `dc` are totals
(through the step's own output and through the next step); `dW_ih` and the like are the step's own
contribution to the sum of (13) and (18).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch.nn import functional

from numpy_lstm.language_model import (
    LanguageModel,
    all_parameter_gradients,
    language_model_backward,
    language_model_forward,
)
from numpy_lstm.lstm import (
    LSTM,
    LSTMCache,
    StepGradients,
    input_gradient,
    packed_backward,
    packed_forward,
    parameter_gradients,
)
from numpy_lstm.packing import make_packing
from torch_oracle.arithmetic import Arithmetic, Kernel, Noise, Noisy, Tensors
from torch_oracle.oracle import cell_name

GATES = ("i", "f", "g", "o")
VALUES = ("a_i", "a_f", "a_g", "a_o", "i", "f", "g", "o", "c", "h", "logits", "loss")
"""Forward quantities of a step, in the order of their computation."""
GRADIENTS = ("dlogits", "dh", "da_o", "dc", "da_i", "da_f", "da_g", "dx")
"""Backward quantities of a step, in the order of their computation; then the contributions."""
CONTRIBUTIONS = {
    "weight_ih": "dW_ih",
    "weight_hh": "dW_hh",
    "bias": "db",
    "bias_ih": "db_ih",
    "bias_hh": "db_hh",
    "projection.weight": "dW_v",
    "projection.bias": "db_v",
}
"""Name of a gradient in the trace, by the name of the parameter."""


@dataclass(frozen=True)
class Problem:
    """All inputs of one forward and backward run: a layer's, or a language model's.

    The scalar that is differentiated is ``<dy, y> + <dh_n, h_n> + <dc_n, c_n>`` for a layer, and
    ``dloss * sum of the losses + <dh_n, h_n> + <dc_n, c_n>`` for a language model.
    """

    config: LSTM | LanguageModel
    parameters: Mapping[str, np.ndarray]
    x: Shaped[np.ndarray, "T N *I"]
    """[T, N, I], or tokens [T, N]."""
    lengths: Int[np.ndarray, " N"]
    h0: Shaped[np.ndarray, "N H"]
    c0: Shaped[np.ndarray, "N H"]
    dh_n: Shaped[np.ndarray, "N H"]
    dc_n: Shaped[np.ndarray, "N H"]
    dy: Shaped[np.ndarray, "T N H"] | None = None
    """For a layer."""
    targets: Int[np.ndarray, "T N"] | None = None
    """For a language model."""
    dloss: float = 1.0


@dataclass(frozen=True)
class Trace:
    """Per step: name -> [T, ...]. Totals: h_n, c_n, dh0, dc0 and the parameters' gradients.

    `magnitudes` [T, ...], from torch alone: of each contribution, which is a sum over the batch,
    the sum of its terms' magnitudes times the root of their number.
    """

    steps: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]
    magnitudes: dict[str, np.ndarray] = field(default_factory=dict)


def contribution(parameter: str) -> str:
    """Name in the trace of a parameter's gradient."""
    return CONTRIBUTIONS[parameter.removeprefix("lstm.").removesuffix("_l0")]


def one_ulp_away(problem: Problem, noise: Noise) -> Problem:
    """The same problem with every floating input moved to a neighbouring number."""
    arrays = {
        field.name: noise.neighbour(value)
        for field in fields(problem)
        if isinstance(value := getattr(problem, field.name), np.ndarray)
    }
    parameters = {name: noise.neighbour(array) for name, array in problem.parameters.items()}
    return replace(problem, parameters=parameters, **arrays)


def numpy_trace(problem: Problem) -> Trace:
    """Run the hand-written code and lay its own intermediate results out."""
    if isinstance(problem.config, LanguageModel):
        return _numpy_model_trace(problem, problem.config)
    packing = make_packing(problem.x.shape[0], problem.x.shape[1], problem.lengths)
    x, dy = packing.pack(problem.x), problem.dy
    assert dy is not None
    cache = packed_forward(
        problem.config, problem.parameters, x, packing, problem.h0, problem.c0, True
    )
    steps, dh0, dc0 = packed_backward(packing.pack(dy), cache, problem.dh_n, problem.dc_n)
    contributions = [parameter_gradients(cache, steps, t) for t in range(len(packing.batch_sizes))]
    totals = parameter_gradients(cache, steps)
    return _numpy_layout(cache, steps, contributions, totals, dh0, dc0, {})


def _numpy_model_trace(problem: Problem, model: LanguageModel) -> Trace:
    assert problem.targets is not None
    outputs, cache = language_model_forward(
        model,
        problem.parameters,
        problem.x,
        problem.targets,
        problem.lengths,
        (problem.h0, problem.c0),
        keep_preactivations=True,
    )
    gradients = language_model_backward(problem.dloss, cache, problem.dh_n, problem.dc_n)
    contributions = [
        all_parameter_gradients(cache, gradients.dlogits, gradients.steps, t)
        for t in range(len(cache.packing.batch_sizes))
    ]
    extra = {"logits": cache.logits, "loss": outputs.losses, "dlogits": gradients.dlogits}
    return _numpy_layout(
        cache.lstm,
        gradients.steps,
        contributions,
        gradients.parameters,
        gradients.dh0,
        gradients.dc0,
        extra,
    )


def _numpy_layout(
    cache: LSTMCache,
    steps: StepGradients,
    contributions: list[dict[str, np.ndarray]],
    totals: dict[str, np.ndarray],
    dh0: np.ndarray,
    dc0: np.ndarray,
    extra: dict[str, np.ndarray],
) -> Trace:
    packing, H = cache.packing, cache.config.hidden_size
    assert cache.a is not None
    packed = extra | {
        "c": cache.c[packing.N :],
        "h": cache.y,
        "dh": steps.dh,
        "dc": steps.dc,
        "dx": input_gradient(cache, steps),
    }
    for k, gate in enumerate(GATES):
        block = slice(k * H, (k + 1) * H)
        packed[f"a_{gate}"] = cache.a[:, block]
        packed[gate] = cache.gates[:, block]
        packed[f"da_{gate}"] = steps.da[:, block]
    by_step = {name: packing.unpack(array) for name, array in packed.items()}
    for name in contributions[0]:
        array = np.zeros((packing.T, *contributions[0][name].shape), steps.da.dtype)
        array[: len(contributions)] = np.stack([c[name] for c in contributions])
        by_step[contribution(name)] = array
    named = {contribution(name): gradient for name, gradient in totals.items()}
    states = {"h_n": cache.h[packing.final], "c_n": cache.c[packing.final]}
    return Trace(by_step, states | named | {"dh0": dh0, "dc0": dc0})


def torch_trace(problem: Problem, noise: Noise | None = None) -> Trace:
    """The same run by `nn.LSTMCell` and autograd.

    Each step uses its own clone of every weight, whose gradient is that step's contribution. The
    pre-activations are made by `functional.linear` and handed to the cell (`arithmetic.Kernel`).

    Args:
        problem: the inputs.
        noise: run the noisy twin instead: inputs moved by one ulp, and `arithmetic.Noisy`.
    """
    if noise is not None:
        problem = one_ulp_away(problem, noise)
    leaves = {name: _leaf(array) for name, array in problem.parameters.items()}
    h0, c0, x = _leaf(problem.h0), _leaf(problem.c0), _torch_inputs(problem)
    arithmetic: Arithmetic = Kernel(h0.shape[1], h0.dtype) if noise is None else Noisy(noise)
    records: list[Tensors] = []
    h, c, scalar = h0, c0, h0.new_zeros(())
    lengths = torch.from_numpy(problem.lengths)
    for t in range(len(x)):
        alive = (lengths > t)[:, None]
        weights = {cell_name(name): leaf.clone() for name, leaf in leaves.items()}
        a = functional.linear(x[t], weights["weight_ih"], weights.get("bias_ih"))
        a = a + functional.linear(h, weights["weight_hh"], weights.get("bias_hh"))
        record = weights | {"a": a} | arithmetic.cell(a, c)
        if problem.targets is None:
            assert problem.dy is not None
            dy = torch.from_numpy(problem.dy[t])
            scalar = scalar + torch.where(alive, record["h"] * dy, 0).sum()
        else:
            W_v, b_v = weights["projection.weight"], weights["projection.bias"]
            record["logits"] = functional.linear(record["h"], W_v, b_v)
            target = torch.from_numpy(problem.targets[t])
            log_probabilities = arithmetic.log_softmax(record["logits"])
            record["loss"] = functional.nll_loss(log_probabilities, target, reduction="none")
            scalar = scalar + problem.dloss * torch.where(alive[:, 0], record["loss"], 0).sum()
        for name, tensor in record.items():
            if name not in (*GATES, "loss"):
                tensor.retain_grad()
        records.append(record)
        h, c = torch.where(alive, record["h"], h), torch.where(alive, record["c"], c)
    scalar = scalar + (h * torch.from_numpy(problem.dh_n)).sum()
    scalar = scalar + (c * torch.from_numpy(problem.dc_n)).sum()
    scalar.backward()
    totals = {"h_n": h.detach(), "c_n": c.detach(), "dh0": _gradient(h0), "dc0": _gradient(c0)}
    totals |= {contribution(name): _gradient(leaf) for name, leaf in leaves.items()}
    steps = _torch_layout(records, x, lengths, list(leaves))
    magnitudes = {} if noise is not None else _magnitudes(steps, x.detach(), h0.detach(), leaves)
    return Trace(_arrays(steps), _arrays(totals), _arrays(magnitudes))


def _torch_layout(
    records: list[Tensors], x: torch.Tensor, lengths: torch.Tensor, parameters: list[str]
) -> Tensors:
    """Stack the records, split the gates, and blank what lies beyond the lengths."""
    alive = lengths > torch.arange(len(records))[:, None]

    def blank(tensor: torch.Tensor) -> torch.Tensor:
        return torch.where(alive.reshape(*alive.shape, *[1] * (tensor.ndim - 2)), tensor, 0)

    def values(name: str) -> torch.Tensor:
        return blank(torch.stack([record[name].detach() for record in records]))

    def gradients(name: str) -> torch.Tensor:
        return torch.stack([_gradient(record[name]) for record in records])

    names = [name for name in (*GATES, "c", "h", "logits", "loss") if name in records[0]]
    steps = {name: values(name) for name in names}
    names = [name for name in ("logits", "h", "c") if name in records[0]]
    steps |= {f"d{name}": blank(gradients(name)) for name in names} | {"dx": blank(_gradient(x))}
    a, da = values("a").chunk(4, dim=2), blank(gradients("a")).chunk(4, dim=2)
    for k, gate in enumerate(GATES):
        steps |= {f"a_{gate}": a[k], f"da_{gate}": da[k]}
    return steps | {contribution(name): gradients(cell_name(name)) for name in parameters}


def _magnitudes(
    steps: Tensors, x: torch.Tensor, h0: torch.Tensor, parameters: Iterable[str]
) -> Tensors:
    """|delta|^T |input| for each weight, |delta| summed for each bias; see `Trace`."""
    N = h0.shape[0]
    da = torch.cat([steps[f"da_{gate}"] for gate in GATES], dim=2).abs()
    h_prev = torch.cat([h0[None], steps["h"][:-1]])
    inputs = {"weight_ih": x, "weight_hh": h_prev, "projection.weight": steps["h"]}
    magnitudes = {}
    for name in parameters:
        delta = steps["dlogits"].abs() if name.startswith("projection") else da
        factor = inputs.get(name.removeprefix("lstm.").removesuffix("_l0"))
        sums = delta.sum(dim=1) if factor is None else delta.transpose(1, 2) @ factor.abs()
        magnitudes[contribution(name)] = sums * N**0.5
    return magnitudes


def _torch_inputs(problem: Problem) -> torch.Tensor:
    """x as a leaf [T, N, I], one-hot where the problem holds tokens."""
    if np.issubdtype(problem.x.dtype, np.floating):
        return _leaf(problem.x)
    layer = problem.config.lstm if isinstance(problem.config, LanguageModel) else problem.config
    one_hot = functional.one_hot(torch.from_numpy(problem.x), layer.input_size)
    return one_hot.to(torch.from_numpy(problem.h0).dtype).requires_grad_()


def _leaf(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).detach().requires_grad_()


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The gradient, zero where the scalar did not depend on the tensor."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _arrays(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
