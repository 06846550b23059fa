"""How it is timed: each implementation in a process of its own, taking turns.

The waiting threads of one BLAS or OpenMP slow the other down, so that no process loads two; a
pause before each turn lets the threads of the last one sleep.
"""

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .workloads import DType, Workload

KEEP_FREED_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
}
"""What the Makefile sets too: glibc keeps freed memory for the next step."""
TORCH = ("nn.LSTM", "LSTMCell")
IMPLEMENTATIONS = ("numpy", *TORCH, "products")
"""`products` are our matrix products alone, every step's by itself as in the layer."""
LEFT_OUT = {"generation": ("nn.LSTM", "products"), "training step": ("products",)}
"""What would measure nothing of its own, by kind of workload."""


@dataclass(frozen=True)
class Record:
    """Seconds of all repetitions of one workload by one implementation, and its peak memory."""

    workload: Workload
    dtype: DType
    threads: int
    implementation: str
    seconds: list[float]
    peak_bytes: int | None

    @property
    def median(self) -> float:
        """The median of the measured seconds."""
        return statistics.median(self.seconds)


def start_workers(threads: int) -> dict[str, Connection]:
    """A process for each implementation, with so many threads; ends when it is sent None."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ |= KEEP_FREED_MEMORY  # read by each worker as it begins
    context, workers = get_context("spawn"), {}
    for implementation in IMPLEMENTATIONS:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, implementation, threads), daemon=True).start()
        workers[implementation] = ours
    return workers


def serve(connection: Connection, implementation: str, threads: int) -> None:
    """A worker: sets a workload up, or runs it so many times, as it is told."""
    if implementation in TORCH:
        import torch

        torch.set_num_threads(threads)
    call: Callable[[], Any] | None = None
    while (message := connection.recv()) is not None:
        if isinstance(message, int):
            assert call is not None
            seconds = []
            for _ in range(message):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            connection.send(seconds)
            continue
        workload, dtype = message
        call = prepared_call(implementation, workload, dtype)
        call()
        connection.send(peak_memory(call))


def prepared_call(implementation: str, workload: Workload, dtype: DType) -> Callable[[], Any]:
    """A workload by one implementation; nothing else is loaded."""
    if implementation in TORCH:
        from .by_torch import torch_call

        return torch_call(workload, dtype, implementation == "LSTMCell")
    from .by_numpy import numpy_call, products_call

    if implementation == "products":
        return products_call(workload, dtype)
    return numpy_call(workload, dtype)


def peak_memory(call: Callable[[], Any]) -> int | None:
    """Bytes by which a call raises the resident memory at its peak; None outside Linux."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not refs.exists():
        return None

    def kilobytes(field: str) -> int:
        return int(status.read_text().split(field + ":")[1].split()[0])

    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
    refs.write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    call()
    return 1024 * (kilobytes("VmHWM") - before)


def measure(
    workers: dict[str, Connection], workload: Workload, dtype: DType, threads: int, rounds: int
) -> list[Record]:
    """One workload by all implementations, which take turns `rounds` times."""
    turns = {}
    for implementation, worker in workers.items():
        if implementation in LEFT_OUT.get(workload.kind, ()):
            continue
        worker.send((workload, dtype))
        turns[implementation] = (worker, worker.recv(), [])
    for _ in range(rounds):
        for worker, _, seconds in turns.values():
            time.sleep(0.05)
            worker.send(1)
            (once,) = worker.recv()  # warms up, and says how many fit into a turn
            worker.send(max(1, min(30, int(0.2 / once))))
            seconds += worker.recv()
    return [
        Record(workload, dtype, threads, implementation, seconds, peak)
        for implementation, (_, peak, seconds) in turns.items()
    ]
