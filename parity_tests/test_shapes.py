"""The annotations of shapes are checked in the tests, and cost a user's program nothing."""

import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from numpy_lstm.training.sampling import check_sampling

PROBE = """
import sys
{before}
import numpy_lstm.lstm, torch_oracle.proof.compare
print("jaxtyping" in sys.modules, numpy_lstm.shapes.Shaped.__module__)
"""


def printed_by(before: str) -> list[str]:
    command = [sys.executable, "-c", PROBE.format(before=before)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_wrong_shape_and_a_wrong_dtype_are_refused_at_the_call():
    rng = np.random.default_rng(0)
    check_sampling(np.array([1, 2]), 1.0, rng)
    for prompt in (np.array([[1, 2]]), np.array([1.0, 2.0])):
        with pytest.raises(TypeCheckError):
            check_sampling(prompt, 1.0, rng)


def test_a_program_of_its_own_loads_no_jaxtyping():
    assert printed_by("") == ["False", "typing"]


def test_a_program_that_has_jaxtyping_gets_its_annotations():
    (loaded, module) = printed_by("import jaxtyping")
    assert loaded == "True"
    assert module.startswith("jaxtyping")
