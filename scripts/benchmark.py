"""Speed and memory beside PyTorch's, measured in one run, interleaved.

Every implementation lives in a process of its own, since the waiting threads of one BLAS or OpenMP
slow the other down; the processes take turns, and a pause lets the threads of the last one sleep.
All of them keep freed memory (`KEEP_FREED_MEMORY`). Ratios above 1 mean that ours is faster. In
training and generation ours gathers columns for one-hot inputs, torch multiplies by the vectors.
"""

import ctypes
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from numpy_lstm.errors import InputError, check_positive, one_line_errors, require

with one_line_errors():
    import tyro

KEEP_FREED_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
}
"""What the Makefile sets too: glibc keeps freed memory for the next step."""
Kind = Literal["layer", "training step", "generation"]
DType = Literal["float32", "float64"]
TORCH = ("nn.LSTM", "LSTMCell")
IMPLEMENTATIONS = ("numpy", *TORCH, "products")
"""`products` are our matrix products alone, every step's by itself as in the layer."""


@dataclass(frozen=True)
class Workload:
    """What is timed. A layer forward and backward, from and to arrays; a step of training a
    language model (loss, clipping, Adam); or one generated token."""

    kind: Kind
    N: int
    T: int
    I: int
    H: int
    ragged: bool = False

    def __str__(self) -> str:
        """The sizes, as a table shows them."""
        sizes = f"N={self.N} T={self.T} I={self.I} H={self.H}"
        return f"{self.kind} {sizes}{' ragged' if self.ragged else ''}"


WORKLOADS = (
    *(
        Workload("layer", *sizes)
        for sizes in (
            (1, 24, 4, 50),
            (50, 50, 65, 128),
            (20, 35, 200, 200),
            (64, 128, 256, 256),
            (20, 35, 650, 650),
            (128, 32, 512, 512),
            (1, 512, 64, 64),
            (32, 22, 3, 50),
        )
    ),
    Workload("layer", 32, 50, 65, 128, ragged=True),
    Workload("training step", 50, 50, 65, 128),
    Workload("generation", 1, 100, 65, 128),
)


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


def numpy_call(w: Workload, dtype: DType) -> Callable[[], Any]:
    """Our implementation of a workload."""
    import numpy as np

    from numpy_lstm import LSTM, LanguageModel, generate, init_language_model
    from numpy_lstm.lstm import lstm_backward, lstm_forward
    from numpy_lstm.training.batching import Batch
    from numpy_lstm.training.loop import Position, Recipe, apply_gradients, batch_gradients
    from numpy_lstm.training.optimizers import Adam

    a = arrays(w, dtype)
    if w.kind == "layer":
        config = LSTM(w.I, w.H)

        lengths = a["lengths"] if w.ragged else None

        def layer() -> Any:
            _, cache = lstm_forward(config, a["parameters"], a["x"], a["h0"], a["c0"], lengths)
            return lstm_backward(a["dy"], cache, a["dh_n"], a["dc_n"])

        return layer
    model = LanguageModel(w.I, w.H)
    rng = np.random.default_rng(0)
    parameters = init_language_model(model, rng=rng, dtype=np.dtype(dtype).type)
    if w.kind == "generation":

        def tokens() -> None:
            stream = generate(model, parameters, np.array([0]), rng=rng)
            for _ in range(w.T):
                next(stream)

        return tokens
    recipe, batch = Recipe(Adam(), 1), Batch(a["tokens"], a["targets"], np.full(w.N, w.T))
    position = Position(parameters, recipe.optimizer.init(parameters))

    def step() -> None:
        nonlocal position
        _, gradients, state = batch_gradients(model, position, batch, batch.tokens)
        _, position = apply_gradients(recipe, position, gradients, state, 1e-3)

    return step


def products_call(w: Workload, dtype: DType) -> Callable[[], Any]:
    """The matrix products of a layer's forward and backward pass, and nothing else."""
    import numpy as np

    a = arrays(w, dtype)
    W_ih, W_hh = a["parameters"]["weight_ih_l0"], a["parameters"]["weight_hh_l0"]
    steps = [int((a["lengths"] > t).sum()) for t in range(w.T)]
    x, M = a["x"].reshape(-1, w.I)[: sum(steps)], sum(steps)
    da, h = np.ones((4 * w.H, M), dtype), np.ones((w.H, M), dtype)
    W_hh_T, a_x, dx = np.ascontiguousarray(W_hh.T), np.empty_like(da), np.empty_like(x)
    starts = np.cumsum([0, *steps])
    rows = [slice(start, start + n) for start, n in zip(starts, steps, strict=False)]
    outputs = [np.empty((4 * w.H, n), dtype) for n in steps]
    carries = [np.empty((w.H, n), dtype) for n in steps]

    def products() -> None:
        np.matmul(W_ih, x.T, out=a_x)
        for row, out in zip(rows, outputs, strict=True):
            np.matmul(W_hh, h[:, row], out=out)
        for row, out in zip(rows, carries, strict=True):
            np.matmul(W_hh_T, da[:, row], out=out)
        _ = da @ x, da @ h.T
        np.matmul(da.T, W_ih, out=dx)

    return products


def torch_call(w: Workload, dtype: DType, cell_loop: bool) -> Callable[[], Any]:
    """PyTorch's implementation, by nn.LSTM or a loop over nn.LSTMCell."""
    import torch
    from torch.nn import functional
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    kind, a = getattr(torch, dtype), arrays(w, dtype)
    lstm = (torch.nn.LSTMCell if cell_loop else torch.nn.LSTM)(w.I, w.H, dtype=kind)
    lengths = torch.from_numpy(a["lengths"])
    alive = [int((lengths > t).sum()) for t in range(w.T)]

    def unroll(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not cell_loop:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False) if w.ragged else x
            y, (h_n, c_n) = lstm(packed, (h[None], c[None]))
            y = pad_packed_sequence(y, total_length=w.T)[0] if w.ragged else y
            return y, h_n[0], c_n[0]
        # Sequences come sorted by falling length: those alive at step t are the first ones.
        outputs, ended = [], []
        for t, x_t in enumerate(x):
            n = alive[t]
            if n < len(h):
                ended.append((h[n:], c[n:]))
            h, c = lstm(x_t[:n], (h[:n], c[:n]))
            outputs.append(functional.pad(h, (0, 0, 0, w.N - n)) if n < w.N else h)
        ended.append((h, c))
        h_n, c_n = (torch.cat(parts) for parts in zip(*reversed(ended), strict=True))
        return torch.stack(outputs), h_n, c_n

    names = ("x", "h0", "c0", "dy", "dh_n", "dc_n")
    x, h0, c0, dy, dh_n, dc_n = (torch.from_numpy(a[name]) for name in names)
    h0, c0, dh_n, dc_n = (state[0] for state in (h0, c0, dh_n, dc_n))
    if w.kind == "layer":

        def layer() -> None:
            leaves = [leaf.detach().requires_grad_() for leaf in (x, h0, c0)]
            torch.autograd.backward(unroll(*leaves), (dy, dh_n, dc_n))
            lstm.zero_grad()  # at the end, so that peak memory begins without gradients

        return layer
    projection = torch.nn.Linear(w.H, w.I, dtype=kind)
    eye, zeros = torch.eye(w.I, dtype=kind), torch.zeros(w.N, w.H, dtype=kind)
    if w.kind == "generation":

        @torch.inference_mode()
        def tokens() -> None:
            token, h, c = 0, zeros, zeros
            for _ in range(w.T):
                h, c = lstm(eye[token : token + 1], (h, c))
                probabilities = torch.softmax(projection(h)[0], 0)
                token = int(torch.multinomial(probabilities, 1))

        return tokens
    parameters = [*lstm.parameters(), *projection.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    inputs, targets = torch.from_numpy(a["tokens"]), torch.from_numpy(a["targets"]).reshape(-1)

    def step() -> None:
        y, *_ = unroll(eye[inputs], zeros, zeros)
        functional.cross_entropy(projection(y).reshape(-1, w.I), targets).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        optimizer.zero_grad()

    return step


def arrays(w: Workload, dtype: DType) -> dict[str, Any]:
    """The same random inputs for all implementations."""
    import numpy as np

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / shape[-1] ** 0.5).astype(dtype)

    lengths = np.linspace(w.T, 1, w.N).astype(int) if w.ragged else None
    G = 4 * w.H
    parameters = {"weight_ih_l0": normal(G, w.I), "weight_hh_l0": normal(G, w.H)}
    states = {name: normal(1, w.N, w.H) for name in ("h0", "c0", "dh_n", "dc_n")}
    return states | {
        "parameters": parameters | {"bias_l0": normal(G)},
        "x": normal(w.T, w.N, w.I),
        "dy": normal(w.T, w.N, w.H),
        "lengths": np.full(w.N, w.T) if lengths is None else lengths,
        "tokens": rng.integers(0, w.I, (w.T, w.N)),
        "targets": rng.integers(0, w.I, (w.T, w.N)),
    }


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
        if implementation == "numpy":
            call = numpy_call(workload, dtype)
        elif implementation == "products":
            call = products_call(workload, dtype)
        else:
            call = torch_call(workload, dtype, implementation == "LSTMCell")
        call()
        connection.send(peak_memory(call))


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
    workloads: list[Workload], dtypes: list[DType], threads: int, rounds: int
) -> list[Record]:
    """All workloads with so many threads; implementations take turns, `rounds` times."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ |= KEEP_FREED_MEMORY  # read by each worker as it begins
    context, workers, records = get_context("spawn"), {}, []
    for implementation in IMPLEMENTATIONS:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, implementation, threads), daemon=True).start()
        workers[implementation] = ours
    for dtype in dtypes:
        for workload in workloads:
            turns = {}
            for implementation, worker in workers.items():
                left_out = {"generation": ("nn.LSTM", "products"), "training step": ("products",)}
                if implementation in left_out.get(workload.kind, ()):
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
            for implementation, (_, peak, seconds) in turns.items():
                record = Record(workload, dtype, threads, implementation, seconds, peak)
                records.append(record)
            print(line(records[-len(turns) :]), flush=True)
    for worker in workers.values():
        worker.send(None)
    return records


HEADER = (
    "| workload | type | threads | ours, ms (range) | nn.LSTM / ours | LSTMCell / ours"
    " | products / ours | memory, ours / nn.LSTM, MB |\n" + "|---" * 8 + "|"
)


def line(records: list[Record]) -> str:
    """A row of the table: one workload by all implementations."""
    by_name = {record.implementation: record for record in records}
    ours = by_name["numpy"]

    def ratio(name: str) -> str:
        return f"{by_name[name].median / ours.median:.2f}" if name in by_name else ""

    low, high = min(ours.seconds), max(ours.seconds)
    peaks = [by_name[name].peak_bytes for name in ("numpy", "nn.LSTM") if name in by_name]
    memory = " / ".join("" if peak is None else f"{peak / 1e6:.1f}" for peak in peaks)
    per = ours.workload.T if ours.workload.kind == "generation" else 1
    return (
        f"| {ours.workload}{' (a token)' if per > 1 else ''} | {ours.dtype} | {ours.threads}"
        f" | {1e3 * ours.median / per:.3g} ({1e3 * low / per:.3g} to {1e3 * high / per:.3g})"
        f" | {ratio('nn.LSTM')} | {ratio('LSTMCell')} | {ratio('products')} | {memory} |"
    )


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    import numpy as np
    import torch

    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), "")
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return versions | {
        "torch": torch.__version__,
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def main(
    threads: tuple[int, ...] = (2, 1),
    dtypes: tuple[DType, ...] = ("float32", "float64"),
    only: str = "",
    rounds: int = 5,
    out: Path = Path("runs/benchmark.json"),
) -> None:
    """Measure our LSTM beside torch.nn.LSTM and a loop over LSTMCell.

    Args:
        threads: thread counts of BLAS and torch.
        dtypes: floating-point types.
        only: measure only workloads whose name contains this.
        rounds: turns of every implementation.
        out: file for all figures, as JSON.
    """
    require("torch")
    check_positive(rounds=rounds)
    for count in threads:
        check_positive(threads=count)
    workloads = [workload for workload in WORKLOADS if only in str(workload)]
    if not workloads:
        names = ", ".join(map(str, WORKLOADS))
        raise InputError(f"no workload contains {only!r}; there are: {names}", argument="only")
    print(HEADER)
    records = [
        record for count in threads for record in measure(workloads, list(dtypes), count, rounds)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "records": [asdict(record) for record in records]}
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{out}: all figures, and the machine")


if __name__ == "__main__":
    with one_line_errors(main):
        tyro.cli(main)
