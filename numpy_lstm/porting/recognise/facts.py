"""The forget bias and the activations of an LSTM: from its file, its layout, or the caller."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.named_activations import normalized
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.options import OptionError, ReadOptions


def missing_facts(lstm: PlacedLSTM, archive: Archive) -> dict[str, str]:
    """What the equations need and the file does not say, a phrase for each field of the facts."""
    result = {}
    if lstm.layout.forget_bias == "given":
        result["forget_bias"] = (
            "forget_bias, which is added at run time (TensorFlow's default is 1.0)"
        )
    if lstm.layout.activations == "given" and lstm.prefixes[0] not in archive.facts:
        result["activations"] = "activations, taken to be sigmoid and tanh unless others are given"
        why = _why_asked(lstm, archive)
        if why:
            result["activations"] = f"activations, which must be given, {why}"
    return result


def _why_asked(lstm: PlacedLSTM, archive: Archive) -> str:
    """Why the caller must say the activations; "" where the usual ones are taken."""
    reasons = [archive.asked_activations.get(prefix, "") for prefix in lstm.prefixes]
    return next((reason for reason in reasons if reason), "")


def facts_of(path: Path, lstm: PlacedLSTM, archive: Archive, options: ReadOptions) -> RuntimeFacts:
    """The facts of an LSTM, all of which must be known.

    Raises:
        InputError: nobody says the forget bias, or the layout has no room for it; the activations
            are others than those that the file says.
    """
    stored = archive.facts.get(lstm.prefixes[0], RuntimeFacts())
    facts = replace(stored, forget_bias=_forget_bias(path, lstm, archive, options.forget_bias))
    if options.activations is None:
        why = _why_asked(lstm, archive)
        if why and lstm.layout.activations == "given" and lstm.prefixes[0] not in archive.facts:
            raise OptionError(
                f"{path}: does not say the activations, {why}; give those of gates, candidate and"
                " output with ",
                "activations",
                ", such as 'hard_sigmoid(0.2, 0.5)' tanh tanh, or sigmoid tanh tanh",
            )
        return facts
    if lstm.layout.activations != "given":
        raise InputError(
            f"activations: {lstm.layout.key} always has {', '.join(facts.activations)}; leave them"
            " out"
        )
    gate, candidate, output = (normalized(name) for name in options.activations)
    given = replace(facts, activations=(gate, candidate, output))
    if lstm.prefixes[0] in archive.facts and given != facts:
        raise InputError(
            f"activations: {path} says {', '.join(facts.activations)} itself, got"
            f" {', '.join(given.activations)}; leave them out"
        )
    return given


def _forget_bias(path: Path, lstm: PlacedLSTM, archive: Archive, given: float | None) -> float:
    """The number that is added to a_f at run time, rounded to the dtype that it is added in."""
    layout = lstm.layout
    if layout.forget_bias != "given":
        fixed = layout.fixed_forget_bias
        if given not in (None, fixed):
            raise OptionError(
                f"forget_bias: {layout.key} always has {fixed:g} at run time, got {given}; leave ",
                "forget_bias",
                " out",
            )
        return fixed
    if given is None:
        phrase = missing_facts(lstm, archive)["forget_bias"]
        raise OptionError(f"{path}: does not say {phrase}; give it with ", "forget_bias")
    with np.errstate(over="ignore"):
        number = float(lstm.dtype.type(given))
    if not np.isfinite(number):
        raise InputError(
            f"forget_bias: expected a number that {lstm.dtype.name} can hold, got {given:g}"
        )
    return number
