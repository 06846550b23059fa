"""A verdict on an adapter, for a person at a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from numpy_lstm.roundoff import K
from torch_oracle.verification.cases import Case
from torch_oracle.verification.results import Verification, divergence_sentence


def print_verification(verification: Verification, console: Console) -> None:
    """Distances, the first divergence, complaints, what was not judged, and the verdict."""
    v = verification
    if v.worst:
        console.print(_distance_table(v))
    if v.divergences:
        case, divergence = v.divergences[0]
        print_line(console, f"first divergence, in {case.name}:")
        print_line(console, f"  {divergence_sentence(divergence, v.names)}")
        print_line(console, f"  divergent: {len(v.divergences)} of {len(v.results)} cases")
    for result in v.results:
        if result.comparison is not None and result.comparison.undetermined is not None:
            tensor, step = result.comparison.undetermined
            place = f"{result.case.name}: from {tensor} at step {step} on nothing can be judged"
            print_line(console, f"{place}: rounding alone changes it by as much as its own width")
    for title, groups in (("complaint", v.complaints), ("note", v.notes)):
        for text, cases in groups.items():
            print_line(console, f"{title}: {v.adapter} {text} {_first_case_of(cases)}")
    if v.not_returned:
        print_line(console, f"not judged, since not returned: {', '.join(v.not_returned)}")
    if v.not_taken:
        print_line(console, f"not tried, since not among the parameters: {', '.join(v.not_taken)}")
    if v.divergences and v.intermediates:
        print_line(console, f"return these too to narrow it down: {', '.join(v.intermediates)}")
    count = f"{len(v.results)} cases, {len(v.worst)} tensors, {v.form} form"
    verdict = Text("passed", "green") if v.passed else Text("FAILED", "bold red")
    console.print(Text.assemble(f"{v.adapter}: ", verdict, f" ({count})"), soft_wrap=True)


def distance_text(distance: float) -> str:
    """A distance as people read it: 3.25, or 1.8e+12."""
    return f"{distance:.2f}" if distance < 1e4 else f"{distance:.1e}"


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is, in one line; its brackets are not markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)


def _distance_table(verification: Verification) -> Table:
    table = Table(title="Worst distance from torch over all cases and steps")
    table.add_column("tensor")
    table.add_column("returned as")
    table.add_column(f"distance (allowed {K:g})", justify="right")
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
