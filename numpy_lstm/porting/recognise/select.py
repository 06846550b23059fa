"""Which of a file's LSTMs the caller selects."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from numpy_lstm.errors import InputError
from numpy_lstm.porting.options import OptionError, ReadOptions
from numpy_lstm.porting.recognise.naming import names_text
from numpy_lstm.porting.recognise.readings import FoundLSTM, Reading, misfit_of, required_kinds
from numpy_lstm.porting.recognise.recognition import Survey

MOST_NAMES = 8
"""The names that a sentence lists before it only counts the others."""


def select_lstm(path: Path, survey: Survey, options: ReadOptions) -> FoundLSTM:
    """The LSTM that the options select, or the only one.

    Raises:
        InputError: there is none, there are several, or one that can be read in several ways.
    """
    found = survey.lstms
    if not found:
        layout = f" in the layout {options.layout}" if options.layout else ""
        others = "; inspect the file for what it holds"
        if survey.others:
            others = f": {'; '.join(survey.others)}"
        raise InputError(f"{path}: no LSTM found{layout}{others}")
    labels = listed([repr(each.label) for each in found])
    selected = found
    if options.select is not None:
        candidates = [_selected(each, options.select) for each in found]
        selected = [each for each in candidates if each is not None]
        if len(selected) != 1:
            prefixes = ",".join(split_prefixes(options.select))
            raise InputError(
                f"{path}: no LSTM under {prefixes!r}; expected one of {labels}, or layers of one of"
                " them that are neighbours"
            )
    if len(selected) > 1:
        broken = listed([repr(each.label) for each in found if each.best.misfit])
        choices = f" from {labels}"
        if broken:
            choices += f" (not whole: {broken})"
        raise OptionError(f"{path}: {len(selected)} LSTMs: choose one with ", "select", choices)
    (lstm,) = selected
    if lstm.best.guess:
        raise _guessed(path, lstm, options)
    if lstm.ambiguous:
        raise _ambiguous(path, lstm)
    return lstm


def _guessed(path: Path, found: FoundLSTM, options: ReadOptions) -> OptionError:
    """The error for tensors that only their shapes speak for."""
    tensors = ", ".join(sorted(found.best.names))
    if found.best.evidence[0]:
        return OptionError(
            f"{path}: has no LSTM node: its cell is spelt out in operators, which are not read; if"
            f" {tensors} are those of an LSTM without anything more, say the layout that they"
            " have with ",
            "layout",
            f" {found.best.lstm.layout.key}",
        )
    keys = listed(list(dict.fromkeys(r.lstm.layout.key for r in found.equally_likely)))
    if options.layout is None:
        beginning = f"say the layout ({keys}, ...) and which tensor is which with "
    else:
        beginning = "say which tensor is which with "
    return OptionError(
        f"{path}: no tensor has a name of a layout, and shapes alone prove nothing: {tensors} may"
        f" be an LSTM; {beginning}",
        "names",
        f" {names_text(found.best.guess)} (one of the ways that fit)",
    )


def _ambiguous(path: Path, found: FoundLSTM) -> OptionError:
    """The error for an LSTM that can be read in several ways."""
    keys = " or ".join(dict.fromkeys(r.lstm.layout.key for r in found.equally_likely))
    return OptionError(
        f"{path}: its tensors can be read in several ways, as {keys}; say which with ", "layout"
    )


def _selected(found: FoundLSTM, select: str | tuple[str, ...]) -> FoundLSTM | None:
    """The whole LSTM, or layers of it that follow each other, if these have the prefixes."""
    if select == found.label:
        return found
    wanted = split_prefixes(select) or ("",)
    parts: list[Reading] = []
    for reading in found.equally_likely:
        prefixes = reading.lstm.prefixes
        if reading.lstm.layout.layers_in_names:
            prefixes = found.prefixes
        for k in range(len(prefixes) - len(wanted) + 1):
            run = prefixes[k : k + len(wanted)]
            if not all(map(is_prefix, wanted, run)):
                continue
            if run == prefixes:
                return found
            parts.append(_part(reading, run))
    return FoundLSTM(tuple(parts)) if parts else None


def _part(reading: Reading, prefixes: tuple[str, ...]) -> Reading:
    """A reading of some of an LSTM's layers."""
    layers = replace(reading.lstm, prefixes=prefixes)
    names = {place.name for place in layers.present}
    layers = replace(layers, tensors={name: layers.tensors[name] for name in sorted(names)})
    # What the other layers have must not be missing in these.
    misfit = misfit_of(layers, required_kinds(reading.lstm))
    return replace(reading, lstm=layers, names=names, misfit=misfit)


def split_prefixes(select: str | tuple[str, ...]) -> tuple[str, ...]:
    """The prefixes of layers, which a string has with commas between them."""
    if isinstance(select, str):
        return tuple(prefix.strip() for prefix in select.split(","))
    return select


def is_prefix(given: str, prefix: str) -> bool:
    """Whether the caller gave this prefix, with or without the separator that it ends in."""
    if given == prefix:
        return True
    return given != "" and given == prefix[:-1] and prefix[-1] in "./_:-"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    text = ", ".join(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        text += f" and {len(names) - MOST_NAMES} more"
    return text
