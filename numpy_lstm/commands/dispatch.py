"""A program of several subcommands, of which only the one that is called is imported."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from numpy_lstm.commands.reporting import one_line_errors

Table = Mapping[str, tuple[str, str, str]]
"""Subcommands by name: the module whose ``main(program, arguments)`` carries it out; what it does,
in one line; and the extra of numpy-lstm that installs what it imports."""


def run_program(
    program: str,
    description: str,
    table: Table,
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
        module, _, extra = _find(program, table, name)
        with one_line_errors(extra=extra):
            return import_module(module).main(f"{program} {name}", given[1:])


def _find(program: str, table: Table, name: str) -> tuple[str, str, str]:
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


def _help(program: str, description: str, table: Table) -> str:
    width = max(len(name) for name in table)
    lines = [f"usage: {program} COMMAND ... (or --version)", "", description, "", "commands:"]
    lines += [f"  {name:{width}}  {summary}" for name, (_, summary, _) in table.items()]
    lines += ["", f"{program} COMMAND --help says what a command takes."]
    return "\n".join(lines) + "\n"
