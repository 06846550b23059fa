"""Carry LSTM weights between NumPy, PyTorch and other frameworks, and prove that they arrived.

Exit status: 0 done and proven, 1 the files do not hold the same LSTM or the proof beside the
second does not hold, 2 unusable input.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from threadpoolctl import threadpool_limits

from numpy_lstm.commands.torch_files import READERS, WRITERS, module_archive
from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import InputError
from numpy_lstm.porting.check import CheckResult, check_files
from numpy_lstm.porting.convert import convert
from numpy_lstm.porting.formats.derived_weights import with_derived_weights
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.inspection import inspect
from numpy_lstm.porting.layouts.all_frameworks import ROWS
from numpy_lstm.porting.options import OptionError, ReadOptions
from numpy_lstm.porting.proof.proof import DifferentSizes, prove
from numpy_lstm.porting.proof.record import proof_path
from numpy_lstm.porting.recognise.loading import lstm_in_archive, read_lstm
from numpy_lstm.porting.terminal import print_check, print_inspection, print_record, say

Activations = tuple[str, str, str]


@dataclass(frozen=True)
class Inspect:
    """Say what is in a file: its tensors, the LSTMs among them, and how each can be read."""

    file: tyro.conf.Positional[Path]
    """Weights: .pt .safetensors .npz .json .keras .h5 .onnx, or a checkpoint's .index."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """Print the report; the exit status is always 0."""
        report = inspect(read_archive(self.file, READERS))
        if self.json:
            print(json.dumps(report, indent=1, allow_nan=False))
        else:
            console = Console()
            print_inspection(report, console)
            for lstm in report["lstms"]:
                say(console, f"next: {convert_line(self.file, lstm, len(report['lstms']))}")
        return 0


@dataclass(frozen=True)
class Convert:
    """Write an LSTM in another layout, and beside it a proof that it is the same LSTM."""

    source: tyro.conf.Positional[Path]
    """The file to read."""
    destination: tyro.conf.Positional[Path]
    """File to write: .npz .safetensors .pt .weights.h5 .onnx .index"""
    to: str
    """Layout to write; `numpy-lstm port layouts` lists them."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Layout of the source; found out if not given."""
    select: str | None = None
    """Prefix of the LSTM that is meant, where a file has several; of its layers, with commas."""
    forget_bias: float | None = None
    """Added to the forget gate at run time (TensorFlow), which no file says."""
    activations: Activations | None = None
    """Of gates, candidate and output, where the file does not say them."""
    names: str | None = None
    """Which tensor is which, where their names say nothing: W_ih=a,W_hh=b,b=c (with --from)."""
    dtype: str | None = None
    """float32 or float64; that of the source if not given."""
    allow_lossy: bool = False
    """Give up what the layout has no place for, and say what it was."""
    overwrite: bool = False
    """Replace a file that is there."""

    def run(self) -> int:
        """Convert; the exit status is 0, since whatever is not written and proven is an error."""
        options = ReadOptions(
            self.from_, self.select, self.forget_bias, self.activations, parsed_names(self.names)
        )
        record = convert(
            self.source,
            self.destination,
            self.to,
            options,
            dtype=self.dtype,
            allow_lossy=self.allow_lossy,
            overwrite=self.overwrite,
            readers=READERS,
            writers=WRITERS,
        )
        console = Console()
        print_record(record, console)
        proof = proof_path(self.destination).name
        say(console, f"{self.destination} written; its proof is {proof}")
        if self.to == "torch" and self.destination.suffix == ".pt":
            say(console, loading_lines(self.destination, record["sizes"]))
        return 0


@dataclass(frozen=True)
class Check:
    """Prove that two files, or a file and a live torch module, hold the same LSTM."""

    source: tyro.conf.Positional[Path]
    """The first of the two files."""
    destination: tyro.conf.Positional[str]
    """Another, whose proof is verified too if it lies beside it; or package.module:name of a
    torch.nn.Module."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Layout of the source; found out if not given."""
    select: str | None = None
    """Prefix of the LSTM that is meant in the source."""
    forget_bias: float | None = None
    """Added to the forget gate at run time (TensorFlow), which no file says."""
    activations: Activations | None = None
    """Of gates, candidate and output, where the file does not say them."""
    names: str | None = None
    """As of convert: which tensor of the source is which."""
    to: str | None = None
    """Layout of the second; found out if not given."""
    to_select: str | None = None
    """Prefix of the LSTM that is meant in the second."""
    to_forget_bias: float | None = None
    """As --forget-bias, of the second."""
    to_activations: Activations | None = None
    """As --activations, of the second."""

    def run(self) -> int:
        """Prove it; 0 if they do, 1 if they do not."""
        console = Console()
        try:
            result = self._checked()
        except DifferentSizes as error:
            say(console, f"{error}\nNOT the same LSTM")
            return 1
        print_check(result, console)
        return 0 if result.passed else 1

    def _checked(self) -> CheckResult:
        options = ReadOptions(
            self.from_, self.select, self.forget_bias, self.activations, parsed_names(self.names)
        )
        second_options = ReadOptions(
            self.to, self.to_select, self.to_forget_bias, self.to_activations
        )
        path = Path(self.destination)
        if ":" not in self.destination or os.path.exists(path):
            return check_files(self.source, path, options, READERS, second_options)
        archive = with_derived_weights(module_archive(self.destination))
        try:
            second = lstm_in_archive(path, archive, second_options)
        except OptionError as error:
            raise error.for_destination() from error
        first = read_lstm(self.source, options, READERS)
        return CheckResult(prove(first.lstm, second.lstm))


@dataclass(frozen=True)
class Layouts:
    """List the layouts that are known, in Markdown (docs/porting.md)."""

    def run(self) -> int:
        """Print the page; the exit status is always 0."""
        print(layouts_page(), end="")
        return 0


COMMANDS = ("inspect", "convert", "check", "layouts")
Command = (
    Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Layouts, tyro.conf.subcommand("layouts")]
)


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `numpy-lstm port`; the exit status."""
    sys.path.insert(0, "")  # live modules are imported from the current folder
    if arguments and os.path.isfile(arguments[0]) and arguments[0] not in COMMANDS:
        arguments = ["inspect", *arguments]
    command = parse(Command, program, __doc__, arguments, (Inspect, Convert, Check, Layouts))
    with threadpool_limits(1):
        try:
            return command.run()
        except OptionError as error:
            raise InputError(error.worded(flag_of(error))) from error


def convert_line(file: Path, lstm: Mapping[str, Any], count: int) -> str:
    """The command that converts an LSTM which `inspect` has found, with what the file leaves open.

    Args:
        file: that was inspected.
        lstm: its report.
        count: how many LSTMs the file holds.
    """
    words = ["numpy-lstm port convert", shlex.quote(str(file)), "OUT.pt --to torch"]
    if lstm["guess"]:
        words.append(f"--from {lstm['hypotheses'][0]['layout']} --names {lstm['names']}")
    elif lstm["ambiguous"]:
        words.append(f"--from {lstm['hypotheses'][0]['layout']}")
    if count > 1 and not lstm["guess"]:
        words.append(f"--select {shlex.quote(lstm['select'])}")
    unsaid = " ".join(lstm["unsaid"])
    if "forget_bias" in unsaid:
        words.append("--forget-bias 1.0")
    if "activations, which must be given" in unsaid:
        words.append("--activations 'hard_sigmoid(0.2, 0.5)' tanh tanh")
    return " ".join(words)


def loading_lines(path: Path, sizes: Mapping[str, Any]) -> str:
    """Three lines of Python that load a converted state_dict into PyTorch's module."""
    options = [f"{sizes['input_size']}, {sizes['hidden_size']}, num_layers={sizes['num_layers']}"]
    if not sizes["bias"]:
        options.append("bias=False")
    if sizes["bidirectional"]:
        options.append("bidirectional=True")
    if sizes["proj_size"]:
        options.append(f"proj_size={sizes['proj_size']}")
    return (
        "to load it:\n"
        "    import torch\n"
        f"    lstm = torch.nn.LSTM({', '.join(options)})  # x: [T, N, I]\n"
        f"    lstm.load_state_dict(torch.load({str(path)!r}, weights_only=True))"
    )


def parsed_names(text: str | None) -> dict[str, str] | None:
    """The option --names as a mapping from parts of the LSTM to names in the file.

    Raises:
        InputError: it is not of the form W_ih=a,W_hh=b.
    """
    if text is None:
        return None
    result = {}
    for pair in text.split(","):
        part, equals, name = pair.partition("=")
        if not equals or not part.strip() or not name.strip() or part.strip() in result:
            raise InputError(f"--names: expected W_ih=a,W_hh=b,..., each part once, got {text!r}")
        result[part.strip()] = name.strip()
    return result


def layouts_page() -> str:
    """The table of layouts as a table in Markdown."""
    words = {"stored": "in the bias", "given": "at run time, not in the file"}
    lines = [
        "| key | framework | gates | tensors | biases | forget bias | states | verified | source |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        tensors = ", ".join(f"`{t.name}` {t.axes}" for t in row.tensors)
        biases = "2" if row.bias_pair else "1"
        forget = words.get(str(row.forget_bias), f"{row.forget_bias} at run time")
        verified = row.verified or f"no: {row.checked or 'read'}"
        lines.append(
            f"| {row.key} | {row.title} | {' '.join(row.gates)} | {tensors} | {biases} | {forget} |"
            f" ({row.state_order}) | {verified} | {row.source} |"
        )
    return "\n".join(lines) + "\n"


def flag_of(error: OptionError) -> str:
    """The flag of the option that an error names."""
    if error.option == "layout":
        return "--to" if error.of_destination else "--from"
    name = error.option.replace("_", "-")
    return f"--to-{name}" if error.of_destination else f"--{name}"
