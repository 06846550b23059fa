"""Command lines from dataclasses by tyro, whose report of a mistake becomes one sentence.

tyro frames what is wrong, what else it knows of the option, and where to find help, as the sections
of a box. Here the box is taken apart: its first section is the sentence.
"""

import io
import os
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any
from unittest import mock

import tyro

from numpy_lstm.commands.reporting import option_names
from numpy_lstm.errors import InputError

FRAME = "\u2502"
CONFIG = (tyro.conf.PositionalMetavarFromFieldName,)
RULE = re.compile(r"[\u2500-\u257f]{2}")
KINDS = {
    "INT": "an integer",
    "FLOAT": "a number",
    "{None}|INT": "an integer or None",
    "{None}|FLOAT": "a number or None",
    "{None}|{STR STR STR}": "three names",
}
"""What a value must be, by tyro's short name of its type."""


def parse(
    command: Any,
    program: str,
    description: str | None,
    arguments: Sequence[str],
    options: Sequence[Callable[..., Any]],
) -> Any:
    """The command that a command line describes.

    Args:
        command: a dataclass, or a union of them, one for each subcommand.
        program: what the user called, for help and messages.
        description: what the help says first.
        arguments: the command line without the program's name.
        options: the dataclasses whose fields are the options.

    Raises:
        InputError: the command line makes no sense; says what is wrong and where help is.
        SystemExit: status 0, after `--help`.
    """
    call = partial(tyro.cli, command, prog=program, description=description, args=arguments)
    if {"-h", "--help"} & set(arguments):
        return call(config=CONFIG)
    box = io.StringIO()
    frames = io.TextIOWrapper(io.BytesIO(), "utf-8")  # tyro asks standard output which to draw
    wide = mock.patch.dict(os.environ, COLUMNS="10000")
    try:
        with redirect_stderr(box), redirect_stdout(frames), wide:
            return call(config=CONFIG)
    except SystemExit as stop:
        if not stop.code:
            raise
    sections = sections_of(box.getvalue())
    raise mistake(sections, program, options)


def sections_of(box: str) -> list[list[str]]:
    """The lines of each section of a box, without its frame."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip(f"{FRAME} ")
        if RULE.search(text):
            sections.append([])
        elif text:
            sections[-1].append(text)
    return [section for section in sections if section]


def mistake(
    sections: Sequence[Sequence[str]], program: str, options: Sequence[Callable[..., Any]]
) -> InputError:
    """The sentence for the mistake that a box reports."""
    first = [*sections, ["the command line cannot be read"]][0]
    text = " ".join(first)
    others = sections[1:]
    see = f"; see {_help_command(others, program)}"
    if found := re.fullmatch(r"Error parsing (\S+): (.*)", text):
        return _wrong_value(found[1], found[2], others, options)
    if found := re.fullmatch(r"invalid choice (.*) for argument '(.*)'\. .*\((.*?),?\)\.", text):
        choices = found[3].replace("'", "")
        return InputError(f"{found[2]}: expected one of {choices}, got {found[1]}")
    if found := re.fullmatch(r"Missing value for argument '(.*)'\. Expected (\d+) values\.", text):
        count = {"1": "a value"}.get(found[2], f"{found[2]} values")
        return InputError(f"{program}: {found[1]}: expected {count}, got none or too few{see}")
    if found := re.fullmatch(r"Expected one of \{(.*)\}\.", text):
        return InputError(f"{program}: expected one of {found[1]}, got none{see}")
    if found := re.fullmatch(r"Unrecognized options: (.*)", text):
        return InputError(f"{program}: does not know {found[1]}{_hint(others) or see}")
    if text.startswith("Missing from "):
        names = [line for line in first[1:] if re.fullmatch(r"--[\w-]+ .*|[A-Z_]+", line)]
        return InputError(f"{program}: lacks {' and '.join(names)}{see}")
    return InputError(f"{program}: {text}{see}")


def _wrong_value(
    option: str,
    reason: str,
    others: Sequence[Sequence[str]],
    options: Sequence[Callable[..., Any]],
) -> InputError:
    """For a value that is not of the option's type, or that its dataclass refuses."""
    if option.startswith("-"):
        kind = others[0][1].removeprefix(option).strip()
        got = re.search(r"(?:base 10: |to float: |from )(.*?)\.?(?: Got errors:.*)?$", reason)
        if kind in KINDS and got is not None:
            return InputError(f"{option}: expected {KINDS[kind]}, got {got[1].strip('[]')}")
        if kind in KINDS and reason.startswith("Exceeds the limit"):
            return InputError(f"{option}: expected {KINDS[kind]} of at most 4,300 digits")
        return InputError(f"{option}: {reason}")
    argument, _, rest = reason.partition(": ")
    if argument in option_names(options):
        return InputError(f"--{argument.replace('_', '-')}: {rest}")
    return InputError(reason)


def _hint(others: Sequence[Sequence[str]]) -> str:
    """What was probably meant, as tyro knows it; empty if it does not."""
    for section in others:
        subcommands = section[0].removeprefix("Available subcommands: ")
        if subcommands != section[0]:
            return f"; expected one of {subcommands}"
        if section[0].startswith("Perhaps you meant"):
            return f"; did you mean {section[1].split()[0].rstrip(',')}?"
    return ""


def _help_command(others: Sequence[Sequence[str]], program: str) -> str:
    """The command that prints the help of what was called."""
    for line in (line for section in others for line in section):
        if found := re.fullmatch(r"(?:For full helptext, (?:run|see) )?(.*) --help", line):
            return f"{found[1]} --help"
    return f"{program} --help"
