"""Nothing is changed, shared or kept unasked, and backward twice gives the same bits."""

import numpy as np
import pytest

from numpy_lstm.fast.stack import PackedCache, packed_backward
from numpy_lstm.language_model import (
    language_model_backward,
    language_model_forward,
)
from numpy_lstm.lstm import LSTMCache, lstm_backward, lstm_forward
from parity_tests.support.problems import (
    OPTIONS,
    TORCH_OPTIONS,
    random_problem,
)


def kept_by(cache: LSTMCache) -> list[np.ndarray]:
    """The states that the forward pass keeps for the backward pass."""
    if isinstance(cache.run, PackedCache):
        segments = [segment for layer in cache.run.layers for segment in layer.segments]
        cells = [block.c for segment in segments for block in segment.blocks]
        return [*(segment.h for segment in segments), *cells]
    return [state for layer in cache.run.directions for state in (layer.h, layer.c)]


@pytest.mark.parametrize("variant", [None, "peephole"])
@pytest.mark.parametrize("lengths", [None, [6, 2, 5]])
def test_outputs_share_no_memory_with_the_cache(lengths, variant):
    problem = random_problem(0, sizes=(6, 3, 4, 5), variant=variant)
    lengths = None if lengths is None else np.array(lengths)
    outputs, cache = lstm_forward(problem.config, problem.parameters, problem.x, lengths=lengths)
    kept = kept_by(cache)
    assert kept
    assert not any(np.shares_memory(output, array) for output in outputs for array in kept)


def assert_untouched(problem, untouched):
    for name, parameter in untouched.parameters.items():
        np.testing.assert_array_equal(parameter, problem.parameters[name])
    for name in ("x", "h0", "c0", "dh_n", "dc_n"):
        np.testing.assert_array_equal(getattr(untouched, name), getattr(problem, name))


def test_language_model_backward_twice_is_bit_identical_and_changes_nothing():
    problem = random_problem(1, model=True)
    _, cache = language_model_forward(
        problem.config, problem.parameters, problem.x, problem.targets, problem.lengths
    )
    first, second = (
        language_model_backward(0.5, cache, problem.dh_n, problem.dc_n) for _ in range(2)
    )
    assert first.parameters.keys() == problem.parameters.keys()
    for name, gradient in first.parameters.items():
        np.testing.assert_array_equal(gradient, second.parameters[name])
    np.testing.assert_array_equal(first.dh0, second.dh0)
    np.testing.assert_array_equal(first.dc0, second.dc0)
    assert_untouched(problem, random_problem(1, model=True))


RUNS = [
    *(pytest.param(options, False, id=name) for name, options in OPTIONS.items()),
    *(pytest.param(options, True, id=f"{name}, again") for name, options in TORCH_OPTIONS.items()),
]


@pytest.mark.parametrize(("options", "recompute"), RUNS)
def test_backward_twice_is_bit_identical_and_changes_nothing(options, recompute):
    p = random_problem(1, **options)
    arguments = (p.config, p.parameters, p.x, p.h0, p.c0, p.lengths)
    _, cache = lstm_forward(*arguments, masks=p.masks, recompute=recompute)
    first, second = (lstm_backward(p.dy, cache, p.dh_n, p.dc_n) for _ in range(2))
    assert first.parameters.keys() == p.parameters.keys()
    for name, gradient in first.parameters.items():
        np.testing.assert_array_equal(gradient, second.parameters[name])
    for name in ("dx", "dh0", "dc0"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    untouched = random_problem(1, **options)
    assert_untouched(p, untouched)
    np.testing.assert_array_equal(p.dy, untouched.dy)


def test_keeping_every_step_for_inspection_changes_no_gradient():
    p = random_problem(1, model=True, num_layers=3)
    _, cache = language_model_forward(p.config, p.parameters, p.x, p.targets, p.lengths)
    plain, kept = (language_model_backward(1.0, cache, keep_steps=keep) for keep in (False, True))
    for name, gradient in kept.parameters.items():
        np.testing.assert_array_equal(plain.parameters[name], gradient, err_msg=name)


def test_nothing_is_kept_for_inspection_unless_asked_for():
    p = random_problem(1, model=True, num_layers=2)
    _, cache = language_model_forward(p.config, p.parameters, p.x, p.targets)
    gradients = language_model_backward(1.0, cache)
    tokens = {k.removeprefix("lstm."): v for k, v in p.parameters.items() if k.startswith("lstm.")}
    (y, *_), dense = lstm_forward(p.config.lstm, tokens, p.x)
    caches = (cache.lstm, dense.run)
    segments = [s for one in caches for layer in one.layers for s in layer.segments]
    assert [b.a for segment in segments for b in segment.blocks] == [None] * len(segments)
    packed = packed_backward(dense.packing.pack(y), dense.run)
    layers = (*gradients.layers, *packed.layers)
    assert [layer.steps for layer in layers] == [None] * 4
    assert gradients.layers[0].dx is None
    assert packed_backward(cache.head.y, cache.lstm, need_dx=False).dx is None


def test_gradients_of_each_layer_and_direction_are_returned_in_the_order_of_the_states():
    p = random_problem(1, num_layers=2, bidirectional=True)
    _, cache = lstm_forward(p.config, p.parameters, p.x, p.h0, p.c0, p.lengths)
    gradients = packed_backward(cache.packing.pack(p.dy), cache.run)
    assert len(gradients.layers) == 4
    for layer, dh0 in zip(gradients.layers, gradients.dh0, strict=True):
        np.testing.assert_array_equal(layer.dh0, dh0[cache.packing.order])
