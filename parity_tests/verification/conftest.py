"""Fixtures of the tests of verdicts."""

import pytest

from torch_oracle.verification import cases


@pytest.fixture
def few_cases(monkeypatch):
    """Only the smallest case, a ragged one in float32 and the largest, beside the loud one.

    For tests whose claim does not depend on how many cases there are.
    """
    monkeypatch.setattr(cases, "QUICK", tuple(cases.QUICK[k] for k in (0, 8, 11)))


@pytest.fixture
def one_case(monkeypatch):
    """The smallest case and, beside it, the loud one of the same size."""
    monkeypatch.setattr(cases, "QUICK", cases.QUICK[:1])
