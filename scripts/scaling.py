"""How time and memory grow with the number of steps and of sequences; and a very long sequence."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from numpy_lstm import LSTM, lstm_backward, lstm_forward
from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import check_positive

with one_line_errors():
    import tyro
    from benchmarking.by_numpy import numpy_call
    from benchmarking.processes import peak_memory
    from benchmarking.workloads import Workload, arrays

BASE = Workload("layer", N=8, T=64, I=64, H=64)
FACTORS = (1, 2, 4, 8, 16, 32, 64)


def fastest(workload: Workload, repetitions: int) -> float:
    """Seconds of the fastest of some float32 forward and backward passes."""
    call = numpy_call(workload, "float32")
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def growth(axis: str, repetitions: int) -> None:
    """A table of time and memory over a factor of 64 in one axis, and the exponent of each."""
    print(f"| {axis} | ms | ms / {axis} | peak memory, MB | kB / {axis} |\n" + "|---" * 5 + "|")
    sizes, seconds, peaks = [], [], []
    for factor in FACTORS:
        size = factor * getattr(BASE, axis)
        workload = replace(BASE, **{axis: size})
        sizes.append(size)
        peaks.append(peak_memory(numpy_call(workload, "float32")) or np.nan)
        seconds.append(fastest(workload, repetitions))
        print(
            f"| {size} | {1e3 * seconds[-1]:.2f} | {1e3 * seconds[-1] / size:.4f}"
            f" | {peaks[-1] / 1e6:.1f} | {peaks[-1] / 1e3 / size:.1f} |",
            flush=True,
        )
    exponents = [np.polyfit(np.log(sizes), np.log(y), 1)[0] for y in (seconds, peaks)]
    print(f"\nexponents over {axis}: time {exponents[0]:.2f}, memory {exponents[1]:.2f}\n")


def long_sequence(T: int) -> None:
    """One sequence of T steps in float64, kept and recomputed: time, memory, the same gradients."""
    a, config = arrays(Workload("layer", 1, T, 64, 64), "float64"), LSTM(64, 64)
    results: list[Any] = []

    def run(recompute: bool) -> None:
        _, cache = lstm_forward(config, a["parameters"], a["x"], recompute=recompute)
        results[:] = [lstm_backward(a["dy"], cache)]

    gradients = []
    for recompute in (False, True):
        results.clear()
        peak = peak_memory(lambda recompute=recompute: run(recompute))
        start = time.perf_counter()
        run(recompute)
        seconds = time.perf_counter() - start
        gradients.append(results[0])
        memory = "" if peak is None else f", {peak / 1e6:.0f} MB beside the inputs"
        name = "recomputed" if recompute else "kept"
        print(f"T = {T:,}, H = 64, float64, {name}: {seconds:.1f} s{memory}")
    first, second = gradients
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("dx", "dh0", "dc0")]
    pairs += [(gradient, second.parameters[name]) for name, gradient in first.parameters.items()]
    same = all(np.array_equal(one, other) for one, other in pairs)
    print(f"gradients identical to the last bit: {same}")


def main(repetitions: int = 5, steps: int = 100_000, threads: int = 1) -> None:
    """Measure growth over a factor of 64 in T and in N, and one sequence of many steps.

    Args:
        repetitions: passes of which the fastest counts.
        steps: length of the long sequence.
        threads: threads of BLAS.
    """
    check_positive(repetitions=repetitions, steps=steps, threads=threads)
    with threadpool_limits(threads):
        for axis in ("T", "N"):
            growth(axis, repetitions)
        long_sequence(steps)


if __name__ == "__main__":
    with one_line_errors(main):
        tyro.cli(main)
