"""Train the NumPy LSTM while PyTorch checks every gradient of every time step.

Exit status: 0 every verdict holds, 1 one does not, 2 unusable input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
import tyro

from numpy_lstm.commands import train
from numpy_lstm.commands.reporting import errors_name_options
from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import InputError, check_not_negative
from torch_oracle.commands.lockstep_run import LockstepRun, Output


@dataclass(frozen=True)
class Counting(train.Counting):
    """Learn the counting language a^n b^n EOS, by the recommended recipe (Adam, batches of 32)."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)


@dataclass(frozen=True)
class CountingSeed(train.CountingSeed):
    """The same by the recipe of the script this project began with (SGD, one at a time)."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)


@dataclass(frozen=True)
class Text(train.Text):
    """Learn a UTF-8 text file, character by character."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)


Command = (
    Annotated[Counting, tyro.conf.subcommand("counting")]
    | Annotated[CountingSeed, tyro.conf.subcommand("counting-seed")]
    | Annotated[Text, tyro.conf.subcommand("text")]
)


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `lstm-oracle lockstep`; the exit status."""
    kinds = (Counting, CountingSeed, Text)
    with errors_name_options(*kinds):
        command: Counting | CountingSeed | Text = parse(Command, program, __doc__, arguments, kinds)
        options = command.output
        check_not_negative(parity_every=options.parity_every, free_run_steps=options.free_run_steps)
        if not 0 <= options.target_excess < math.inf:
            raise InputError(
                f"expected a finite number of at least 0, got {options.target_excess}",
                argument="target_excess",
            )
        task, folder = train.prepare(command)
        torch.set_num_threads(options.threads)
        return LockstepRun(command.experiment, task, folder, options).run(options.threads)
