"""What is drawn at random: initial weights and the masks of dropout."""

from dataclasses import replace

import numpy as np
import pytest

from numpy_lstm.initialization import init_lstm
from numpy_lstm.lstm import LSTM, dropout_masks, lstm_forward
from numpy_lstm.roundoff import K, distance
from parity_tests.support.problems import (
    OPTIONS,
    random_problem,
)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_initial_weights_are_orthogonal_with_open_forget_gates(options):
    config = LSTM(4, 6, **options)
    weights = init_lstm(config, rng=np.random.default_rng(0), forget_bias=1.5)
    assert list(weights) == list(config.parameter_shapes())
    gates = 3 if config.coupled else 4
    for name, weight in weights.items():
        kind, suffix = name.partition("_l")[0], name[name.index("_l") :]
        if kind == "weight_ch":
            assert not weight.any()
        elif kind == "gain":
            assert (weight == 1).all()
        elif kind == "shift":
            forget, others = weight[1], np.delete(weight, 1, axis=0)
            assert (forget == 1.5).all()
            assert not others.any()
        elif kind.startswith("weight"):
            for block in np.split(weight, 1 if kind == "weight_hr" else gates):
                small = block @ block.T if len(block) <= block.shape[1] else block.T @ block
                assert distance(small, np.eye(len(small))) <= K
        elif kind == config.bias_names[0]:
            total = sum(weights[other + suffix] for other in config.bias_names)
            forget, sign = (0, -1) if config.coupled else (1, 1)
            for k, block in enumerate(np.split(total, gates)):
                assert (block == (sign * 1.5 if k == forget else 0)).all()


def test_dropout_masks_are_inverted_seeded_and_used():
    problem = random_problem(0, num_layers=3, dropout=0.25)
    config, (T, N) = problem.config, problem.x.shape[:2]
    masks = dropout_masks(config, 2000, N, np.float64, rng=np.random.default_rng(0))
    assert [mask.shape for mask in masks] == [(2000, N, config.hidden_size)] * 2
    for mask in masks:
        np.testing.assert_array_equal(np.unique(mask), [0, 1 / 0.75])
        error = (mask == 0).mean() - 0.25
        assert abs(error) < 6 * (0.25 * 0.75 / mask.size) ** 0.5  # six standard noise_moves
    arguments = (config, problem.parameters, problem.x)
    drawn, cache = lstm_forward(*arguments, rng=np.random.default_rng(1))
    same = dropout_masks(config, T, N, np.float64, rng=np.random.default_rng(1))
    repeated, _ = lstm_forward(*arguments, masks=cache.run.masks)
    evaluated, _ = lstm_forward(*arguments)
    for mask, used in zip(same, cache.run.masks, strict=True):
        np.testing.assert_array_equal(used, mask)
    np.testing.assert_array_equal(repeated[0], drawn[0])
    assert np.abs(evaluated[0] - drawn[0]).max() > 1e-3
    everything_off, _ = lstm_forward(
        replace(config, dropout=1.0), *arguments[1:], rng=np.random.default_rng(0)
    )
    zeros = tuple(np.zeros_like(mask) for mask in same)
    np.testing.assert_array_equal(everything_off[0], lstm_forward(*arguments, masks=zeros)[0][0])


class AlwaysHalf(np.random.Generator):
    def random(self, size):
        return np.full(size, 0.5)


def test_a_draw_below_the_probability_drops_and_an_equal_one_does_not():
    rng = AlwaysHalf(np.random.PCG64(0))
    for p, expected in ((0.5, 2.0), (0.75, 0.0)):
        (mask,) = dropout_masks(LSTM(2, 3, 2, dropout=p), 1, 1, np.float64, rng=rng)
        assert (mask == expected).all()


def test_masks_are_drawn_in_the_dtype_of_the_weights():
    p = random_problem(0, dtype=np.float32, num_layers=2, dropout=0.5)
    arguments = (p.config, p.parameters, p.x)
    (y, *_), cache = lstm_forward(*arguments, rng=np.random.default_rng(0))
    assert {mask.dtype for mask in cache.run.masks} == {y.dtype} == {np.dtype(np.float32)}
