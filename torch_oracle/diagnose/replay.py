"""The hand-written code in its plain form, `unrolled.py`, laid out as a trace.

The verdict on anybody's LSTM is torch's alone. This is what a suspicion is tested with: if the
plain code with a known fault in it gives the same wrong numbers, that is the fault.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from numpy_lstm import language_model
from numpy_lstm.fast.packing import Packing
from numpy_lstm.language_model import (
    LanguageModel,
    language_model_backward,
    language_model_forward,
    projection_gradients,
)
from numpy_lstm.lstm import LSTM, LSTMCache, LSTMGradients, Parameters, named_gradients
from numpy_lstm.unrolled import (
    UnrolledCache,
    UnrolledGradients,
    UnrolledLSTMCache,
    UnrolledLSTMGradients,
    unrolled_lstm_backward,
    unrolled_lstm_forward,
)
from torch_oracle.proof.trace import Problem, Trace, contribution, label
from torch_oracle.proof.witnesses import STEP, differentiable, with_inputs


def unrolled_trace(problem: Problem) -> Trace:
    """The trace of a problem by `unrolled.py`; of a language model with the real code around it."""
    p = problem
    alive = p.lengths > np.arange(len(p.x))[:, None]
    if isinstance(p.config, LanguageModel):
        steps, totals, cache, g = _language_model(p, p.config)
    else:
        assert p.dy is not None
        (y, h_n, c_n), cache = unrolled_lstm_forward(
            p.config, p.parameters, p.x, p.h0, p.c0, p.lengths, p.masks
        )
        g = unrolled_lstm_backward(np.where(alive[:, :, None], p.dy, 0), cache, p.dh_n, p.dc_n)
        steps, totals = {}, {"h_n": h_n, "c_n": c_n, "dh0": g.dh0, "dc0": g.dc0}
        totals |= {"y": y, "dx": g.dx}
        totals |= {contribution(name): gradient for name, gradient in g.parameters.items()}
    prefix = "lstm." if isinstance(p.config, LanguageModel) else ""
    for suffix, forward, backward in zip(
        p.lstm.suffixes, cache.directions, g.directions, strict=True
    ):
        steps |= _direction(p.lstm, suffix, prefix, forward, backward, alive)
    return Trace(steps, totals)


def _direction(
    config: LSTM,
    suffix: str,
    prefix: str,
    forward: UnrolledCache,
    backward: UnrolledGradients,
    alive: np.ndarray,
) -> dict[str, np.ndarray]:
    """The steps of one direction of one layer."""
    gates = ("i", "g", "o") if config.coupled else ("i", "f", "g", "o")
    names = ("i", "f", "g", "o", "c")
    steps = {name: np.stack([getattr(step, name) for step in forward.steps]) for name in names}
    steps["h"] = forward.h[1:]
    a = np.stack([step.a for step in forward.steps])
    da = np.stack([step.da for step in backward.steps])
    for gate, a_gate, da_gate in zip(
        gates, np.split(a, len(gates), axis=2), np.split(da, len(gates), axis=2), strict=True
    ):
        steps |= {f"a_{gate}": a_gate, f"da_{gate}": da_gate}
    steps["dh"] = backward.dh
    steps |= {n: np.stack([getattr(s, n) for s in backward.steps]) for n in ("dc", "dx")}
    steps = {
        f"{name}{label(suffix)}": np.where(alive[:, :, None], array, 0)
        for name, array in steps.items()
    }
    for t, step in enumerate(backward.steps):
        weights = {"weight_ih": step.dW_ih, "weight_hh": step.dW_hh, "bias": step.db}
        weights |= {} if step.dW_hr is None else {"weight_hr": step.dW_hr}
        weights |= {} if step.dW_ch is None else {"weight_ch": step.dW_ch}
        for name, gradient in named_gradients(config, suffix, weights).items():
            name = contribution(prefix + name)
            steps.setdefault(name, np.empty((len(alive), *gradient.shape), gradient.dtype))
            steps[name][t] = gradient
    return steps


def slope(problem: Problem, name: str, direction: np.ndarray) -> float:
    """Derivative of the scalar along a direction in one input, by the plain forward pass.

    It is the complex step's (`witnesses`), so it is exact for the forward pass as it stands: where
    that has a fault, it is what autograd would make of it.
    """
    inputs = {key: value.astype(complex) for key, value in differentiable(problem).items()}
    inputs[name] += direction * (1j * STEP)
    p = with_inputs(problem, inputs)
    if isinstance(p.config, LanguageModel):
        assert p.targets is not None
        with _PlainLSTM().inside():
            outputs, _ = language_model_forward(
                p.config, p.parameters, p.x, p.targets, p.lengths, (p.h0, p.c0)
            )
        value, h_n, c_n = p.dloss * outputs.losses.sum(), outputs.h_n, outputs.c_n
    else:
        assert p.dy is not None
        (y, h_n, c_n), _ = unrolled_lstm_forward(
            p.config, p.parameters, p.x, p.h0, p.c0, p.lengths, p.masks
        )
        value = (y * p.dy).sum()
    total = value + (h_n * p.dh_n).sum() + (c_n * p.dc_n).sum()
    return float(total.imag / STEP)


@dataclass(frozen=True)
class _PlainCache(LSTMCache):
    """In the place of the language model's cache of its LSTM."""

    plain: UnrolledLSTMCache | None = None


class _PlainLSTM:
    """`packed_forward` and `packed_backward` of the plain loop; keeps the last results."""

    cache: UnrolledLSTMCache
    gradients: UnrolledLSTMGradients

    def packed_forward(
        self,
        config: LSTM,
        parameters: Parameters,
        tokens: np.ndarray,
        packing: Packing,
        h0: np.ndarray,
        c0: np.ndarray,
        **_: Any,
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], _PlainCache]:
        """In the place of `lstm.packed_forward`; tokens become one-hot vectors."""
        sizes = np.array(packing.batch_sizes)[:, None]
        lengths = np.empty(packing.N, np.int64)
        lengths[packing.order] = (sizes > np.arange(packing.N)).sum(axis=0)
        x = packing.unpack(np.eye(config.input_size, dtype=h0.dtype)[tokens])
        (y, h_n, c_n), self.cache = unrolled_lstm_forward(config, parameters, x, h0, c0, lengths)
        cache = _PlainCache(config, packing, (), (), plain=self.cache)
        return (packing.pack(y), h_n, c_n), cache

    def packed_backward(
        self, dy: np.ndarray, cache: _PlainCache, dh_n: np.ndarray, dc_n: np.ndarray, **_: Any
    ) -> LSTMGradients:
        """In the place of `lstm.packed_backward`."""
        assert cache.plain is not None
        g = unrolled_lstm_backward(cache.packing.unpack(dy), cache.plain, dh_n, dc_n)
        self.gradients = g
        return LSTMGradients(g.parameters, None, g.dh0, g.dc0)

    def inside(self) -> AbstractContextManager[Any]:
        """Run the language model with this LSTM in it."""
        plain = {"packed_forward": self.packed_forward, "packed_backward": self.packed_backward}
        return mock.patch.multiple(language_model, **plain)


def _language_model(
    p: Problem, config: LanguageModel
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], UnrolledLSTMCache, UnrolledLSTMGradients]:
    """Steps and totals of `language_model.py` over the plain loop, and the loop's own results."""
    assert p.targets is not None
    plain = _PlainLSTM()
    with plain.inside():
        outputs, cache = language_model_forward(
            config, p.parameters, p.x, p.targets, p.lengths, (p.h0, p.c0)
        )
        g = language_model_backward(p.dloss, cache, p.dh_n, p.dc_n)
    packing = cache.packing
    steps = {"logits": cache.logits, "loss": outputs.losses, "dlogits": g.dlogits}
    steps = {name: packing.unpack(array) for name, array in steps.items()}
    parts = []
    for t in range(len(p.x)):
        empty = t >= len(packing.batch_sizes)
        rows = slice(0) if empty else packing.rows(range(t, t + 1))
        parts.append(projection_gradients(g.dlogits[rows], cache.y[rows]))
    steps |= {contribution(name): np.stack([part[name] for part in parts]) for name in parts[0]}
    totals = {"h_n": outputs.h_n, "c_n": outputs.c_n, "dh0": g.dh0, "dc0": g.dc0}
    totals["loss"] = np.asarray(p.dloss * outputs.losses.sum())
    totals |= {contribution(name): gradient for name, gradient in g.parameters.items()}
    return steps, totals, plain.cache, plain.gradients
