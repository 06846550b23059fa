"""What all tests share: fixtures, and where the real data lie."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

DATA = Path(__file__).parents[1].parent / "shared" / "data"
"""Real files, where the machine has them; tests skip what is absent."""

settings.register_profile("test", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("proof", settings.get_profile("test"), max_examples=1000)
settings.load_profile("test")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The tests run in parallel processes; each keeps to one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def without_type_checks() -> Iterator[None]:
    """Check no argument against its annotation, which takes most of the time of many numbers.

    The other modules check them all. So does every module where CHECK_ANNOTATIONS is set.
    """
    disable = not os.environ.get("CHECK_ANNOTATIONS")
    jaxtyping.config.update("jaxtyping_disable", disable)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def tinyshakespeare() -> Path:
    """The text of Tiny Shakespeare."""
    path = DATA / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path
