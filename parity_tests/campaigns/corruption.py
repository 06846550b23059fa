"""Damaged and malicious files of every container, through reading, inspection and conversion:

python -m parity_tests.campaigns.corruption --files 10000 --seed 0

Each file must be refused with one sentence, or be read. Worker processes do it, and are watched: a
crash, a hang, more than a gibibyte of memory, an exception that is no `InputError`, code that ran,
another file's content, a destination that changed although the conversion failed, and a file left
behind are failures. What a checksum covers must not be read as other tensors.
"""

import json
import os
import queue
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from numpy_lstm.errors import InputError, check_not_negative, check_positive, one_line_errors
from parity_tests.campaigns.corruption_attacks import CANARY, SECRET, Attack, attacks
from parity_tests.campaigns.corruption_samples import Sample, damaged, samples

PRECIOUS = b"a file that was there before"
WAITING = 15
"""A worker that does nothing hangs after this many times the patience, by the clock: on a busy
machine a worker may have to wait for the processor."""
TICKS = os.sysconf("SC_CLK_TCK")
DESTINATION = "destination.npz"


@dataclass(frozen=True)
class Settings:
    """What to try."""

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


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Args:
        kind: of the sample, or "attacks".
        name: of the file, for a person.
        read: "refused", "identical", "different", or "" if it never came to that.
        converted: whether it was.
        unnoticed: whether it was read as other tensors although a checksum covers them.
        failure: what went wrong; "" if nothing did.
    """

    kind: str
    name: str
    read: str
    converted: bool
    unnoticed: bool = False
    failure: str = ""


@dataclass
class Worker:
    """A process that does one step with one file at a time, and is started anew when it dies."""

    patience: float
    command: tuple[str, ...] = (sys.executable, "-m", "parity_tests.campaigns.corruption_worker")
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def ask(self, order: Mapping[str, Any]) -> dict[str, str]:
        """The worker's answer; that it crashed or hangs, if so."""
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; reading says so
        answered = self._wait_for(process)
        line = process.stdout.readline() if answered else b""
        if line:
            return json.loads(line)
        status = self.stop()
        wrong = f"the process died with status {status}" if answered else "hangs"
        return {"wrong": wrong}

    def _wait_for(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a process answers, or dies, before it hangs."""
        until = time.monotonic() + WAITING * self.patience
        used = processor_seconds(process.pid)
        while time.monotonic() < until:
            ready, _, _ = select.select([process.stdout], [], [], min(1.0, self.patience))
            if ready:
                return True
            if processor_seconds(process.pid) - used > self.patience:
                return False
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        """A worker that is ready, so that its start does not count as a hang."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the worker does not start: status {self.stop()}")
        return self.process

    def stop(self) -> int | None:
        """Kill the process, if there is one."""
        process, self.process = self.process, None
        if process is None:
            return None
        # One that has died by itself has its own status.
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        pass


def processor_seconds(pid: int) -> float:
    """What a process has used so far, with those of its children that have ended."""
    # After the name, which may hold spaces: utime, stime, cutime and cstime are fields 14 to 17.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS


@dataclass(frozen=True)
class Case:
    """One file to try, and what must become of it."""

    kind: str
    name: str
    files: Mapping[str, bytes] | Attack
    facts: Mapping[str, float | str]
    whole: str | None = None
    """The digest of the tensors before the damage."""
    checked: bool = False

    def build(self, folder: Path) -> Path:
        """Write the files; the path to read."""
        if isinstance(self.files, Attack):
            return self.files.build(folder)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder / next(iter(self.files))

    def judge(self, answer: Mapping[str, str]) -> Outcome:
        """What the answer means."""
        converted, unnoticed, failure = answer["convert"] == "done", False, answer["wrong"]
        read = answer["read"]
        if read not in ("", "refused"):
            read = "identical" if read == self.whole else "different"
        if isinstance(self.files, Attack):
            by = self.files.by
            if not failure and (converted or (by == "read" and read != "refused")):
                failure = f"not refused by {by}"
        elif self.checked and read == "different":
            unnoticed, failure = True, failure or "read as other tensors, despite its checksum"
        return Outcome(self.kind, self.name, read, converted, unnoticed, failure)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and folders as if empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def trespass(before: Mapping[str, bytes], after: Mapping[str, bytes], converted: bool) -> str:
    """What changed in a folder and must not; "" if nothing."""
    own = {DESTINATION, f"{DESTINATION}.proof.json"} if converted else set()
    if CANARY in after:
        return "code of the file was run"
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    if changed - own:
        return f"changed or left behind: {', '.join(sorted(changed - own))}"
    return "" if changed == own else "converted, but no file is there"


def try_case(case: Case, worker: Worker, folder: Path) -> tuple[Outcome, dict[str, str]]:
    """Build a case in a folder of its own, which is left if something is wrong."""
    folder.mkdir()
    path = case.build(folder)
    (folder / DESTINATION).write_bytes(PRECIOUS)
    before = contents(folder)
    order = {"path": str(path), "destination": str(folder / DESTINATION), "secret": SECRET}
    answer = {"read": "", "convert": "", "wrong": ""}
    for step in ("read", "convert"):
        if not answer["wrong"]:
            answer |= worker.ask(order | {"facts": dict(case.facts), "step": step})
    wrong = trespass(before, contents(folder), answer["convert"] == "done")
    answer["wrong"] = answer["wrong"] or wrong
    outcome = case.judge(answer)
    if not outcome.failure:
        shutil.rmtree(folder)
    return outcome, answer


def baselines(known: list[Sample], worker: Worker, scratch: Path) -> dict[str, str]:
    """Digests of the whole files, which must be read and converted.

    Raises:
        RuntimeError: one is not: the campaign would prove nothing.
    """
    result = {}
    for k, sample in enumerate(known):
        case = Case(sample.kind, "whole", sample.files, sample.facts)
        _, answer = try_case(case, worker, scratch / f"whole-{k}")
        if answer["wrong"] or answer["convert"] != "done":
            raise RuntimeError(f"a whole {sample.kind} file is not converted: {answer}")
        result[sample.kind] = answer["read"]
    return result


def run(settings: Settings, scratch: Path) -> Iterator[Outcome]:
    """Every attack, then damaged files of one container after the other."""
    known = [s for s in samples() if not settings.containers or s.kind in settings.containers]
    harmful = [] if settings.containers else attacks()
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
        total = settings.files + (0 if settings.containers else len(attacks()))
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
