"""Read the records of faults, which are TOML files beside this module.

docs/faults.md explains the fields. A family of faults is one record with a list `each`: every entry
makes a fault, in which `{name}` stands for the entry's value of that name.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.resources import files
from pkgutil import resolve_name
from typing import Any

from torch_oracle.diagnosis.faults.fault import Fault, TrainingFault
from torch_oracle.diagnosis.injection import Edit


class FaultRecordError(ValueError):
    """A record lacks a field, or has one that no fault has."""


def faults_in(file: str) -> tuple[Fault, ...]:
    """All faults of one file, in its order.

    Args:
        file: its name, such as "backward.toml".

    Raises:
        FaultRecordError: names the record and the field.
    """
    text = files("torch_oracle.diagnosis.faults").joinpath(file).read_text(encoding="utf-8")
    return faults_from(text, file)


def faults_from(text: str, file: str) -> tuple[Fault, ...]:
    """All faults of a TOML text; `file` is for messages.

    A `stage` above the first record is that of every record that has none of its own.
    """
    document = tomllib.loads(text)
    faults = []
    for record in document.pop("fault"):
        for single in _members(document | record):
            faults.append(_fault(single, file))
    return tuple(faults)


def _members(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The record itself, or one for each member of a family."""
    family = dict(record)
    for member in family.pop("each", [{}]):
        yield {name: _filled(value, member) for name, value in family.items()}


def _filled(value: Any, member: Mapping[str, str]) -> Any:
    """A value of a record, with the member's values in the place of their names in braces."""
    if isinstance(value, str):
        for name, text in member.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, list):
        return [_filled(part, member) for part in value]
    if isinstance(value, dict):
        return {name: _filled(part, member) for name, part in value.items()}
    return value


def _fault(record: dict[str, Any], file: str) -> Fault:
    """A fault of a record in which nothing is missing and nothing too much."""
    place = f"{file}, {record.get('id', 'a record without id')}"
    kind = TrainingFault if record.get("stage") == "training" else Fault
    _check_fields(place, record, required_fields(kind), {field.name for field in fields(kind)})
    _check_fields(f"{place}, first", record["first"], {"tensor"}, {"tensor", "step"})
    edits = []
    for edit in record["edits"]:
        names = {"function", "right", "wrong"}
        _check_fields(f"{place}, edits", edit, names, names)
        edits.append(Edit(resolve_name(edit["function"]), edit["right"], edit["wrong"]))
    first = (record["first"]["tensor"], record["first"].get("step"))
    return kind(**record | {"first": first, "edits": tuple(edits)})


def required_fields(kind: type[Fault]) -> set[str]:
    """The fields without which there is no fault of this kind."""
    return {field.name for field in fields(kind)} - {"seen", "needs"}


def _check_fields(
    place: str, record: Mapping[str, Any], required: set[str], allowed: set[str]
) -> None:
    missing, unknown = sorted(required - set(record)), sorted(set(record) - allowed)
    if missing:
        raise FaultRecordError(f"{place}: expected the fields {sorted(required)}, lacks {missing}")
    if unknown:
        raise FaultRecordError(f"{place}: expected only {sorted(allowed)}, got also {unknown}")
