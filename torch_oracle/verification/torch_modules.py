"""A torch module as an adapter: its parameters replaced, its gradients by autograd."""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from torch_oracle.proof.nn_lstm import run_lstm
from torch_oracle.proof.torch_trace import gradient
from torch_oracle.verification.outputs import AdapterError

CELL_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class WrappedModule:
    """A module as a function of the layer form, whose states are [layers, N, H]."""

    function: Callable[..., Any]
    config: Mapping[str, Any]
    """Options of `LSTM`, by name."""
    sizes: tuple[int, int]
    """The sizes (I, H) of its weights."""
    takes_lengths: bool


def wrap(module: nn.Module, name: str) -> WrappedModule:
    """The module as a function, in evaluation mode (without dropout); a copy of it is run.

    A module with the parameters of nn.LSTM is called as ``module(x, (h0, c0))`` and gives
    ``y, (h_n, c_n)``; one with those of nn.LSTMCell as ``module(x_t, (h, c))``, giving ``h, c``.

    Raises:
        InputError: its parameters have other names or shapes than those of either.
    """
    shapes = {n: tuple(parameter.shape) for n, parameter in module.named_parameters()}
    is_cell = "weight_ih" in shapes
    config = _config({f"{n}_l0": shape for n, shape in shapes.items()} if is_cell else shapes)
    if config is None:
        raise InputError(
            f"{name}: {type(module).__name__} has the parameters {list(shapes)}; expected those of"
            f" nn.LSTM (weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...) or nn.LSTMCell"
            f" ({', '.join(CELL_NAMES)}); write an adapter, a function of weights and x"
        )
    copies = _Copies(module)

    def sequence(
        weights: Any, x: Any, h0: Any, c0: Any, dy: Any, dh_n: Any, dc_n: Any, lengths: Any = None
    ) -> dict[str, Any]:
        return run_lstm(copies.with_weights(weights), x, h0, c0, dy, dh_n, dc_n, lengths)

    def steps(
        weights: Any, x: Any, h0: Any, c0: Any, dy: Any, dh_n: Any, dc_n: Any
    ) -> dict[str, Any]:
        cell_weights = {n.removesuffix("_l0"): array for n, array in weights.items()}
        return run_cell(copies.with_weights(cell_weights), x, h0, c0, dy, dh_n, dc_n)

    names = ("num_layers", "bias", "bias_pair", "bidirectional", "proj_size")
    return WrappedModule(
        function=steps if is_cell else sequence,
        config={each: getattr(config, each) for each in names},
        sizes=(config.input_size, config.hidden_size),
        takes_lengths=isinstance(module, nn.LSTM),
    )


class _Copies:
    """Copies of a module, one for each dtype, so that the user's own keeps its weights."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._by_dtype: dict[torch.dtype, nn.Module] = {}

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> nn.Module:
        """The copy in the weights' dtype, with these weights and without gradients."""
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        dtype = next(iter(tensors.values())).dtype
        if dtype not in self._by_dtype:
            module = copy.deepcopy(self._module).to(dtype)
            self._by_dtype[dtype] = module.eval().requires_grad_()
        module = self._by_dtype[dtype]
        module.load_state_dict(tensors, strict=False)
        module.zero_grad()
        return module


def _config(shapes: Mapping[str, tuple[int, ...]]) -> LSTM | None:
    """The LSTM whose parameters have these names and shapes; None if there is none."""
    try:
        (G, P), (_, I) = shapes["weight_hh_l0"], shapes["weight_ih_l0"]
        layers = [int(number) for n in shapes for number in re.findall(r"_l(\d+)", n)]
        config = LSTM(
            I,
            G // 4,
            1 + max(layers),
            bias=any(n.startswith("bias") for n in shapes),
            bias_pair="bias_ih_l0" in shapes,
            bidirectional="weight_ih_l0_reverse" in shapes,
            proj_size=P if "weight_hr_l0" in shapes else 0,
        )
    except (KeyError, ValueError):
        return None
    expected = {
        n: tuple(size for _, size in shape) for n, shape in config.parameter_shapes().items()
    }
    return config if expected == dict(shapes) else None


def run_cell(
    module: nn.Module,
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    dy: np.ndarray,
    dh_n: np.ndarray,
    dc_n: np.ndarray,
) -> dict[str, np.ndarray]:
    """Outputs and gradients of a cell, step by step; x [T, N, I], dy [T, N, H], states [1, N, H].

    The states of every step keep their gradients: dh and dc.
    """
    inputs = {name: torch.from_numpy(a) for name, a in {"x": x, "h0": h0, "c0": c0}.items()}
    for tensor in inputs.values():
        tensor.requires_grad_()
    h, c = inputs["h0"][0], inputs["c0"][0]
    h_steps, c_steps = [], []
    for x_t in inputs["x"]:
        state = module(x_t, (h, c))
        if not (isinstance(state, tuple) and len(state) == 2):
            raise AdapterError(f"returns {type(state).__name__} for a step; expected (h, c)")
        h, c = state
        for tensor in (h, c):
            if tensor.requires_grad:
                tensor.retain_grad()
        h_steps.append(h)
        c_steps.append(c)
    y = torch.stack(h_steps)
    cotangents = [torch.from_numpy(d) for d in (dy, dh_n[0], dc_n[0])]
    torch.autograd.backward([y, h, c], cotangents)
    result = {"y": y, "h": y, "c": torch.stack(c_steps), "h_n": h[None], "c_n": c[None]}
    result["dh"] = torch.stack([gradient(tensor) for tensor in h_steps])
    result["dc"] = torch.stack([gradient(tensor) for tensor in c_steps])
    result |= {f"d{name}": gradient(tensor) for name, tensor in inputs.items()}
    result |= {f"{n}_l0": gradient(parameter) for n, parameter in module.named_parameters()}
    return {name: tensor.detach().numpy() for name, tensor in result.items()}
