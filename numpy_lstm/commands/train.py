"""Train the NumPy LSTM language model on the counting language, or on a text."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from numpy_lstm.commands.reporting import errors_name_options
from numpy_lstm.commands.training_run import TrainingRun
from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import InputError, check_positive, require
from numpy_lstm.training.experiment import (
    RECOMMENDED,
    SEED_RECIPE,
    CountingExperiment,
    TextExperiment,
)
from numpy_lstm.training.run_folder import RunFolder, next_free_folder
from numpy_lstm.training.tasks import Task


@dataclass(frozen=True)
class Output:
    """Where results go, and how many threads work."""

    out: Path | None = None
    """Folder for log.jsonl, curves.png and best.safetensors; by default a new one below runs/."""
    overwrite: bool = False
    """Replace the run that the folder holds already."""
    threads: int = 1
    """Threads of the linear algebra; one is fastest for small models."""


@dataclass(frozen=True)
class Counting:
    """Learn the counting language a^n b^n EOS, by the recommended recipe (Adam, batches of 32)."""

    experiment: tyro.conf.OmitArgPrefixes[CountingExperiment] = RECOMMENDED
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    name = "counting"

    def task(self) -> Task:
        """The sequences of the language, as the experiment's settings say."""
        return self.experiment.task()


@dataclass(frozen=True)
class CountingSeed(Counting):
    """The same by the recipe of the script this project began with (SGD, one at a time)."""

    experiment: tyro.conf.OmitArgPrefixes[CountingExperiment] = SEED_RECIPE
    name = "counting-seed"


@dataclass(frozen=True)
class Text:
    """Learn a UTF-8 text file, character by character."""

    file: tyro.conf.Positional[Path]
    """The text."""
    experiment: tyro.conf.OmitArgPrefixes[TextExperiment] = field(default_factory=TextExperiment)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)
    name = "text"

    def task(self) -> Task:
        """The streams of the text."""
        return self.experiment.task(self.file)


Training = Counting | CountingSeed | Text
Command = (
    Annotated[Counting, tyro.conf.subcommand("counting")]
    | Annotated[CountingSeed, tyro.conf.subcommand("counting-seed")]
    | Annotated[Text, tyro.conf.subcommand("text")]
)


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `numpy-lstm train`; the exit status."""
    kinds = (Counting, CountingSeed, Text)
    with errors_name_options(*kinds):
        command: Training = parse(Command, program, __doc__, arguments, kinds)
        task, folder = prepare(command)
        return TrainingRun(command.experiment, task, folder).run(command.output.threads)


def prepare(command: Training) -> tuple[Task, RunFolder]:
    """The data of a command and the folder for its results; everything is checked, nothing written.

    Raises:
        InputError: a package is missing, or a setting, the text or the folder cannot be used.
    """
    require("matplotlib")
    output = command.output
    check_positive(threads=output.threads)
    cores = os.cpu_count() or 1
    if output.threads > cores:
        raise InputError(
            f"expected at most {cores}, the cores of this machine, got {output.threads}",
            argument="threads",
        )
    task = command.task()
    path = output.out
    if path is None:
        path = next_free_folder(Path("runs") / command.name)
    return task, RunFolder(path, overwrite=output.overwrite)
