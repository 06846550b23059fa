"""How small an error the parity rule finds, and that the checks it is compared with find less."""

import numpy as np
import pytest

from parity_tests.campaigns.sensitivity import (
    GRID,
    REQUIRED,
    TERMS,
    Checks,
    gradcheck_finds,
    smallest,
)
from parity_tests.support.problems import random_problem

pytestmark = pytest.mark.usefixtures("without_type_checks")
SIZES = (16, 8, 9, 32)
PLACE = {"dh_next": ("dh", -1), "dc_next": ("dc", -1)}
"""What shows an error first: tensor, and step relative to the broken one; else the term itself."""


@pytest.fixture(scope="module", params=REQUIRED.items(), ids=lambda p: p[0])
def required(request) -> tuple[Checks, float]:
    dtype, e = request.param
    return Checks(random_problem(0, dtype=np.dtype(dtype).type, sizes=SIZES)), e


@pytest.mark.parametrize("term", TERMS)
def test_the_rule_finds_the_required_error_in_any_term_of_one_step(required, term):
    checks, e = required
    for error in (e, -e):
        first = checks.parity(term, error).first
        assert first is not None, "not found"
        tensor, step = PLACE.get(term, (term, 0))
        assert (first.tensor, first.step) == (tensor, checks.t + step)


@pytest.mark.parametrize("term", TERMS)
def test_the_correct_code_is_accepted(required, term):
    checks, _ = required
    assert checks.parity(term, 0.0).first is None


def test_gradcheck_and_allclose_miss_in_float64_what_the_rule_finds():
    problem = random_problem(0, sizes=(4, 2, 1, 3))
    found = Checks(problem).found("da_f", 1e-6)
    assert found["parity rule"]
    assert found["parity rule, final gradients"]
    assert not found["rtol 1e-4, atol 1e-8"]
    assert not gradcheck_finds(problem, "da_f", 1e-6)
    assert gradcheck_finds(problem, "da_f", 0.1)


def test_bisection_finds_the_smallest_of_the_grid():
    tried = []

    def found(e):
        tried.append(e)
        return e >= 1e-9

    assert smallest(found) == pytest.approx(1e-9)
    assert len(tried) < 12
    assert smallest(lambda e: True) == 0
    assert smallest(lambda e: False) == np.inf
    assert GRID[0] < np.finfo(float).eps / 8
