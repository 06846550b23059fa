"""What inspections, conversions and checks of weights print for a person."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from numpy_lstm.porting.check import CheckResult
from numpy_lstm.porting.proof.proof import verdict
from numpy_lstm.roundoff import K

MOST_ROWS = 200
"""The tensors of which a table is printed; to set thousands in columns takes seconds."""


def say(console: Console, text: str) -> None:
    """Print a line as it is, without markup and without wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_inspection(report: Mapping[str, Any], console: Console) -> None:
    """Print the report of `inspect`: tensors, LSTMs, and what the file does not say."""
    table = Table(title=f"{report['container']}: {len(report['tensors'])} tensors")
    table.add_column("name", overflow="fold")
    for column in ("shape", "dtype", "smallest", "largest", ""):
        table.add_column(column)
    for tensor in report["tensors"][:MOST_ROWS]:
        numbers = (tensor["min"], tensor["max"], tensor["trouble"])
        shape = " x ".join(map(str, tensor["shape"])) or "scalar"
        table.add_row(escape(tensor["name"]), shape, tensor["dtype"], *numbers)
    console.print(table)
    if len(report["tensors"]) > MOST_ROWS:
        say(console, f"and {len(report['tensors']) - MOST_ROWS} more, which --json lists")
    for note in report["notes"]:
        say(console, f"note: {note}")
    lstms = report["lstms"]
    if not lstms:
        say(console, "No LSTM found: no tensors have names or shapes that fit a known layout.")
    for k, lstm in enumerate(lstms, 1):
        heading = f"\nLSTM {k} of {len(lstms)} (--select {lstm['select']!r})"
        if lstm["guess"]:
            heading = "\nperhaps an LSTM, by shapes alone (give --from and --names to convert it)"
        elif lstm["ambiguous"]:
            heading += " ambiguous: the first readings are equally likely"
        say(console, heading)
        _print_lstm(lstm, console)


def _print_lstm(lstm: Mapping[str, Any], console: Console) -> None:
    for rank, hypothesis in enumerate(lstm["hypotheses"], 1):
        say(console, f"  {rank}. {hypothesis['layout']}: {hypothesis['title']}")
        for reason in hypothesis["reasons"]:
            say(console, f"     {reason}")
    if lstm["activations"]:
        say(console, f"  activations, as the file says: {', '.join(lstm['activations'])}")
    for problem in lstm["problems"]:
        say(console, f"  {problem}")
    for fact in lstm["unsaid"]:
        say(console, f"  not in the file: {fact}")


def print_record(record: Mapping[str, Any], console: Console) -> None:
    """Print what a conversion did, from its record."""
    source, destination = record["source"], record["destination"]
    say(console, f"{source['layout']} -> {destination['layout']}")
    for note in record["notes"]:
        say(console, f"note: {note}")
    for sentence in record["lost"]:
        say(console, f"lost: {sentence}")
    for fact in record["unsaid"]:
        say(console, f"not in the file, but in the proof beside it: {fact}")
    _print_distances(record["proof"]["distances"], console)
    say(console, _way_back("it", "the source", record["proof"]["reversible"]))


def print_check(result: CheckResult, console: Console) -> None:
    """Print the distances of a check, the claims of the record, and the verdict."""
    proof = result.proof
    _print_distances(proof.distances, console)
    if proof.initial_states != "none":
        say(console, f"learned initial states: {proof.initial_states}")
    if result.other_source:
        say(console, "the proof beside the second was made from another source")
    for claim, holds in result.claims:
        say(console, f"{claim}: {'holds' if holds else 'FAILS'}")
    say(console, _way_back("the second", "the first", proof.reversible))
    say(console, verdict(proof))
    say(console, "the same LSTM" if proof.passed else "NOT the same LSTM")
    if not all(holds for _, holds in result.claims):
        say(console, "but the proof beside the second does NOT hold: something has changed since")


def _print_distances(distances: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """Print a table of the distances by run and output, and which run was not possible."""
    table = Table(title=f"Distance from the source in float64, in roundoffs (allowed {K:g})")
    outputs = list(next(iter(distances.values())))
    for column in ("run", *outputs):
        table.add_column(column)
    for run, by_output in distances.items():
        table.add_row(run, *(f"{by_output[output]:.2f}" for output in outputs))
    console.print(table)
    if "numpy_lstm" not in distances:
        say(console, "not run by lstm_forward, which has sigmoid and tanh only")


def _way_back(second: str, first: str, same: bool) -> str:
    """Whether the second file, converted back, would have the very bits of the first."""
    if same:
        return f"converted back, {second} is {first} bit for bit"
    return (
        f"converted back, {second} is not {first} bit for bit (biases that were summed, or digits"
        " that were dropped)"
    )
