"""A process that does one step with one file at a time, and is watched meanwhile."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WAITING = 15
"""A worker that does nothing hangs after this many times the patience, by the clock: on a busy
machine a worker may have to wait for the processor."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Worker:
    """A process that does one step with one file at a time, and is started anew when it dies."""

    patience: float
    command: tuple[str, ...] = (sys.executable, "-m", "parity_tests.campaigns.corruption.worker")
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
            cwd=Path(__file__).parents[3],
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
