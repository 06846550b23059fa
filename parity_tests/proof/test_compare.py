"""The ruler itself: units, noise, NaN, shapes, and the order of divergence."""

from dataclasses import replace

import numpy as np
import pytest

import torch_oracle.proof.compare
from numpy_lstm.fast import recurrence
from numpy_lstm.roundoff import K, Noise, distance
from parity_tests.support.planting import planted
from parity_tests.support.problems import random_problem
from torch_oracle.proof.compare import Comparison, check_parity, compare, noise_moves
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, in_dtype, moved, order


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
    actual, moves = reference + 64 * eps * last, -16 * eps * last
    assert distance(actual, reference) == 64
    assert distance(actual, reference, [moves, 0 * last]) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_infinitely_far(value):
    assert distance(np.array([1.0, value]), np.array([1.0, 2.0])) == np.inf


def test_anything_is_infinitely_far_from_a_reference_of_exact_zeros():
    assert distance(np.array([1e-300]), np.array([0.0])) == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lost_digits_of_subnormal_numbers_are_no_difference(dtype):
    tiny = np.finfo(dtype).tiny
    assert distance(np.array([0], dtype), np.array([tiny], dtype)) == 1
    assert distance(np.array([0], dtype), np.array([1e4 * tiny], dtype)) > K


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
    noise = noise_moves(problem)
    actual = trace
    for name, t in disturbances:
        actual = disturbed(actual, name, t)
    comparison = compare(actual, trace, noise)
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
    noise = noise_moves(problem)
    first = compare(actual, reference, noise).first
    assert first is not None
    assert (first.tensor, first.step, first.distance) == ("da_g", 2, np.inf)
    assert first.index == (int(problem.lengths.argmax()), 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_move_by_one_to_two_roundoffs_of_themselves_and_parameters_by_half_the_variance(
    dtype,
):
    problem = random_problem(0, dtype=dtype, sizes=(6, 3, 5, 4))
    problem.x[0] = 0
    noise = Noise(0, problem.h0.dtype)
    twin, roundoff = moved(problem, noise), noise.amplitude * np.finfo(dtype).eps / 2
    assert (twin.x[0] == 0).all()
    assert twin.lengths is problem.lengths
    units = (twin.x[1:] / problem.x[1:] - 1) / roundoff
    assert (0.99 < np.abs(units)).all()
    assert (np.abs(units) < 2.01).all()
    assert set(np.sign(units).ravel()) == {-1, 1}
    for name, array in problem.parameters.items():
        units = (twin.parameters[name] / array - 1) / roundoff
        assert (0.7 < np.abs(units)).all()
        assert (np.abs(units) < 1.42).all()


def one_unit(dtype: type) -> Problem:
    """Coupled gates of one unit, one sequence, one step: da_i holds the one number g - c_prev."""
    problem = random_problem(0, dtype=dtype, sizes=(1, 1, 1, 1), variant="coupled")
    (g,) = torch_trace(problem).steps["g"].ravel()
    problem.c0[...] = g * (1 - 64 * np.finfo(dtype).eps)
    return problem


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_number_that_cancels_moves_in_every_twin_by_what_its_terms_do(dtype):
    """Noise that rounds to whole ulps of the problem would leave it where it is in many twins."""
    problem, roundoff = one_unit(dtype), np.finfo(dtype).eps / 2
    trace = torch_trace(problem)
    (da_i,), (g,) = trace.steps["da_i"].ravel(), trace.steps["g"].ravel()
    i, dc = trace.steps["i"].item(), trace.steps["dc"].item()
    terms = abs(dc * g * i * (1 - i))
    moves = [t.steps["da_i"].item() for t in noise_moves(problem, twins=200)]
    units = np.abs(moves) / (terms * roundoff)
    assert abs(da_i) < 200 * roundoff * terms
    assert np.unique(units).size == 200
    assert 1 < np.sqrt(np.mean(np.square(units))) < 6
    assert np.max(units.reshape(50, 4), axis=1).min() > 0.2


def test_the_deviations_of_float64_problems_are_those_of_float32_but_for_their_scale():
    """The same numbers and the same noise, in another unit: the response is linear."""
    problem = random_problem(3, dtype=np.float32, sizes=(6, 3, 5, 4))
    narrow = noise_moves(problem)
    wide = noise_moves(in_dtype(problem, np.float64))
    ratio = np.finfo(np.float32).eps / np.finfo(np.float64).eps
    for one, other in zip(narrow, wide, strict=True):
        for name, moves in (one.steps | one.totals).items():
            scaled = ratio * (other.steps | other.totals)[name]
            np.testing.assert_allclose(moves, scaled, rtol=0, atol=0.01 * np.abs(moves).max())


def chaotic() -> Problem:
    """Two layers whose weights amplify float32's roundoff until no digit is right."""
    return random_problem(0, dtype=np.float32, scale=100.0, sizes=(30, 6, 5, 20), num_layers=2)


def test_what_chaos_leaves_undetermined_is_named_and_not_judged():
    comparison = check_parity(chaotic())
    assert comparison.first is None, str(comparison.first)
    assert comparison.undetermined is not None
    tensor, t = comparison.undetermined
    assert tensor.endswith("_l1")
    assert 0 < t < 30
    assert np.isnan(comparison.steps[tensor][t:]).all()
    assert not np.isnan(comparison.steps["h"]).any()
    assert 0 < comparison.worst <= K


def test_a_bug_before_the_chaos_is_found():
    with planted(recurrence.advance, "f, i, o, g, tanh_c =", "i, f, o, g, tanh_c ="):
        comparison = check_parity(chaotic())
    assert comparison.first is not None
    assert (comparison.first.tensor, comparison.first.step) == ("c", 0)


def test_more_twins_decide_where_few_find_something_too_far(monkeypatch):
    asked = []

    def unlucky(*arguments, first=0, **keywords):
        asked.append(first)
        return noise_moves(*arguments, first=first, **keywords) if first else []

    monkeypatch.setattr(torch_oracle.proof.compare, "noise_moves", unlucky)
    problem = one_unit(np.float64)
    comparison = check_parity(problem)
    assert asked == [0, 4]
    assert comparison.first is None, str(comparison.first)
    assert compare(numpy_trace(problem), torch_trace(problem), []).first is not None
