"""The verdict on an adapter, as data: what came of each case, and what that says together."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy_lstm.roundoff import K
from torch_oracle.json_values import json_value
from torch_oracle.proof.compare import Comparison, TensorDivergence
from torch_oracle.verification.cases import Case, Mode


@dataclass(frozen=True)
class CaseResult:
    """What came of a case."""

    case: Case
    comparison: Comparison | None
    """None where the adapter gave nothing that could be compared."""
    complaint: str | None = None
    """What the adapter did wrong, other than computing wrong numbers: an `AdapterError`'s text."""
    names: tuple[tuple[str, str], ...] = ()
    """Each tensor judged, with the adapter's name for it."""
    notes: tuple[str, ...] = ()
    """What is unusual, but not wrong."""
    cause: BaseException | None = None
    """What the adapter raised, with its traceback."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong in this case."""
        return (
            self.complaint is None
            and self.comparison is not None
            and self.first is None
            and self.comparison.undetermined is None
        )

    @property
    def first(self) -> TensorDivergence | None:
        """The first tensor and step, in the order of computation, that differ from torch."""
        return None if self.comparison is None else self.comparison.first

    @property
    def distances(self) -> dict[str, float]:
        """The largest distance of each tensor that was judged."""
        return {} if self.comparison is None else self.comparison.by_tensor()

    def to_json(self) -> dict[str, Any]:
        """The result as values that JSON has, but for numbers that are not finite."""
        result = asdict(self.case)
        result |= {"name": self.case.name, "passed": self.passed, "complaint": self.complaint}
        result |= {"notes": list(self.notes), "first_divergence": _divergence_json(self.first)}
        return result | {"distances": self.distances}


@dataclass(frozen=True)
class Verification:
    """The verdict on an adapter, and what it rests on."""

    adapter: str
    form: str
    options: dict[str, Any]
    mode: Mode
    results: tuple[CaseResult, ...]
    not_returned: tuple[str, ...]
    """Outputs and gradients that were not judged, since the adapter does not return them."""
    not_taken: tuple[str, ...]
    """Inputs that the adapter does not ask for."""
    intermediates: tuple[str, ...]
    """Quantities of every step that would show where an error begins, if they were returned."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong in any case."""
        return all(result.passed for result in self.results)

    @property
    def worst(self) -> dict[str, tuple[float, Case]]:
        """The largest distance of each tensor, and the case that it is from."""
        worst: dict[str, tuple[float, Case]] = {}
        for result in self.results:
            for name, distance in result.distances.items():
                if name not in worst or distance > worst[name][0]:
                    worst[name] = distance, result.case
        return worst

    @property
    def names(self) -> dict[str, str]:
        """The adapter's name for each tensor judged."""
        return {tensor: name for result in self.results for tensor, name in result.names}

    @property
    def divergences(self) -> tuple[tuple[Case, TensorDivergence], ...]:
        """The first divergence of each case that has one, the smallest case first."""
        return tuple((r.case, r.first) for r in self.results if r.first is not None)

    @property
    def complaints(self) -> dict[str, list[Case]]:
        """Each complaint with the cases in which it arose."""
        return _grouped((r.complaint, r.case) for r in self.results if r.complaint is not None)

    @property
    def notes(self) -> dict[str, list[Case]]:
        """Each note with the cases in which it arose."""
        return _grouped((note, r.case) for r in self.results for note in r.notes)

    @property
    def cause(self) -> BaseException | None:
        """The first exception that the adapter raised, with its traceback."""
        raised = (result.cause for result in self.results if result.cause is not None)
        return next(raised, None)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON has it: a number that is not finite becomes a string."""
        names = self.names
        worst = {
            tensor: {"distance": distance, "case": case.name, "returned_as": names[tensor]}
            for tensor, (distance, case) in self.worst.items()
        }
        first = None
        if self.divergences:
            case, divergence = self.divergences[0]
            first = {"case": case.name} | (_divergence_json(divergence) or {})
        result = {
            "adapter": self.adapter,
            "form": self.form,
            "options": self.options,
            "mode": self.mode,
            "status": "passed" if self.passed else "failed",
            "passed": self.passed,
            "allowed": K,
            "worst": worst,
            "first_divergence": first,
            "complaints": _case_names(self.complaints),
            "notes": _case_names(self.notes),
            "not_returned": self.not_returned,
            "not_taken": self.not_taken,
            "cases": [each.to_json() for each in self.results],
        }
        return json_value(result)


def divergence_sentence(divergence: TensorDivergence, names: Mapping[str, str]) -> str:
    """The divergence in words, with the adapter's name of the tensor where it is another one.

    Args:
        divergence: the divergence.
        names: the adapter's name for each tensor.
    """
    returned_as = names.get(divergence.tensor, divergence.tensor)
    if returned_as == divergence.tensor:
        return str(divergence)
    return f"{divergence} (returned as {returned_as})"


def _grouped(pairs: Iterable[tuple[str, Case]]) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = {}
    for text, case in pairs:
        groups.setdefault(text, []).append(case)
    return groups


def _case_names(groups: Mapping[str, list[Case]]) -> dict[str, list[str]]:
    return {text: [case.name for case in cases] for text, cases in groups.items()}


def _divergence_json(divergence: TensorDivergence | None) -> dict[str, Any] | None:
    if divergence is None:
        return None
    return asdict(divergence) | {"sentence": str(divergence)}
