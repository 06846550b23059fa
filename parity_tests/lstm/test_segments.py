"""Long sequences in segments: computed again or kept, cut or whole, and in how much memory."""

import os
import re
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from numpy_lstm.fast import layer, segment
from numpy_lstm.lstm import lstm_forward
from numpy_lstm.roundoff import K, distance
from parity_tests.support.problems import (
    TORCH_OPTIONS,
    public_totals,
    random_problem,
)
from torch_oracle.proof.numpy_trace import numpy_trace


@pytest.mark.parametrize("options", TORCH_OPTIONS.values(), ids=TORCH_OPTIONS)
def test_recomputation_gives_the_same_bits(options, monkeypatch):
    problem = random_problem(2, sizes=(11, 5, 3, 4), **options)
    monkeypatch.setattr(layer, "SEGMENT_TOKENS", 12)
    arguments = (problem.config, problem.parameters, problem.x, problem.h0, problem.c0)
    _, cache = lstm_forward(*arguments, problem.lengths, recompute=True)
    parts = [part for one in cache.run.layers for part in one.segments]
    assert len(parts) > len(cache.run.layers)
    assert all(isinstance(part, segment.SegmentCheckpoint) for part in parts)
    kept, computed = public_totals(problem), public_totals(problem, recompute=True)
    for name, array in kept.items():
        np.testing.assert_array_equal(computed[name], array, err_msg=name)


@pytest.mark.parametrize("options", TORCH_OPTIONS.values(), ids=TORCH_OPTIONS)
def test_segments_change_nothing_but_the_order_of_sums(options, monkeypatch):
    problem = random_problem(3, sizes=(9, 4, 3, 5), **options)
    whole = numpy_trace(problem)
    monkeypatch.setattr(layer, "SEGMENT_TOKENS", 6)
    monkeypatch.setattr(segment, "BLOCK_FACTOR_BYTES", 1)
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


LONG_RUN = """
    import numpy as np
    from numpy_lstm import LSTM, init_lstm, lstm_backward, lstm_forward
    rng = np.random.default_rng(0)
    config = LSTM(8, 64)
    parameters = init_lstm(config, rng=rng)
    x = rng.standard_normal(({steps}, 1, 8))
    (y, *_), cache = lstm_forward(config, parameters, x, recompute={recompute})
    gradients = lstm_backward(y, cache)
    assert np.isfinite(gradients.dx).all()
    status = open("/proc/self/status").read()
    print(status.split("VmHWM:")[1].split()[0])
"""
"""Prints the peak of the memory, in kB, of float64 at H = 64.

(getrusage would not do: its peak begins with that of the process that started this one.)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_recomputation_saves_at_least_the_memory_of_the_gates():
    steps = 10_000
    (kept,) = run_alone(LONG_RUN.format(steps=steps, recompute=False))
    (recomputed,) = run_alone(LONG_RUN.format(steps=steps, recompute=True))
    gates = 4 * steps * 64 * 8
    assert (kept - recomputed) * 1024 > gates


@pytest.mark.proof
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_thousand_steps_train_in_under_250_mb():
    """The interpreter included; without recomputation it is 490 MB."""
    (peak,) = run_alone(LONG_RUN.format(steps=100_000, recompute=True))
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
