"""How it is shown: a row for each workload, and where it was measured."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from .processes import Record

HEADER = (
    "| workload | type | threads | ours, ms (range) | nn.LSTM / ours | LSTMCell / ours"
    " | products / ours | memory, ours / nn.LSTM, MB |\n" + "|---" * 8 + "|"
)


def line(records: list[Record]) -> str:
    """A row of the table: one workload by all implementations."""
    by_name = {record.implementation: record for record in records}
    ours = by_name["numpy"]

    def ratio(name: str) -> str:
        if name not in by_name:
            return ""
        return f"{by_name[name].median / ours.median:.2f}"

    low, high = min(ours.seconds), max(ours.seconds)
    peaks = [by_name[name].peak_bytes for name in ("numpy", "nn.LSTM") if name in by_name]
    memory = " / ".join("" if peak is None else f"{peak / 1e6:.1f}" for peak in peaks)
    title, per = str(ours.workload), 1
    if ours.workload.kind == "generation":
        title, per = f"{title} (a token)", ours.workload.T
    return (
        f"| {title} | {ours.dtype} | {ours.threads}"
        f" | {1e3 * ours.median / per:.3g} ({1e3 * low / per:.3g} to {1e3 * high / per:.3g})"
        f" | {ratio('nn.LSTM')} | {ratio('LSTMCell')} | {ratio('products')} | {memory} |"
    )


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    import torch  # slow, and not needed before the end

    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), "")
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }
