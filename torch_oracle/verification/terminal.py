"""A verdict on an adapter, for a person at a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from numpy_lstm.roundoff import K
from torch_oracle.verification.cases import Case
from torch_oracle.verification.results import Verification, divergence_sentence


def print_verification(verification: Verification, console: Console) -> None:
    """Distances, what is wrong, what was not judged, the verdict, and what to do next."""
    v = verification
    if v.worst:
        console.print(_distance_table(v))
    for line in (*what_is_wrong(v), *_what_to_know(v)):
        print_line(console, line)
    style = "green" if v.passed else "bold red"
    print_line(console, verdict(v), style)
    if isinstance(v.cause, Exception):
        print_line(console, "now run the same with --traceback to see where that was raised")
    elif v.divergences:
        print_line(console, f"now run `lstm-oracle diagnose {v.adapter}` to see which fault it is")


def verdict(verification: Verification) -> str:
    """The verdict in a line."""
    v = verification
    word = "passed" if v.passed else "FAILED"
    return f"{v.adapter}: {word} ({len(v.results)} cases, {len(v.worst)} tensors, {v.form} form)"


def what_is_wrong(verification: Verification) -> Iterator[str]:
    """The first divergence, cases that cannot be judged, and complaints, a line each."""
    v = verification
    if v.divergences:
        case, divergence = v.divergences[0]
        yield f"first divergence, in {case.name}:"
        yield f"  {divergence_sentence(divergence, v.names)}"
        yield f"  divergent: {len(v.divergences)} of {len(v.results)} cases"
    for result in v.results:
        if result.comparison is not None and result.comparison.undetermined is not None:
            tensor, step = result.comparison.undetermined
            place = f"{result.case.name}: from {tensor} at step {step} on nothing can be judged"
            yield f"{place}: rounding alone changes it by as much as its own width"
    for text, cases in v.complaints.items():
        yield f"complaint: {v.adapter} {text} {_first_case_of(cases)}"


def _what_to_know(verification: Verification) -> Iterator[str]:
    """Notes, what was not judged or tried, and what would narrow a divergence down."""
    v = verification
    for text, cases in v.notes.items():
        yield f"note: {v.adapter} {text} {_first_case_of(cases)}"
    if v.not_returned:
        yield f"not judged, since not returned: {', '.join(v.not_returned)}"
    if v.not_taken:
        yield f"not tried, since not among the parameters: {', '.join(v.not_taken)}"
    if v.divergences and v.intermediates:
        yield f"return these too to narrow it down: {', '.join(v.intermediates)}"


def distance_text(distance: float) -> str:
    """A distance as people read it: 3.25, or 1.8e+12."""
    return f"{distance:.2f}" if distance < 1e4 else f"{distance:.1e}"


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is, in one line; its brackets are not markup, and `:train:` is no emoji."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True, style=style)


def _distance_table(verification: Verification) -> Table:
    table = Table(title="Worst distance from torch over all cases and steps", box=None)
    table.add_column("tensor")
    table.add_column("returned as")
    table.add_column(f"distance\n(allowed {K:g})", justify="right")
    table.add_column("in", overflow="fold")
    for tensor, (distance, case) in verification.worst.items():
        name = verification.names[tensor]
        other_name = "" if name == tensor else name
        style = None if distance <= K else "bold red"
        table.add_row(tensor, other_name, distance_text(distance), case.name, style=style)
    return table


def _first_case_of(cases: list[Case]) -> str:
    more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
    return f"[{cases[0].name}{more}]"
