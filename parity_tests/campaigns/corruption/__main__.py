"""Damaged and malicious files of every container, through reading, inspection and conversion:

python -m parity_tests.campaigns.corruption --files 10000 --seed 0

Each file must be refused with one sentence, or be read. Worker processes do it, and are watched: a
crash, a hang, more than a gibibyte of memory, an exception that is no `InputError`, code that ran,
another file's content, a destination that changed although the conversion failed, and a file left
behind are failures. What a checksum covers must not be read as other tensors.
"""

import queue
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError, check_not_negative, check_positive
from parity_tests.campaigns.corruption.attack import Attack
from parity_tests.campaigns.corruption.attacks_by_content import CONTENT_ATTACKS
from parity_tests.campaigns.corruption.attacks_by_reference import REFERENCE_ATTACKS
from parity_tests.campaigns.corruption.cases import Case, Outcome, baselines, try_case
from parity_tests.campaigns.corruption.damage import damaged
from parity_tests.campaigns.corruption.samples import samples
from parity_tests.campaigns.corruption.watched_process import Worker


@dataclass(frozen=True)
class Settings:
    """Which files are tried, and how long one may take."""

    files: int = 1000
    """How many damaged files; those built to harm come on top."""
    seed: int = 0
    """Of the damage: a file is the same for the same seed and number."""
    first: int = 0
    """The number of the first of them: an interrupted campaign goes on from there."""
    workers: int = 2
    """Processes."""
    patience: float = 20.0
    """Seconds of processor time after which reading or converting a file counts as a hang."""
    containers: tuple[str, ...] = ()
    """Only these kinds; all when empty."""


def attacks(settings: Settings) -> list[Attack]:
    """Every attack; none where only some containers are tried."""
    if settings.containers:
        return []
    return [attack for group in (*CONTENT_ATTACKS, *REFERENCE_ATTACKS) for attack in group()]


def run(settings: Settings, scratch: Path) -> Iterator[Outcome]:
    """Every attack, then damaged files of one container after the other."""
    known = [s for s in samples() if not settings.containers or s.kind in settings.containers]
    harmful = attacks(settings)
    workers = [Worker(settings.patience) for _ in range(settings.workers)]
    free: queue.Queue[Worker] = queue.Queue()

    def case(k: int) -> Case:
        if k < 0:
            return Case("attacks", harmful[k].name, harmful[k], harmful[k].facts)
        sample = known[k % len(known)]
        what, files, checked = damaged(np.random.default_rng([settings.seed, k]), sample)
        name = f"number {k}: {what}"
        return Case(sample.kind, name, files, sample.facts, whole[sample.kind], checked)

    def outcome(k: int) -> Outcome:
        worker = free.get()
        try:
            return try_case(case(k), worker, scratch / str(k))[0]
        finally:
            free.put(worker)

    try:
        whole = baselines(known, workers[0], scratch)
        for worker in workers:
            free.put(worker)
        numbers = range(settings.first, settings.first + settings.files)
        with ThreadPoolExecutor(settings.workers) as pool:
            yield from pool.map(outcome, [*range(-len(harmful), 0), *numbers])
    finally:
        for worker in workers:
            worker.stop()


COLUMNS = ("files", "refused", "same", "other", "missed", "ported", "failed")


def columns(outcome: Outcome) -> Iterator[str]:
    """Those that an outcome counts in."""
    yield "files"
    if outcome.read:
        read = {"identical": "same", "different": "other"}.get(outcome.read, outcome.read)
        yield "missed" if outcome.unnoticed else read
    if outcome.converted:
        yield "ported"
    if outcome.failure:
        yield "failed"


def report(found: Iterable[Outcome]) -> Table:
    """A row per container: files refused; read as the tensors of the whole file; as others, where
    no checksum could tell ("other") and where one could ("missed"); converted; and failures.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in found:
        for kind in (outcome.kind, "all"):
            counts[kind].update(columns(outcome))
    table = Table(title="Damaged and malicious files")
    table.add_column("container", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for kind in sorted(counts, key="all".__eq__):  # as they came, and all at the end
        table.add_row(kind, *(f"{counts[kind][column]:,}" for column in COLUMNS))
    return table


def main(settings: Settings) -> int:
    """Print a table, and each failure with its files' folder; 1 if there is one, 130 on Ctrl-C."""
    check_positive(files=settings.files, workers=settings.workers)
    check_not_negative(seed=settings.seed, first=settings.first)
    if not settings.patience > 0:
        raise InputError(f"expected seconds above 0, got {settings.patience}", argument="patience")
    kinds = {sample.kind for sample in samples()}
    unknown = sorted({*settings.containers} - kinds)
    if unknown:
        raise InputError(f"expected some of {sorted(kinds)}, got {unknown}", argument="containers")
    console, scratch = Console(), Path(tempfile.mkdtemp(prefix="corruption-"))
    found: list[Outcome] = []
    interrupted = False
    try:
        total = settings.files + len(attacks(settings))
        for outcome in track(run(settings, scratch), "files", total, console=console):
            found.append(outcome)
            if outcome.failure:
                text = f"{outcome.kind}, {outcome.name}: {outcome.failure}"
                console.print(escape(text), soft_wrap=True)
    except KeyboardInterrupt:
        done = sum(outcome.kind != "attacks" for outcome in found)
        console.print(f"interrupted; go on with --first {settings.first + done}")
        interrupted = True
    console.print(report(found))
    failures = sum(bool(outcome.failure) for outcome in found)
    if failures:
        console.print(f"{failures} failures; their files are in {scratch}")
        return 1
    shutil.rmtree(scratch)
    return 130 if interrupted else 0


if __name__ == "__main__":
    with one_line_errors(Settings):
        raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
