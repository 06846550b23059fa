"""Is someone's LSTM right? Random cases, each judged tensor by tensor by the rule K = 16."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np

from numpy_lstm.roundoff import K
from torch_oracle.proof import compare
from torch_oracle.proof.compare import Comparison, Divergence, plain
from torch_oracle.proof.random_problems import Sizes, loud
from torch_oracle.proof.trace import Problem, Trace, in_dtype
from torch_oracle.verify.adapters import COTANGENTS, OPTIONAL, Adapter
from torch_oracle.verify.results import Complaint, Returned

Mode = Literal["quick", "full"]
QUICK: tuple[tuple[Sizes, str, float], ...] = (
    ((1, 2, 3, 4), "float64", 1.0),
    ((1, 2, 3, 4), "float32", 1.0),
    ((3, 1, 2, 4), "float64", 1.0),
    ((2, 4, 3, 5), "float32", 1.0),
    ((4, 3, 2, 5), "float64", 0.3),
    ((4, 3, 2, 5), "float64", 1.0),
    ((5, 2, 6, 3), "float32", 0.3),
    ((5, 2, 6, 3), "float64", 4.0),
    ((7, 3, 5, 4), "float32", 4.0),
    ((7, 3, 5, 4), "float64", 1.0),
    ((12, 4, 3, 7), "float32", 1.0),
    ((12, 4, 3, 7), "float64", 1.0),
)
"""(T, N, I, H), dtype and scale of the weights; the smallest first."""
MORE: tuple[tuple[int, Sizes], ...] = (
    (4, (2, 1, 5, 3)),
    (4, (8, 3, 5, 6)),
    (3, (16, 4, 6, 9)),
    (1, (64, 3, 10, 16)),
    (1, (20, 5, 48, 64)),
    (1, (64, 5, 33, 48)),
)
"""In full mode, how often each of these sizes in addition, for every dtype and scale."""
SCALES = (0.3, 1.0, 4.0)


@dataclass(frozen=True)
class Case:
    """One random problem: sizes (T, N, I, H), arithmetic, scale of the weights, seed."""

    sizes: Sizes
    dtype: str
    scale: float
    seed: int
    ragged: bool = False
    loud: bool = False
    """Arguments beyond the range of exp; see `problems.loud`."""

    @property
    def name(self) -> str:
        """For a person, and for a test's id."""
        T, N, I, H = self.sizes
        ragged = ("-ragged" if self.ragged else "") + ("-loud" if self.loud else "")
        return f"T{T}-N{N}-I{I}-H{H}-{self.dtype}-x{self.scale:g}{ragged}-seed{self.seed}"

    def problem(self, adapter: Adapter) -> Problem:
        """The problem; equal for equal cases and adapters."""
        dtype = np.dtype(self.dtype).type
        problem = adapter.problem(self.seed, self.sizes, dtype, self.scale, ragged=self.ragged)
        return loud(problem) if self.loud else problem


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    case: Case
    comparison: Comparison | None
    """None where the adapter gave nothing that could be compared."""
    complaint: str | None = None
    """What the adapter did wrong, other than computing wrong numbers."""
    names: tuple[tuple[str, str], ...] = ()
    """Each tensor judged, with the adapter's name for it."""
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return (
            self.complaint is None
            and self.comparison is not None
            and self.first is None
            and self.comparison.undetermined is None
        )

    @property
    def first(self) -> Divergence | None:
        """The first divergence."""
        return None if self.comparison is None else self.comparison.first


@dataclass(frozen=True)
class Verification:
    """The verdict on an adapter, and what it rests on."""

    adapter: str
    form: str
    options: dict[str, Any]
    mode: Mode
    results: tuple[Result, ...]
    not_returned: tuple[str, ...]
    """Outputs and gradients that were not judged, since the adapter does not return them."""
    not_taken: tuple[str, ...]
    """Inputs that the adapter does not ask for."""
    intermediates: tuple[str, ...]
    """Quantities of every step that would sharpen the verdict, if they were returned."""

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return all(result.passed for result in self.results)

    @property
    def worst(self) -> dict[str, tuple[float, Case]]:
        """The largest distance of each tensor, and the case that it is from."""
        worst: dict[str, tuple[float, Case]] = {}
        for result in self.results:
            distances = {} if result.comparison is None else result.comparison.by_tensor()
            for name, far in distances.items():
                if name not in worst or far > worst[name][0]:
                    worst[name] = far, result.case
        return worst

    @property
    def names(self) -> dict[str, str]:
        """The adapter's name for each tensor judged."""
        return {tensor: name for result in self.results for tensor, name in result.names}

    @property
    def divergences(self) -> tuple[tuple[Case, Divergence], ...]:
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

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, strings, lists and dicts; a number that is not finite is a string."""
        cases = [
            asdict(r.case)
            | {"name": r.case.name, "passed": r.passed, "complaint": r.complaint}
            | {"notes": list(r.notes), "first_divergence": _divergence_json(r.first)}
            | {"distances": {} if r.comparison is None else r.comparison.by_tensor()}
            for r in self.results
        ]
        worst = {
            tensor: {"distance": far, "case": case.name, "returned_as": self.names[tensor]}
            for tensor, (far, case) in self.worst.items()
        }
        first = {"case": self.divergences[0][0].name} if self.divergences else None
        if first is not None:
            first |= _divergence_json(self.divergences[0][1]) or {}
        return plain(
            {
                "adapter": self.adapter,
                "form": self.form,
                "options": self.options,
                "mode": self.mode,
                "passed": self.passed,
                "allowed": K,
                "worst": worst,
                "first_divergence": first,
                "complaints": {
                    c: [case.name for case in in_] for c, in_ in self.complaints.items()
                },
                "notes": {n: [case.name for case in in_] for n, in_ in self.notes.items()},
                "not_returned": self.not_returned,
                "not_taken": self.not_taken,
                "cases": cases,
            }
        )


def cases(adapter: Adapter, mode: Mode = "quick") -> list[Case]:
    """The cases of a mode, the smallest first; every second one ragged, where lengths are taken."""
    drawn = list(QUICK)
    if mode == "full":
        for times, sizes in MORE:
            drawn += [
                (sizes, dtype, s) for dtype, s in product(("float64", "float32"), SCALES)
            ] * times
    found: list[Case] = []
    for seed, ((T, N, I, H), dtype, scale) in enumerate(drawn):
        I, H = adapter.fixed or (I, H)
        N = 1 if adapter.options.single else N
        ragged = "lengths" in adapter.takes and min(T, N) > 1 and seed % 2 == 1
        case = Case((T, N, I, H), dtype, scale, seed, ragged)
        found.append(case)
        if len(found) == len(QUICK):
            found.append(replace(case, loud=True))
    return found


def judge(adapter: Adapter, case: Case) -> Result:
    """Run the adapter twice on a case and compare it with torch."""
    problem = case.problem(adapter)
    try:
        returned = adapter.call(problem)
    except Complaint as complaint:
        return Result(case, None, str(complaint))
    comparison = _compared(returned, problem)
    names = tuple(returned.names.items())
    result = Result(case, comparison, None, names, returned.notes)
    try:
        again = adapter.call(problem)
    except Complaint as complaint:
        return replace(result, complaint=f"in a second call with the same inputs: {complaint}")
    difference = _difference(returned, again)
    if difference is None:
        return result
    if again.trace.steps.keys() == returned.trace.steps.keys():
        second = _compared(again, problem)
        if second.first is None and comparison.first is None:
            return replace(result, notes=(*result.notes, f"{difference}, within rounding"))
    return replace(
        result, complaint=f"{difference}; expected that nothing is kept from call to call"
    )


def _compared(returned: Returned, problem: Problem) -> Comparison:
    """Each tensor compared in its own dtype, with the problem as it looks in that dtype."""
    dtypes = [a.dtype for a in (returned.trace.totals | returned.trace.steps).values() if a.ndim]
    parts = []
    for dtype in sorted({*dtypes, returned.dtype}, key=str, reverse=True):

        def own(arrays: dict[str, np.ndarray], dtype: np.dtype = dtype) -> dict[str, np.ndarray]:
            # A lone number may be Python's; it is as exact as the narrowest array.
            return {
                n: a for n, a in arrays.items() if (a.dtype if a.ndim else returned.dtype) == dtype
            }

        trace = Trace(own(returned.trace.steps), own(returned.trace.totals))
        parts.append(compare.judge_trace(trace, in_dtype(problem, dtype), partial=True))
    result = parts[0]
    for part in parts[1:]:
        result = Comparison(
            result.steps | part.steps,
            result.totals | part.totals,
            result.first or part.first,
            result.divergences | part.divergences,
            result.undetermined or part.undetermined,
        )
    return result


def verify(adapter: Adapter, mode: Mode = "quick") -> Verification:
    """Judge an adapter by all cases of a mode."""
    return collect(adapter, mode, [judge(adapter, case) for case in cases(adapter, mode)])


def collect(adapter: Adapter, mode: Mode, results: Sequence[Result]) -> Verification:
    """The verdict from the results of the cases."""
    known = adapter.known(results[0].case.problem(adapter))
    returned = {name for result in results for _, name in result.names}
    absent = [name for name in known if name not in returned]
    effects = {"lengths": "all T"} | dict.fromkeys(COTANGENTS, "not applied")
    return Verification(
        adapter=adapter.name,
        form=adapter.form,
        options=asdict(adapter.options) | dict(adapter.config),
        mode=mode,
        results=tuple(results),
        not_returned=tuple(name for name in absent if not known[name].intermediate),
        not_taken=tuple(
            f"{name} ({effects.get(name, 'zero')})"
            for name in OPTIONAL[adapter.form]
            if name not in adapter.takes
        ),
        intermediates=tuple(name for name in absent if known[name].intermediate),
    )


def sentence(divergence: Divergence, names: Mapping[str, str]) -> str:
    """The divergence, with the adapter's own name of the tensor where it differs."""
    own = names.get(divergence.tensor, divergence.tensor)
    return f"{divergence}" + ("" if own == divergence.tensor else f" (returned as {own})")


def _difference(one: Returned, two: Returned) -> str | None:
    """Where two calls differ, in words; None if they agree to the last bit."""
    before, after = (r.trace.totals | r.trace.steps for r in (one, two))
    if before.keys() != after.keys():
        return "two calls with the same inputs return different names"
    for tensor, array in before.items():
        places = np.argwhere(
            ~((array == after[tensor]) | (array != array) & (after[tensor] != after[tensor]))
        )
        if len(places):
            index = tuple(places[0])
            return (
                f"two calls with the same inputs differ, first in {one.names[tensor]} at index"
                f" {places[0].tolist()}: {array[index]:.9g}, then {after[tensor][index]:.9g}"
            )
    return None


def _grouped(pairs: Iterable[tuple[str, Case]]) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = {}
    for text, case in pairs:
        groups.setdefault(text, []).append(case)
    return groups


def _divergence_json(divergence: Divergence | None) -> dict[str, Any] | None:
    if divergence is None:
        return None
    return asdict(divergence) | {"sentence": str(divergence)}
