"""Distances in units of roundoff, and random moves of that size.

The distance of two tensors is their largest absolute difference, divided by what cannot be told
from nothing: the roundoff of the reference tensor's largest magnitude (of a sum, of its terms'), or
how far the reference itself moves when its inputs and activations move by one to two roundoffs,
whichever is larger. Two correct programs differ by a few of these units, whatever the dtype, the
sizes and the conditioning. docs/the-rule.md gives the reasons.

Noise as small as the roundoff of the arithmetic it is added in would be rounded to nothing or to a
whole ulp. The arithmetic is therefore always float64, where the roundoff of float32 is resolved,
and for float64 problems the noise is AMPLITUDE times too large and its effect divided by that.
"""

from collections.abc import Sequence

import numpy as np

from numpy_lstm.shapes import Shaped

K = 16.0
"""Largest distance of two correct results; docs/results.md has the largest that was seen."""
AMPLITUDE = 256.0
"""Noise of float64 problems, in units of one to two roundoffs.

What it moves is then resolved to 1/256 of that. More would exaggerate the products of two vanishing
factors (derivatives of saturated gates), which grow with its square.
"""


def roundoff(dtype: np.dtype) -> float:
    """Half the distance of 1 from the next larger number of this dtype."""
    return float(np.finfo(dtype).eps) / 2


def distances(
    actual: np.ndarray,
    reference: np.ndarray,
    moves: Sequence[np.ndarray] = (),
    magnitudes: np.ndarray | None = None,
    dtype: np.dtype | None = None,
) -> np.ndarray:
    """Distance of each pair of tensors along the first axis; see the module.

    Args:
        actual: the tensors to judge [T, ...].
        reference: those to judge them by, of the same shape.
        moves: how far the reference moves with noise of one roundoff, once for each noisy twin;
            without any, roundoff alone counts.
        magnitudes: for tensors that are sums of n terms, the sum of the terms' magnitudes times
            the root of n. Terms that cancel leave their rounding behind: the error of a sum is of
            the order of root n times the roundoff of that sum (Higham & Mary 2019, "A new approach
            to probabilistic rounding error analysis"), and at most n - 1 times.
        dtype: whose roundoff is the unit; the reference's when None.

    Raises:
        ValueError: the shapes differ.
    """
    if actual.shape != reference.shape:
        raise ValueError(f"expected shape {reference.shape}, got {actual.shape}")

    def largest(array: np.ndarray) -> np.ndarray:
        return np.abs(array).reshape(len(array), -1).max(axis=1, initial=0.0).astype(np.float64)

    error = largest(actual - reference)
    info = np.finfo(reference.dtype if dtype is None else dtype)
    size = largest(reference if magnitudes is None else magnitudes)
    moved = np.zeros_like(size)
    for twin in moves:
        moved = np.maximum(moved, largest(twin))
    # What is smaller than the smallest normal number may lose its digits, or all of itself; but
    # what is exactly zero and never moves must be met.
    unit = np.maximum(np.maximum(size * info.eps / 2, moved), info.tiny)
    unit[(size == 0) & (moved == 0)] = 0
    result = np.full(len(error), np.inf)
    judged = np.isfinite(error) & np.isfinite(unit) & (unit > 0)
    np.divide(error, unit, out=result, where=judged)
    result[error == 0] = 0.0
    return result


def distance(
    actual: np.ndarray,
    reference: np.ndarray,
    noise: Sequence[np.ndarray] = (),
    dtype: np.dtype | None = None,
) -> float:
    """Distance of two tensors; see `distances`."""
    moves = [move[None] for move in noise]
    return float(distances(actual[None], reference[None], moves, dtype=dtype)[0])


def distance_where_finite(
    actual: np.ndarray, reference: np.ndarray, least_unit: float = 0.0
) -> float:
    """Distance of two tensors in which elements that are not finite in both count as equal.

    So that runs that overflow alike, as faulty ones do, are found to be the same.

    Args:
        actual: the tensor to judge; its dtype's roundoff is the unit.
        reference: the tensor to judge it by, of the same shape.
        least_unit: what a difference is measured in where roundoff is smaller, such as the effect
            of noise.
    """
    equal = (actual == reference) | ~(np.isfinite(actual) | np.isfinite(reference))
    error = np.abs(np.where(equal, 0, actual) - np.where(equal, 0, reference)).max(initial=0)
    if error == 0:
        return 0.0
    size = float(np.abs(reference[np.isfinite(reference)]).max(initial=0))
    unit = max(least_unit, size * roundoff(actual.dtype))
    if unit == 0 or not np.isfinite(error):
        return np.inf
    return float(error) / unit


def amplitude(dtype: np.dtype) -> float:
    """Noise of a problem of this dtype, in units of one to two of its roundoffs."""
    return AMPLITUDE if dtype == np.float64 else 1.0


class Noise:
    """Reproducible random moves, in float64, by what rounding in another dtype would do.

    Args:
        seed: a whole number, or several.
        dtype: of the problem, float32 or float64.
    """

    def __init__(self, seed: int | Sequence[int], dtype: np.dtype) -> None:
        self._rng = np.random.default_rng(seed)
        self.amplitude = amplitude(dtype)
        self._roundoff = self.amplitude * float(np.finfo(dtype).eps) / 2
        self._tiny = self.amplitude * float(np.finfo(dtype).tiny)

    def _units(self, shape: tuple[int, ...]) -> np.ndarray:
        """One to two units up or down: always a move, and two seldom cancel."""
        uniform = self._rng.uniform(-1.0, 1.0, shape)
        return uniform + np.copysign(1.0, uniform)

    def moved(self, array: np.ndarray) -> np.ndarray:
        """Each element moved by one to two roundoffs of itself; zeros and integers stay."""
        if not np.issubdtype(array.dtype, np.floating):
            return array
        return array * (1 + self._roundoff * self._units(array.shape))

    def factors(self, shape: tuple[int, ...]) -> np.ndarray:
        """What multiplies a parameter once for all steps, and once more at each step.

        Products with it may be rounded alike at every step, as where the input is constant, or
        differently. Half of the variance is for either.
        """
        return 1 + 0.5**0.5 * self._roundoff * self._units(shape)

    def computed(
        self, output: Shaped[np.ndarray, "..."], scale: Shaped[np.ndarray, "..."]
    ) -> Shaped[np.ndarray, "..."]:
        """A function's value moved by one to two roundoffs of the given scale.

        Below the smallest normal number nothing is certain: exp overflows, and 1 / (1 + exp(-a))
        is 0 where another formula has a number.
        """
        units = self._units(output.shape)
        return output + units * (np.abs(scale) * self._roundoff + self._tiny)
