"""Is someone's LSTM right? Random cases, each judged tensor by tensor by the rule K = 16."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from torch_oracle.proof import compare
from torch_oracle.proof.compare import Comparison
from torch_oracle.proof.trace import Problem, Trace, in_dtype
from torch_oracle.verification.adapters import COTANGENTS, OPTIONAL, Adapter
from torch_oracle.verification.cases import Case, Mode, case_of_name, verification_cases
from torch_oracle.verification.outputs import AdapterError, AdapterOutputs
from torch_oracle.verification.results import CaseResult, Verification
from torch_oracle.verification.watch import TimeIsUp, watched


def verify(
    adapter: Adapter,
    mode: Mode = "quick",
    *,
    case: str | None = None,
    limit: float | None = None,
    say: Callable[[str], Any] | None = None,
) -> Verification:
    """Judge an adapter by all cases of a mode.

    Args:
        adapter: the LSTM.
        mode: which cases.
        case: the name of the only one to run, of any mode; None for all.
        limit: seconds that a case may take; after the first that takes longer no other is run.
        say: is given a sentence about a case that takes long; see `watch`.

    Raises:
        InputError: there is no case of that name.
    """
    cases = verification_cases(adapter, mode)
    if case is not None:
        cases = [case_of_name(adapter, case)]
    results = []
    for each in cases:
        try:
            with watched(f"{adapter.name} in case {each.name}", limit, say):
                results.append(verify_case(adapter, each))
        except TimeIsUp as error:
            complaint = f"did not return within {limit:g} s; no other case was run"
            results.append(CaseResult(each, None, complaint, cause=error))
            break
    return collect(adapter, mode, results)


def verify_case(adapter: Adapter, case: Case) -> CaseResult:
    """Run the adapter twice on a case and compare it with torch."""
    problem = case.problem(adapter)
    try:
        outputs = adapter.call(problem)
    except AdapterError as error:
        return CaseResult(case, None, str(error), cause=error.__cause__)
    comparison, notes = _judged(outputs, problem)
    names = tuple(outputs.names.items())
    result = CaseResult(case, comparison, None, names, notes)
    try:
        again = adapter.call(problem)
    except AdapterError as error:
        complaint = f"in a second call with the same inputs: {error}"
        return replace(result, complaint=complaint, cause=error.__cause__)
    difference = _difference(outputs, again)
    if difference is None:
        return result
    if comparison.first is None and again.trace.steps.keys() == outputs.trace.steps.keys():
        if _judged(again, problem)[0].first is None:
            return replace(result, notes=(*result.notes, f"{difference}, within rounding"))
    return replace(
        result, complaint=f"{difference}; expected that nothing is kept from call to call"
    )


def collect(adapter: Adapter, mode: Mode, results: Sequence[CaseResult]) -> Verification:
    """The verdict from the results of the cases."""
    returnable = adapter.returnable(results[0].case.problem(adapter))
    returned = {name for result in results for _, name in result.names}
    absent = [name for name in returnable if name not in returned]
    effects = {"lengths": "all T"} | dict.fromkeys(COTANGENTS, "not applied")
    return Verification(
        adapter=adapter.name,
        form=adapter.form,
        options=asdict(adapter.options) | dict(adapter.config),
        mode=mode,
        results=tuple(results),
        not_returned=tuple(name for name in absent if not returnable[name].intermediate),
        not_taken=tuple(
            f"{name} ({effects.get(name, 'zero')})"
            for name in OPTIONAL[adapter.form]
            if name not in adapter.takes
        ),
        intermediates=tuple(name for name in absent if returnable[name].intermediate),
    )


def _judged(outputs: AdapterOutputs, problem: Problem) -> tuple[Comparison, tuple[str, ...]]:
    """The comparison with torch in the arithmetic that was used, and the notes on it.

    An array of float64 may hold what was computed in float32: `np.zeros(shape)` is filled with it.
    So what float64 finds too far is judged once more as float32, where float32 was given or where
    every number is one of float32.
    """
    comparison = _compare_with_torch(outputs, problem)
    if comparison.first is None:
        return comparison, outputs.notes
    arrays = outputs.trace.steps | outputs.trace.totals
    wide = [name for name, array in arrays.items() if array.ndim and array.dtype == np.float64]
    in_float32 = problem.h0.dtype == np.float32 or all(_is_of_float32(arrays[k]) for k in wide)
    if not wide or not in_float32:
        return comparison, outputs.notes
    trace = Trace(_as_float32(outputs.trace.steps), _as_float32(outputs.trace.totals))
    narrow = compare.judge_trace(trace, in_dtype(problem, np.float32), partial=True)
    if narrow.first is not None or narrow.undetermined is not None:
        return comparison, outputs.notes
    names = dict.fromkeys(outputs.names[name] for name in wide)
    return narrow, (f"computed in float32, stored in float64: {', '.join(names)}",)


def _is_of_float32(array: np.ndarray) -> bool:
    """Whether float32 holds every number of an array."""
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float32), array)


def _as_float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(over="ignore"):
        return {name: array.astype(np.float32) for name, array in arrays.items()}


def _compare_with_torch(outputs: AdapterOutputs, problem: Problem) -> Comparison:
    """Each tensor compared in its own dtype, with the problem as it looks in that dtype."""
    steps, totals = outputs.trace.steps, outputs.trace.totals
    dtypes = {array.dtype for array in (totals | steps).values() if array.ndim}
    parts = []
    for dtype in sorted({*dtypes, outputs.dtype}, key=str, reverse=True):
        trace = Trace(
            _of_dtype(steps, dtype, outputs.dtype), _of_dtype(totals, dtype, outputs.dtype)
        )
        parts.append(compare.judge_trace(trace, in_dtype(problem, dtype), partial=True))
    result = parts[0]
    for part in parts[1:]:
        result = Comparison(
            result.steps | part.steps,
            result.totals | part.totals,
            result.divergences | part.divergences,
            result.undetermined or part.undetermined,
        )
    return result


def _of_dtype(
    arrays: Mapping[str, np.ndarray], dtype: np.dtype, narrowest: np.dtype
) -> dict[str, np.ndarray]:
    """The arrays of one dtype.

    A lone number may be Python's, which is float64 however it was computed: it counts as one of the
    narrowest dtype.
    """
    chosen = {}
    for name, array in arrays.items():
        array_dtype = array.dtype if array.ndim else narrowest
        if array_dtype == dtype:
            chosen[name] = array
    return chosen


def _difference(one: AdapterOutputs, two: AdapterOutputs) -> str | None:
    """Where two calls differ, in words; None if they agree to the last bit."""
    before = one.trace.totals | one.trace.steps
    after = two.trace.totals | two.trace.steps
    if before.keys() != after.keys():
        return "two calls with the same inputs return different names"
    for tensor, array in before.items():
        both_nan = np.isnan(array) & np.isnan(after[tensor])
        places = np.argwhere(~((array == after[tensor]) | both_nan))
        if len(places):
            index = tuple(places[0])
            return (
                f"two calls with the same inputs differ, first in {one.names[tensor]} at index"
                f" {places[0].tolist()}: {array[index]:.9g}, then {after[tensor][index]:.9g}"
            )
    return None
