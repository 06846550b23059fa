"""A program of several subcommands, of which only the one that is called is imported."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from numpy_lstm.commands.reporting import one_line_errors


@dataclass(frozen=True)
class Subcommand:
    """A row of a program's table.

    Args:
        module: whose function ``main(program, arguments)`` carries it out.
        summary: what it does, in one line.
        extra: the extra of numpy-lstm that installs what it imports.
    """

    module: str
    summary: str
    extra: str


def run_program(
    program: str,
    description: str,
    table: Mapping[str, Subcommand],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a program's command line.

    Args:
        program: its name.
        description: what `--help` says first.
        table: the subcommands by name.
        arguments: the command line without the program's name; by default this process' own.

    Returns:
        The exit status: 0 done or passed, 1 a verdict that fails.

    Raises:
        SystemExit: status 2 after a mistake that the user can mend, 130 after Ctrl-C, 141 if nobody
            reads standard output any more.
    """
    with one_line_errors():
        given = sys.argv[1:] if arguments is None else list(arguments)
        name = given[0] if given else ""
        if name in ("-h", "--help"):
            print(_help(program, description, table), end="")
            return 0
        if name == "--version":
            from numpy_lstm import __version__

            print(f"{program} {__version__}")
            return 0
        subcommand = _find(program, table, name)
        with one_line_errors(extra=subcommand.extra):
            return import_module(subcommand.module).main(f"{program} {name}", given[1:])


def _find(program: str, table: Mapping[str, Subcommand], name: str) -> Subcommand:
    """The subcommand of a name.

    Raises:
        InputError: there is none of this name.
    """
    if name in table:
        return table[name]
    from numpy_lstm.errors import InputError

    got = "none"
    if name:
        got = repr(name)
    hint = ""
    for similar in difflib.get_close_matches(name, table, n=1):
        hint = f"; did you mean {similar}?"
    raise InputError(
        f"{program}: expected a command, one of {', '.join(table)}, got {got}"
        f"{hint or f'; see {program} --help'}"
    )


def _help(program: str, description: str, table: Mapping[str, Subcommand]) -> str:
    width = max(len(name) for name in table)
    lines = [f"usage: {program} COMMAND ... (or --version)", "", description, "", "commands:"]
    lines += [f"  {name:{width}}  {row.summary}" for name, row in table.items()]
    lines += ["", f"{program} COMMAND --help says what a command takes."]
    return "\n".join(lines) + "\n"
