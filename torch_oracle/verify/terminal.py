"""A verdict on an adapter, for a person at a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from numpy_lstm.roundoff import K
from torch_oracle.verify.verification import Case, Verification, sentence


def print_verification(verification: Verification, console: Console) -> None:
    """Distances, the first divergence, complaints, what was not judged, and the verdict."""
    v = verification
    if v.worst:
        console.print(_distances(v))
    for case, divergence in v.divergences[:1]:
        line(console, f"first divergence, in {case.name}:")
        line(console, f"  {sentence(divergence, v.names)}")
        line(console, f"  divergent: {len(v.divergences)} of {len(v.results)} cases")
    for result in v.results:
        if result.comparison is not None and result.comparison.undetermined is not None:
            tensor, step = result.comparison.undetermined
            place = f"{result.case.name}: from {tensor} at step {step} on nothing can be judged"
            line(console, f"{place}: rounding alone changes it by as much as its own width")
    for title, groups in (("complaint", v.complaints), ("note", v.notes)):
        for text, cases in groups.items():
            line(console, f"{title}: {v.adapter} {text} {_where(cases)}")
    if v.not_returned:
        line(console, f"not judged, since not returned: {', '.join(v.not_returned)}")
    if v.not_taken:
        line(console, f"not tried, since not among the parameters: {', '.join(v.not_taken)}")
    if v.divergences and v.intermediates:
        line(console, f"return these too to narrow it down: {', '.join(v.intermediates)}")
    count = f"{len(v.results)} cases, {len(v.worst)} tensors, {v.form} form"
    verdict = Text("passed", "green") if v.passed else Text("FAILED", "bold red")
    console.print(Text.assemble(f"{v.adapter}: ", verdict, f" ({count})"), soft_wrap=True)


def shown(distance: float) -> str:
    """A distance as people read it."""
    return f"{distance:.2f}" if distance < 1e4 else f"{distance:.1e}"


def line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is, in one line; its brackets are not markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)


def _distances(verification: Verification) -> Table:
    table = Table(title="Worst distance from torch over all cases and steps")
    table.add_column("tensor")
    table.add_column("returned as")
    table.add_column(f"distance (allowed {K:g})", justify="right")
    table.add_column("in", overflow="fold")
    for tensor, (far, case) in verification.worst.items():
        name = verification.names[tensor]
        style = None if far <= K else "bold red"
        own = "" if name == tensor else name
        table.add_row(tensor, own, shown(far), case.name, style=style)
    return table


def _where(cases: list[Case]) -> str:
    more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
    return f"[{cases[0].name}{more}]"
