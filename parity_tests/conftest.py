"""Shared fixtures."""

from pathlib import Path

import pytest
import torch

DATA = Path(__file__).parents[1].parent / "shared" / "data"
"""Real files, where the machine has them; tests skip what is absent."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The tests run in parallel processes; each keeps to one thread."""
    torch.set_num_threads(1)


@pytest.fixture
def tinyshakespeare() -> Path:
    """The text of Tiny Shakespeare."""
    path = DATA / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path
