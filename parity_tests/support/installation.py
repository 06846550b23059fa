"""The wheel, and environments in which it is installed with one extra and nothing else.

An environment of the suite holds the wheel as pip installs it, and of the packages around it those
alone that the extra asks for, and what they ask for in turn: links to those of this environment,
since copying torch takes minutes. `make proof` has pip install everything for once.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DRIVER = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from numpy_lstm.commands.main import main as numpy_lstm
from torch_oracle.commands.main import main as lstm_oracle

programs = {"numpy-lstm": numpy_lstm, "lstm-oracle": lstm_oracle}
results = []
for program, *arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = programs[program](arguments)
        except SystemExit as stop:
            status = stop.code
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


@dataclass(frozen=True)
class Printed:
    """Exit status and output of one command."""

    status: int
    out: str
    err: str


def build(folder: Path) -> tuple[Path, Path]:
    """Build the wheel and the source distribution from what git knows; their paths."""
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    for what in ("sdist", "wheel"):
        code = f"from setuptools.build_meta import build_{what} as build; build({str(folder)!r})"
        command = [sys.executable, "-W", "ignore", "-c", code]
        subprocess.run(command, cwd=source, check=True, capture_output=True, env=environment())
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


def distributions_of(wheel: Path, extra: str) -> set[str]:
    """The distributions that the wheel needs with an extra, and those that they need."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    prefix = "Requires-Dist: "
    needed = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    found: set[str] = set()
    _add(needed, {extra}, found)
    return found


def _add(requirements: list[str], extras: set[str], found: set[str]) -> None:
    """Add to `found` what the requirements name for this machine, and what that requires."""
    for line in requirements:
        requirement = Requirement(line)
        marker = requirement.marker
        wanted = marker is None or any(marker.evaluate({"extra": each}) for each in {"", *extras})
        if wanted and requirement.name not in found:
            found.add(requirement.name)
            needed = distribution(requirement.name).requires or []
            _add(needed, requirement.extras, found)


class Environment:
    """A virtual environment with the wheel and one extra."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"

    @classmethod
    def with_links(cls, folder: Path, wheel: Path, extra: str) -> "Environment":
        """Of links to this environment's packages, made within a second or two."""
        made = cls(folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        made._pip("install", "--quiet", "--no-deps", "--no-index", wheel)
        (packages,) = folder.glob("lib/python*/site-packages")
        for name in distributions_of(wheel, extra):
            files = distribution(name).files or []
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                target = Path(str(distribution(name).locate_file(top)))
                if not (packages / top).exists():
                    (packages / top).symlink_to(target)
        return made

    @classmethod
    def by_pip(cls, folder: Path, wheel: Path, extra: str) -> "Environment":
        """As a user makes it; this takes minutes where torch is large."""
        made = cls(folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        asked = f"{wheel}[{extra}]" if extra else str(wheel)
        made._pip("install", "--quiet", "-c", ROOT / "constraints.txt", asked)
        return made

    def _pip(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments]
        subprocess.run(list(map(str, command)), check=True, env=environment())

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder."""
        program, *arguments = command
        return subprocess.run(
            [self.bin / program, *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment(),
        )

    def run_all(self, folder: Path, commands: list[list[str]]) -> list[Printed]:
        """Run many command lines in one process, which imports everything once."""
        done = self.run(folder, "python", "-c", DRIVER, json.dumps(commands))
        assert done.returncode == 0, done.stderr
        results: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
        return [Printed(*each) for each in results]


def environment() -> dict[str, str]:
    """This process' environment without the checkout in the path."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
