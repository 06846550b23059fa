"""mutmut's verdicts, counted by module: mutmut results --all true | python scripts/mutants.py

Exit status 1 if fewer than 95 % of the mutants were killed.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

from numpy_lstm.commands.reporting import one_line_errors

with one_line_errors():
    from rich.console import Console
    from rich.table import Table

REQUIRED = 0.95


def main(lines: Iterable[str]) -> int:
    """Print the mutants that were not killed and a table of all; lines are `name: verdict`."""
    console = Console()
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        mutant, verdict = line.strip().rsplit(": ", 1)
        for row in (mutant.split(".")[1], "all"):
            by_module[row][verdict] += 1
        if verdict != "killed":
            console.print(mutant, verdict, highlight=False)
    total = by_module.pop("all")
    columns = ("killed", "survived", "timeout", "other")
    table = Table("module", "mutants", *columns, "killed, %", title="Mutants")
    for name, counts in (*sorted(by_module.items()), ("all", total)):
        figures = [counts[verdict] for verdict in columns[:3]]
        figures.append(counts.total() - sum(figures))
        share = f"{100 * counts['killed'] / counts.total():.1f}"
        table.add_row(name, *map(str, (counts.total(), *figures)), share)
    console.print(table)
    return int(total["killed"] < REQUIRED * total.total())


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main(sys.stdin))
