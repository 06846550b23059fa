"""Speed and memory beside PyTorch's, measured in one run, interleaved.

Every implementation lives in a process of its own; the processes take turns, and all of them keep
freed memory (`benchmarking/processes.py`). Ratios above 1 mean that ours is faster. In training
and generation ours gathers columns for one-hot inputs, torch multiplies by the vectors.
"""

import json
from dataclasses import asdict
from pathlib import Path

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError, check_positive, require

with one_line_errors():
    import tyro
    from benchmarking.processes import Record, measure, start_workers
    from benchmarking.table import HEADER, line, machine
    from benchmarking.workloads import WORKLOADS, DType


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
    records: list[Record] = []
    for count in threads:
        workers = start_workers(count)
        for dtype in dtypes:
            for workload in workloads:
                measured = measure(workers, workload, dtype, count, rounds)
                print(line(measured), flush=True)
                records += measured
        for worker in workers.values():
            worker.send(None)
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "records": [asdict(record) for record in records]}
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{out}: all figures, and the machine")


if __name__ == "__main__":
    with one_line_errors(main):
        tyro.cli(main)
