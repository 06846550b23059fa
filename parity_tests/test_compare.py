"""The ruler itself: units, noise, NaN, shapes, and the order of divergence."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.problems import random_problem
from torch_oracle.arithmetic import Noise
from torch_oracle.compare import Comparison, K, compare, distance, order
from torch_oracle.trace import Trace, numpy_trace, one_ulp_away, torch_trace


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_ulp_of_the_largest_element_is_one_to_two_units(dtype):
    reference = np.array([0.75, -3.0, 1e-3], dtype)
    actual = reference.copy()
    actual[1] = np.nextafter(actual[1], dtype(0))
    assert 1 <= distance(actual, reference) <= 2
    assert distance(reference, reference) == 0


def test_noise_replaces_roundoff_where_it_is_larger():
    reference, eps = np.array([1.0, 2.0]), np.finfo(float).eps
    last = np.array([0.0, 1.0])
    actual, twin = reference + 64 * eps * last, reference + 16 * eps * last
    assert distance(actual, reference) == 64
    assert distance(actual, reference, [twin, reference]) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_infinitely_far(value):
    assert distance(np.array([1.0, value]), np.array([1.0, 2.0])) == np.inf


def test_anything_is_infinitely_far_from_a_reference_of_exact_zeros():
    assert distance(np.array([1e-300]), np.array([0.0])) == np.inf


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected shape \(1, 2\), got \(1, 1\)"):
        distance(np.zeros(1), np.zeros(2))


def disturbed(trace: Trace, name: str, t: int) -> Trace:
    array = trace.steps[name].copy()
    array[t] *= 1.001
    return replace(trace, steps=trace.steps | {name: array})


@pytest.mark.parametrize(
    ("disturbances", "first"),
    [
        ([("h", 3), ("a_f", 2)], ("a_f", 2)),
        ([("h", 2), ("a_f", 2)], ("a_f", 2)),
        ([("dx", 1), ("dh", 4)], ("dh", 4)),
        ([("dc", 4), ("da_f", 4)], ("dc", 4)),
        ([("dh", 4), ("h", 4)], ("h", 4)),
        ([("dW_hh", 5), ("da_i", 4)], ("dW_hh", 5)),
    ],
)
def test_the_first_divergence_is_earliest_for_values_and_latest_for_gradients(disturbances, first):
    problem = random_problem(0, model=True, sizes=(6, 3, 5, 4))
    trace = torch_trace(problem)
    twins = [torch_trace(problem, Noise(0, opposite)) for opposite in (False, True)]
    actual = trace
    for name, t in disturbances:
        actual = disturbed(actual, name, t)
    comparison = compare(actual, trace, twins)
    assert comparison.first is not None
    assert (comparison.first.tensor, comparison.first.step) == first


def test_every_step_and_total_is_in_the_order_exactly_once():
    trace = torch_trace(random_problem(0, model=True, sizes=(6, 3, 5, 4)))
    places = list(order(trace))
    expected = {(name, t) for name in trace.steps for t in range(6)}
    expected |= {(name, None) for name in trace.totals}
    assert set(places) == expected
    assert len(places) == len(expected)


def test_a_wrong_total_is_reported_as_a_total():
    problem = random_problem(0, sizes=(6, 3, 5, 4))
    trace = torch_trace(problem)
    wrong = replace(trace, totals=trace.totals | {"dc0": trace.totals["dc0"] * 1.5})
    comparison: Comparison = compare(wrong, trace, [])
    assert comparison.first is not None
    assert "dc0 at total" in str(comparison.first)
    assert comparison.worst == comparison.totals["dc0"] > K


def test_a_partial_trace_is_judged_on_what_it_holds_if_that_is_said():
    problem = random_problem(0, model=True, sizes=(6, 3, 5, 4))
    reference = torch_trace(problem)
    wrong = disturbed(reference, "da_f", 2).steps["da_f"]
    totals = {"loss": reference.totals["loss"]}
    partial = Trace({"da_f": wrong}, totals)
    comparison = compare(partial, reference, [], partial=True)
    assert comparison.by_tensor().keys() == {"da_f", "loss"}
    assert comparison.divergences == {"da_f": comparison.first}
    assert (comparison.first.step, comparison.first.steps) == (2, 6)
    with pytest.raises(ValueError, match=r"missing .*'a_i'"):
        compare(partial, reference, [])
    unknown = replace(partial, totals=totals | {"dq": wrong})
    with pytest.raises(ValueError, match=r"missing \[\], not in the reference \['dq'\]"):
        compare(unknown, reference, [], partial=True)


def test_the_first_divergence_of_every_tensor_is_kept_in_the_order_of_computation():
    trace = torch_trace(random_problem(0, model=True, sizes=(6, 3, 5, 4)))
    wrong = disturbed(disturbed(disturbed(trace, "h", 4), "dh", 3), "h", 2)
    comparison = compare(wrong, trace, [])
    assert {name: d.step for name, d in comparison.divergences.items()} == {"h": 2, "dh": 3}
    assert list(comparison.divergences) == ["h", "dh"]
    assert comparison.divergences["h"] == comparison.first


def test_nan_in_a_gradient_is_located():
    problem = random_problem(0, sizes=(6, 3, 5, 4))
    reference, ours = torch_trace(problem), numpy_trace(problem)
    broken = ours.steps["da_g"].copy()
    broken[2, int(problem.lengths.argmax()), 3] = np.nan
    actual = replace(ours, steps=ours.steps | {"da_g": broken})
    twins = [torch_trace(problem, Noise(0, opposite)) for opposite in (False, True)]
    first = compare(actual, reference, twins).first
    assert first is not None
    assert (first.tensor, first.step, first.distance) == ("da_g", 2, np.inf)
    assert first.index == (int(problem.lengths.argmax()), 3)


def test_one_ulp_away_moves_every_nonzero_float_by_exactly_one_ulp():
    problem = random_problem(0, model=True, dtype=np.float32)
    problem.parameters["projection.bias"][0] = 0
    up, down = (one_ulp_away(problem, Noise(0, opposite)) for opposite in (False, True))
    for name, array in problem.parameters.items():
        moved = np.abs(up.parameters[name] - array)
        zero = array == 0
        assert (moved[zero] == 0).all()
        assert (moved[~zero] > 0).all()
        higher, lower = up.parameters[name] - array, down.parameters[name] - array
        assert (np.sign(higher) == -np.sign(lower)).all()
        between = np.nextafter(array, up.parameters[name])
        np.testing.assert_array_equal(between, up.parameters[name])
    np.testing.assert_array_equal(up.x, problem.x)
