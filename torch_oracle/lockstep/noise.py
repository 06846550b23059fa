"""The noise that makes runs of two programs comparable: larger than the rounding of either."""

import numpy as np

from numpy_lstm.roundoff import AMPLITUDE


def noise_factors(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """Factors, one an element, that move an array by up to AMPLITUDE roundoffs of itself.

    They are uniform between 1 - e and 1 + e, where e is AMPLITUDE times half the machine epsilon.
    """
    largest = AMPLITUDE * float(np.finfo(array.dtype).eps) / 2
    return (1 + largest * rng.uniform(-1.0, 1.0, array.shape)).astype(array.dtype)
