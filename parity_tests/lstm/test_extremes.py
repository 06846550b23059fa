"""Sizes and values at the edges, recomputation, memory, and one step at a time."""

import os
import re
import resource
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.fast import layer
from numpy_lstm.fast.stepping import LSTMCell
from numpy_lstm.lstm import LSTM, dropout_masks, lstm_forward
from numpy_lstm.roundoff import K, Noise, distance, distances
from parity_tests.lstm.test_cell import OPTIONS
from parity_tests.support.problems import public_totals, random_problem
from torch_oracle.proof.compare import check_parity
from torch_oracle.proof.nn_lstm import module_totals
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import CONTRIBUTIONS, in_dtype, moved


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "sizes", [(1, 3, 4, 5), (6, 1, 4, 5), (6, 3, 4, 1), (6, 3, 1, 5), (1, 1, 1, 1)]
)
def test_every_size_may_be_one(sizes, dtype):
    comparison = check_parity(random_problem(0, dtype=dtype, sizes=sizes, bidirectional=True))
    assert comparison.first is None, str(comparison.first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ten_thousand_steps_match_nn_lstm(dtype):
    """With noise of the inputs alone, which is less than `check_parity` would allow.

    The weights' gradients are sums of the steps' contributions; see `distances`.
    """
    problem = random_problem(0, dtype=dtype, sizes=(10_000, 2, 3, 4))
    wide, noise = in_dtype(problem, np.float64), Noise(0, problem.h0.dtype)
    exact, twin = module_totals(wide), module_totals(moved(problem, noise))
    ours, steps = public_totals(problem), numpy_trace(wide).steps
    for name, reference in module_totals(problem).items():
        moves, magnitudes = (twin[name] - exact[name]) / noise.amplitude, None
        if name in CONTRIBUTIONS.values():
            magnitudes = np.abs(steps[name]).sum(axis=0)[None] * 10_000**0.5
        assert distances(ours[name][None], reference[None], [moves[None]], magnitudes) <= K, name


@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_gates_are_finite_and_raise_no_warning(dtype, value):
    problem = random_problem(0, dtype=dtype)
    problem.parameters["bias_l0"][...] = value
    for name, array in public_totals(problem).items():
        assert np.isfinite(array).all(), name


@pytest.mark.parametrize("bias", [-8.0, -16.0, -30.0, 8.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearly_closed_gates_keep_their_digits(dtype, bias):
    """Gates of 1e-13 are as accurate as others, relative to themselves."""
    problem = random_problem(0, dtype=dtype, sizes=(6, 3, 4, 5))
    problem.h0[...] = problem.c0[...] = 0  # nothing but what passes the gates
    for gate in (0, 1):
        problem.parameters["bias_l0"][gate * 5 : (gate + 1) * 5] += bias
    comparison = check_parity(problem)
    assert comparison.first is None, str(comparison.first)
    assert distance(numpy_trace(problem).steps["i"], torch_trace(problem).steps["i"]) <= K


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_recomputation_gives_the_same_bits(options, monkeypatch):
    problem = random_problem(2, sizes=(11, 5, 3, 4), **options)
    monkeypatch.setattr(layer, "SEGMENT_TOKENS", 12)
    arguments = (problem.config, problem.parameters, problem.x, problem.h0, problem.c0)
    _, cache = lstm_forward(*arguments, problem.lengths, recompute=True)
    segments = [segment for part in cache.layers for segment in part.segments]
    assert len(segments) > len(cache.layers)
    assert all(isinstance(segment, layer.Start) for segment in segments)
    kept, computed = public_totals(problem), public_totals(problem, recompute=True)
    for name, array in kept.items():
        np.testing.assert_array_equal(computed[name], array, err_msg=name)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_segments_change_nothing_but_the_order_of_sums(options, monkeypatch):
    problem = random_problem(3, sizes=(9, 4, 3, 5), **options)
    whole = numpy_trace(problem)
    monkeypatch.setattr(layer, "SEGMENT_TOKENS", 6)
    monkeypatch.setattr(layer, "FACTOR_BYTES", 1)
    cut = numpy_trace(problem)
    for name, array in whole.steps.items():
        assert distance(cut.steps[name], array) <= K, name
    for name, array in whole.totals.items():
        assert distance(cut.totals[name], array) <= K, name


def run_alone(code: str, **environment: str) -> list[float]:
    """Numbers printed by a fresh interpreter."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    return [float(word) for word in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_thousand_steps_train_in_under_250_mb():
    """T = 100,000 at H = 64 in float64, the interpreter included; without recomputation 490 MB.

    (getrusage would not do: its peak begins with that of the process that started this one.)
    """
    (peak,) = run_alone("""
        import numpy as np
        from numpy_lstm import LSTM, init_lstm, lstm_backward, lstm_forward
        rng = np.random.default_rng(0)
        config = LSTM(8, 64)
        parameters = init_lstm(config, rng=rng)
        x = rng.standard_normal((100_000, 1, 8))
        (y, *_), cache = lstm_forward(config, parameters, x, recompute=True)
        gradients = lstm_backward(y, cache)
        assert np.isfinite(gradients.dx).all()
        status = open("/proc/self/status").read()
        print(status.split("VmHWM:")[1].split()[0])
    """)
    assert peak * 1024 < 250e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the variables are glibc's")
def test_with_the_makefiles_variables_freed_memory_is_not_faulted_in_again():
    code = """
        import resource
        import numpy as np
        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(10):
                arrays = [np.ones(400_000) for _ in range(10)]
                del arrays
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        faults()
        print(faults())
    """
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    keep = dict(re.findall(r"export (MALLOC_\w+) := (\d+)", makefile))
    glibc = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    assert keep.keys() == glibc.keys()
    (usual,), (kept,) = run_alone(code, **glibc), run_alone(code, **keep)
    pages = 10 * 10 * 400_000 * 8 / resource.getpagesize()
    assert usual > pages / 2
    assert kept < pages / 50


def test_dropout_masks_are_inverted_seeded_and_used():
    problem = random_problem(0, num_layers=3, dropout=0.25)
    config, (T, N) = problem.config, problem.x.shape[:2]
    masks = dropout_masks(config, 2000, N, np.float64, rng=np.random.default_rng(0))
    assert [mask.shape for mask in masks] == [(2000, N, config.hidden_size)] * 2
    for mask in masks:
        np.testing.assert_array_equal(np.unique(mask), [0, 1 / 0.75])
        error = (mask == 0).mean() - 0.25
        assert abs(error) < 6 * (0.25 * 0.75 / mask.size) ** 0.5  # six standard deviations
    arguments = (config, problem.parameters, problem.x)
    drawn, cache = lstm_forward(*arguments, rng=np.random.default_rng(1))
    same = dropout_masks(config, T, N, np.float64, rng=np.random.default_rng(1))
    repeated, _ = lstm_forward(*arguments, masks=cache.masks)
    evaluated, _ = lstm_forward(*arguments)
    for mask, used in zip(same, cache.masks, strict=True):
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
    assert {mask.dtype for mask in cache.masks} == {y.dtype} == {np.dtype(np.float32)}


STEPPED = {name: o for name, o in OPTIONS.items() if not {"bidirectional", "dropout"} & set(o)}


@pytest.mark.parametrize("options", STEPPED.values(), ids=STEPPED)
@pytest.mark.parametrize("tokens", [False, True])
def test_one_step_at_a_time_is_the_whole_sequence(options, tokens):
    p = random_problem(1, sizes=(5, 3, 4, 6), **options)
    x = np.random.default_rng(0).integers(0, 4, (5, 3)) if tokens else p.x
    (y, h_n, c_n), _ = lstm_forward(p.config, p.parameters, x, p.h0, p.c0)
    cell, state = LSTMCell(p.config, p.parameters), (p.h0, p.c0)
    for t, x_t in enumerate(x):
        before = [array.copy() for array in state]
        y_t, following = cell.step(x_t, state)
        for array, copy in zip(state, before, strict=True):
            np.testing.assert_array_equal(array, copy)
        assert distance(y_t, y[t]) <= K
        state = following
        assert not np.shares_memory(y_t, state[0])
    assert distance(state[0], h_n) <= K
    assert distance(state[1], c_n) <= K
    begun, _ = cell.step(x[0], cell.zero_state(3))
    assert distance(begun, lstm_forward(p.config, p.parameters, x[:1])[0][0][0]) <= K


P = random_problem(1, sizes=(5, 3, 4, 6))
CELL = LSTMCell(P.config, P.parameters)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LSTMCell(replace(P.config, bidirectional=True), P.parameters),
            "bidirectional: expected False; the reverse direction needs the whole sequence",
        ),
        (
            lambda: CELL.step(np.array([1, 4, 0]), CELL.zero_state(3)),
            "x (tokens): expected integers 0 to I - 1 = 3 in an array [N], got [1 4 0]",
        ),
        (
            lambda: CELL.step(P.x[0, :, :3], CELL.zero_state(3)),
            "x: expected [N, I] = [3, 4], got [3, 3]",
        ),
        (
            lambda: CELL.step(P.x[0], CELL.zero_state(2)),
            "state: expected shapes (1, 3, 6) and (1, 3, 6), got (1, 2, 6) and (1, 2, 6)",
        ),
        (
            lambda: CELL.step(P.x[0], tuple(s.astype(np.float32) for s in CELL.zero_state(3))),
            "state: expected dtype float64, got float32 and float32",
        ),
        (
            lambda: CELL.zero_state(0),
            "N: expected an integer of at least 1, got 0",
        ),
    ],
    ids=["bidirectional", "token", "input", "state", "dtype", "no sequence"],
)
def test_a_step_that_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message


def test_a_cell_keeps_its_own_copy_of_all_weights():
    p = random_problem(1, sizes=(5, 3, 4, 6), proj_size=2)
    cell = LSTMCell(p.config, p.parameters)
    before, _ = cell.step(p.x[0], (p.h0, p.c0))
    for parameter in p.parameters.values():
        parameter[...] = 0
    after, _ = cell.step(p.x[0], (p.h0, p.c0))
    np.testing.assert_array_equal(after, before)
