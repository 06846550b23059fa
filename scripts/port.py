"""Carry LSTM weights between NumPy, PyTorch and other frameworks, and prove that they arrived.

Exit status: 0 done and proven, 1 the files do not hold the same LSTM or the proof beside the
second does not hold, 2 unusable input.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

from threadpoolctl import threadpool_limits

from numpy_lstm.errors import one_line_errors
from numpy_lstm.porting.convert import Checked, check_files, convert
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.inspection import inspect
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.layouts.table import ROWS
from numpy_lstm.porting.proof.proof import OtherSizes, Proof, prove, verdict
from numpy_lstm.porting.proof.record import proof_path
from numpy_lstm.porting.recognise.select import ReadOptions, lstm_in_archive, read_lstm
from numpy_lstm.roundoff import K

with one_line_errors():
    import tyro
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

Activations = tuple[str, str, str]


def _read_pt(path: Path) -> Archive:
    from torch_oracle.weights.pt_files import read_pt

    return read_pt(path)


def _pt_bytes(lstm: PlacedLSTM) -> bytes:
    from torch_oracle.weights.pt_files import pt_bytes

    return pt_bytes(lstm.tensors)


def _module_archive(spec: str) -> Archive:
    from torch_oracle.verify.adapters import imported
    from torch_oracle.weights.pt_files import module_archive

    return module_archive(imported(spec))


READERS: Mapping[str, Callable[[Path], Archive]] = {"pt": _read_pt}
WRITERS: Mapping[str, Callable[[PlacedLSTM], bytes]] = {".pt": _pt_bytes}


class Command(Protocol):
    """A subcommand; its fields are its arguments."""

    def run(self) -> int:
        """Do it; the exit status."""
        ...


@dataclass(frozen=True)
class Inspect:
    """Say what is in a file: its tensors, the LSTMs among them, and how each can be read."""

    file: tyro.conf.Positional[Path]
    """Weights: .pt .safetensors .npz .json .keras .h5 .onnx, or a checkpoint's .index."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """Always 0."""
        report = inspect(read_archive(self.file, READERS))
        if self.json:
            print(json.dumps(report, indent=1, allow_nan=False))
        else:
            print_inspection(report, Console())
        return 0


@dataclass(frozen=True)
class Convert:
    """Write an LSTM in another layout, and beside it a proof that it is the same LSTM."""

    source: tyro.conf.Positional[Path]
    """File to read."""
    destination: tyro.conf.Positional[Path]
    """File to write: .npz .safetensors .pt .weights.h5 .onnx .index"""
    to: str
    """Layout to write; `port.py layouts` lists them."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Layout of the source; found out if not given."""
    select: str | None = None
    """Prefix of the LSTM that is meant, where a file has several; of its layers, with commas."""
    forget_bias: float | None = None
    """Added to the forget gate at run time (TensorFlow), which no file says."""
    activations: Activations | None = None
    """Of gates, candidate and output, where the file does not say them."""
    dtype: str | None = None
    """float32 or float64; that of the source if not given."""
    allow_lossy: bool = False
    """Give up what the layout has no place for, and say what it was."""
    overwrite: bool = False
    """Replace a file that is there."""

    def run(self) -> int:
        """0 if it is written and proven."""
        told = ReadOptions(self.from_, self.select, self.forget_bias, self.activations)
        record = convert(
            self.source,
            self.destination,
            self.to,
            told,
            dtype=self.dtype,
            allow_lossy=self.allow_lossy,
            overwrite=self.overwrite,
            readers=READERS,
            writers=WRITERS,
        )
        console = Console()
        print_record(record, console)
        say(
            console, f"{self.destination} written; its proof is {proof_path(self.destination).name}"
        )
        return 0


@dataclass(frozen=True)
class Check:
    """Prove that two files, or a file and a live torch module, hold the same LSTM."""

    source: tyro.conf.Positional[Path]
    """One file."""
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
    to: str | None = None
    """Layout of the second; found out if not given."""
    to_select: str | None = None
    """As --select, in the second."""
    to_forget_bias: float | None = None
    """As --forget-bias, of the second."""
    to_activations: Activations | None = None
    """As --activations, of the second."""

    def run(self) -> int:
        """0 if they do, 1 if they do not."""
        told = ReadOptions(self.from_, self.select, self.forget_bias, self.activations)
        second = ReadOptions(self.to, self.to_select, self.to_forget_bias, self.to_activations)
        console = Console()
        try:
            checked = self._checked(told, second)
        except OtherSizes as error:
            say(console, f"{error}\nNOT the same LSTM")
            return 1
        print_checked(checked, console)
        return 0 if checked.passed else 1

    def _checked(self, told: ReadOptions, second: ReadOptions) -> Checked:
        if ":" not in self.destination or os.path.exists(self.destination):
            return check_files(self.source, Path(self.destination), told, READERS, second)
        archive = _module_archive(self.destination)
        live = lstm_in_archive(Path(self.destination), archive, replace(second, second=True))
        return Checked(prove(read_lstm(self.source, told, READERS).lstm, live.lstm), ())


@dataclass(frozen=True)
class Layouts:
    """List the layouts that are known, in Markdown (docs/porting.md)."""

    def run(self) -> int:
        """Always 0."""
        print(layouts_page(), end="")
        return 0


COMMANDS: dict[str, type[Command]] = {
    "inspect": Inspect,
    "convert": Convert,
    "check": Check,
    "layouts": Layouts,
}


def say(console: Console, text: str) -> None:
    """A line as it is: no markup, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_inspection(report: Mapping[str, Any], console: Console) -> None:
    """Tensors, LSTMs, and what is not said."""
    table = Table(title=f"{report['container']}: {len(report['tensors'])} tensors")
    table.add_column("name", overflow="fold")
    for column in ("shape", "dtype", "smallest", "largest", ""):
        table.add_column(column)
    for tensor in report["tensors"]:
        numbers = (tensor["min"], tensor["max"], tensor["trouble"])
        shape = " x ".join(map(str, tensor["shape"])) or "scalar"
        table.add_row(escape(tensor["name"]), shape, tensor["dtype"], *numbers)
    console.print(table)
    for note in report["notes"]:
        say(console, f"note: {note}")
    if not report["lstms"]:
        say(console, "No LSTM found: no tensors have names or shapes that fit a known layout.")
    for k, found in enumerate(report["lstms"], 1):
        what = "ambiguous: the first readings are equally likely" if found["ambiguous"] else ""
        say(console, f"\nLSTM {k} of {len(report['lstms'])} (--select {found['select']!r}) {what}")
        for rank, hypothesis in enumerate(found["hypotheses"], 1):
            say(console, f"  {rank}. {hypothesis['layout']}: {hypothesis['title']}")
            for reason in hypothesis["reasons"]:
                say(console, f"     {reason}")
        if found["activations"]:
            say(console, f"  activations, as the file says: {', '.join(found['activations'])}")
        for problem in found["problems"]:
            say(console, f"  {problem}")
        for fact in found["unsaid"]:
            say(console, f"  not in the file: {fact}")


def print_record(record: Mapping[str, Any], console: Console) -> None:
    """What a conversion did."""
    source, destination = record["source"], record["destination"]
    say(console, f"{source['layout']} -> {destination['layout']}")
    for note in record["notes"]:
        say(console, f"note: {note}")
    for sentence in record["lost"]:
        say(console, f"lost: {sentence}")
    for fact in record["unsaid"]:
        say(console, f"not in the file, but in the proof beside it: {fact}")
    proof = record["proof"]
    print_distances(proof["distances"], console)
    print_left_out(proof["distances"], console)
    say(console, back("it", "the source", proof["reversible"]))


def back(second: str, first: str, same: bool) -> str:
    """How equal the weights are."""
    but = "" if same else " (biases that were summed, or digits that were dropped)"
    return f"converted back, {second} is {'' if same else 'not '}{first} bit for bit{but}"


def print_distances(distances: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """By run and output."""
    table = Table(title=f"Distance from the source in float64, in roundoffs (allowed {K:g})")
    outputs = list(next(iter(distances.values())))
    for column in ("run", *outputs):
        table.add_column(column)
    for run, by_output in distances.items():
        table.add_row(run, *(f"{by_output[output]:.2f}" for output in outputs))
    console.print(table)


def print_left_out(distances: Mapping[str, Any], console: Console) -> None:
    """Which of the runs was not possible."""
    if "numpy_lstm" not in distances:
        say(console, "not run by lstm_forward, which has sigmoid and tanh only")


def print_checked(checked: Checked, console: Console) -> None:
    """The verdict."""
    proof: Proof = checked.proof
    print_distances(proof.distances, console)
    print_left_out(proof.distances, console)
    if proof.initial_states != "none":
        say(console, f"learned initial states: {proof.initial_states}")
    if checked.other:
        say(console, "the proof beside the second was made from another source")
    for claim, holds in checked.claims:
        say(console, f"{claim}: {'holds' if holds else 'FAILS'}")
    say(console, back("the second", "the first", proof.reversible))
    say(console, verdict(proof))
    say(console, "the same LSTM" if proof.passed else "NOT the same LSTM")
    if not all(holds for _, holds in checked.claims):
        say(console, "but the proof beside the second does NOT hold: something has changed since")


def layouts_page() -> str:
    """The table of layouts, in Markdown."""
    lines = [
        "| key | framework | gates | tensors | biases | forget bias | states | verified | source |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        tensors = ", ".join(f"`{t.name}` {t.axes}" for t in row.tensors)
        biases = "2" if row.bias_pair else "1"
        words = {"stored": "in the bias", "told": "at run time, not in the file"}
        forget = words.get(str(row.forget_bias), f"{row.forget_bias} at run time")
        verified = row.verified or f"no: {row.checked or 'read'}"
        lines.append(
            f"| {row.key} | {row.title} | {' '.join(row.gates)} | {tensors} | {biases} | {forget} |"
            f" ({row.state_order}) | {verified} | {row.source} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line; the exit status."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__)
    with threadpool_limits(1):
        return command.run()


if __name__ == "__main__":
    sys.path.insert(0, "")  # live modules are imported from the current folder
    with one_line_errors():
        raise SystemExit(main())
