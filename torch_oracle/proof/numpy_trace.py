"""Traces of the hand-written code: of the fast one, and of the plain loop that specifies it."""

from collections.abc import Mapping, Sequence

import numpy as np

from numpy_lstm.config import LSTM, named_gradients
from numpy_lstm.fast.layer import LayerCache, LayerGradients
from numpy_lstm.fast.layer_inspection import layer_values, step_weight_gradients
from numpy_lstm.fast.packing import make_packing
from numpy_lstm.fast.stack import packed_backward, packed_forward
from numpy_lstm.language_model import (
    LanguageModel,
    head_backward,
    head_forward,
    language_model_backward,
    language_model_forward,
    lstm_parameters,
    projection_gradients,
)
from numpy_lstm.shapes import Shaped
from numpy_lstm.unrolled import (
    UnrolledCache,
    UnrolledGradients,
    UnrolledLSTMCache,
    UnrolledLSTMGradients,
    unrolled_lstm_backward,
    unrolled_lstm_forward,
)
from torch_oracle.proof.trace import Problem, Trace, contribution, label

Arrays = dict[str, np.ndarray]


def numpy_trace(problem: Problem) -> Trace:
    """Run the code that users run, and lay its own intermediate results out.

    That is the fast code for torch's cell, and the plain loop for a variant.
    """
    if problem.lstm.variant is not None:
        return plain_trace(problem)
    if isinstance(problem.config, LanguageModel):
        return _language_model_trace(problem, problem.config)
    p = problem
    assert p.dy is not None
    packing = make_packing(p.x.shape[0], p.x.shape[1], p.lengths)
    (y, h_n, c_n), cache = packed_forward(
        p.lstm,
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
    steps = _fast_layers(p, cache.layers, g.layers)
    totals = {"h_n": h_n, "c_n": c_n, "dh0": g.dh0, "dc0": g.dc0}
    totals |= {"y": packing.unpack(y), "dx": packing.unpack(g.dx)}
    return Trace(steps, totals | _by_contribution(g.parameters))


def _language_model_trace(p: Problem, model: LanguageModel) -> Trace:
    """The trace of a language model by the fast code."""
    assert p.targets is not None
    outputs, cache = language_model_forward(
        model, p.parameters, p.x, p.targets, p.lengths, (p.h0, p.c0), keep_preactivations=True
    )
    g = language_model_backward(p.dloss, cache, p.dh_n, p.dc_n, keep_steps=True)
    packing = cache.packing
    packed = {"logits": outputs.logits, "loss": outputs.losses, "dlogits": g.dlogits}
    steps = {name: packing.unpack(array) for name, array in packed.items()}
    parts = []
    for t in range(len(packing.batch_sizes)):
        rows = packing.rows(range(t, t + 1))
        parts.append(projection_gradients(g.dlogits[rows], cache.head.y[rows]))
    steps |= _contributions(parts, packing.T)
    steps |= _fast_layers(p, cache.lstm.layers, g.layers)
    totals = {"h_n": outputs.h_n, "c_n": outputs.c_n, "dh0": g.dh0, "dc0": g.dc0}
    totals["loss"] = np.asarray(p.dloss * outputs.losses.sum())
    return Trace(steps, totals | _by_contribution(g.parameters))


def _fast_layers(
    p: Problem, caches: Sequence[LayerCache], gradients: Sequence[LayerGradients]
) -> Arrays:
    """The steps of every direction of every layer, by the fast code."""
    result: Arrays = {}
    for suffix, cache, own_gradients in zip(p.lstm.suffixes, caches, gradients, strict=True):
        packing, steps = cache.packing, own_gradients.steps
        assert steps is not None
        assert own_gradients.dx is not None
        packed = layer_values(cache) | {"dh": steps.dh, "dc": steps.dc, "dx": own_gradients.dx}
        packed |= dict(zip(("da_i", "da_f", "da_g", "da_o"), np.split(steps.da, 4, 1), strict=True))
        for name, array in packed.items():
            result[name + label(suffix)] = packing.unpack(array)
        parts = []
        for t in range(len(packing.batch_sizes)):
            of_step = step_weight_gradients(cache, steps, t)
            parts.append(_with_prefix(p, named_gradients(p.lstm, suffix, of_step)))
        result |= _contributions(parts, packing.T)
    return result


def plain_trace(problem: Problem) -> Trace:
    """The same by the plain loop of `unrolled.py`; of a language model with its own head on it.

    The verdict on anybody's LSTM is torch's alone. This is what a suspicion is tested with: if the
    plain code with a known fault in it gives the same wrong numbers, that is the fault.
    """
    if isinstance(problem.config, LanguageModel):
        return plain_language_model(problem)
    p = problem
    assert p.dy is not None
    (y, h_n, c_n), cache = unrolled_lstm_forward(
        p.lstm, p.parameters, p.x, p.h0, p.c0, p.lengths, p.masks
    )
    dy = np.where(p.alive[:, :, None], p.dy, 0)
    gradients = unrolled_lstm_backward(dy, cache, p.dh_n, p.dc_n)
    totals = {"h_n": h_n, "c_n": c_n, "dh0": gradients.dh0, "dc0": gradients.dc0}
    totals |= {"y": y, "dx": gradients.dx} | _by_contribution(gradients.parameters)
    return Trace(_plain_layers(p, cache, gradients), totals)


def plain_language_model(problem: Problem) -> Trace:
    """A language model whose LSTM is the plain loop, forward and backward."""
    p = problem
    assert p.targets is not None
    packing = make_packing(p.x.shape[0], p.x.shape[1], p.lengths)
    (y, h_n, c_n), cache = plain_language_model_lstm(p)
    (logits, losses), head = head_forward(p.parameters, packing.pack(y), packing.pack(p.targets))
    dlogits, dy = head_backward(p.dloss, p.parameters, head)
    gradients = unrolled_lstm_backward(packing.unpack(dy), cache, p.dh_n, p.dc_n)
    parameters = _with_prefix(p, gradients.parameters)
    parameters |= projection_gradients(dlogits, packing.pack(y))
    packed = {"logits": logits, "loss": losses, "dlogits": dlogits}
    steps = {name: packing.unpack(array) for name, array in packed.items()}
    parts = []
    for t in range(len(packing.batch_sizes)):
        rows = packing.rows(range(t, t + 1))
        parts.append(projection_gradients(dlogits[rows], head.y[rows]))
    steps |= _contributions(parts, packing.T) | _plain_layers(p, cache, gradients)
    totals = {"h_n": h_n, "c_n": c_n, "dh0": gradients.dh0, "dc0": gradients.dc0}
    totals["loss"] = np.asarray(p.dloss * losses.sum())
    return Trace(steps, totals | _by_contribution(parameters))


def plain_language_model_lstm(
    p: Problem,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], UnrolledLSTMCache]:
    """The forward pass of a language model's LSTM by the plain loop, on one-hot vectors."""
    tokens = np.where(p.alive, p.x, 0)
    x = np.eye(p.lstm.input_size, dtype=p.h0.dtype)[tokens]
    x = np.where(p.alive[:, :, None], x, 0)
    parameters = lstm_parameters(p.parameters)
    return unrolled_lstm_forward(p.lstm, parameters, x, p.h0, p.c0, p.lengths)


def _plain_layers(p: Problem, cache: UnrolledLSTMCache, gradients: UnrolledLSTMGradients) -> Arrays:
    """The steps of every direction of every layer, by the plain loop."""
    result: Arrays = {}
    for k, suffix in enumerate(p.lstm.suffixes):
        forward, backward = cache.directions[k], gradients.directions[k]
        for name, array in _plain_steps(p.lstm, forward, backward).items():
            result[name + label(suffix)] = np.where(p.alive[:, :, None], array, 0)
        named = named_gradients(p.lstm, suffix, backward.by_step)
        result |= _by_contribution(_with_prefix(p, named))
    return result


def _plain_steps(
    config: LSTM, forward: UnrolledCache, backward: UnrolledGradients
) -> dict[str, Shaped[np.ndarray, "T N F"]]:
    """Every value and gradient of a step that the cell and the loop compute."""
    steps = {}
    for name in config.step_values:
        steps[name] = np.stack([getattr(step, name) for step in forward.steps])
    steps["h"] = forward.h[1:]
    steps["dh"] = backward.dh
    for name in ("dx", *config.step_gradients):
        steps[name] = np.stack([getattr(step, name) for step in backward.steps])
    return steps


def _with_prefix(p: Problem, gradients: Mapping[str, np.ndarray]) -> Arrays:
    """An LSTM's gradients under the names that they have in the problem."""
    return {p.prefix + name: gradient for name, gradient in gradients.items()}


def _by_contribution(gradients: Mapping[str, np.ndarray]) -> Arrays:
    """Gradients by their names in a trace."""
    return {contribution(name): gradient for name, gradient in gradients.items()}


def _contributions(parts: Sequence[Mapping[str, np.ndarray]], T: int) -> Arrays:
    """Each step's contribution to each parameter's gradient, padded to T steps."""
    by_step = {}
    for name, first in parts[0].items():
        array = np.zeros((T, *first.shape), first.dtype)
        array[: len(parts)] = np.stack([part[name] for part in parts])
        by_step[contribution(name)] = array
    return by_step
