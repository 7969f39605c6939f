"""Pure functions that compute figures of merit from sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

Finite = Annotated[float, "finite"]
"""A float that is never NaN or infinite, so that the JSON Schema does not allow null for it."""


@dataclass(frozen=True, slots=True)
class Line:
    """The straight line from the reference's values to TFLite's, by least squares.

    ``test = gain * reference + offset``.
    """

    gain: float
    """The slope."""
    offset: float
    """The offset, real units."""
    rmse: float
    """The RMSE of TFLite's values around the line, real units."""
    correlation: float
    """Pearson's correlation; 0 if TFLite's values are almost constant."""


def fit_line(
    count: int, reference: float, test: float, reference2: float, test2: float, dot: float
) -> Line | None:
    """Return the straight line from the reference to the test values.

    Args:
        count: The number of pairs of values.
        reference: The sum of the reference values.
        test: The sum of the test values.
        reference2: The sum of the reference's squares.
        test2: The sum of the test's squares.
        dot: The sum of the products.

    Returns:
        The line, or None if the reference is almost constant, so that its spread is only rounding.
    """
    spread = reference2 - reference * reference / count if count else 0.0
    if spread <= 1e-6 * reference2:
        return None
    gain = (dot - reference * test / count) / spread
    test_spread = test2 - test * test / count
    left = max(test_spread - gain * gain * spread, 0.0)
    varied = test_spread > 1e-6 * test2
    correlation = gain * math.sqrt(spread / test_spread) if varied else 0.0
    return Line(
        gain=gain,
        offset=(test - gain * reference) / count,
        rmse=root_mean_square(left, count),
        correlation=max(-1.0, min(1.0, correlation)),
    )


def sqnr_db(signal_energy: float, noise_energy: float) -> float | None:
    """Return the signal to noise ratio in dB: ``10 log10(sum ref^2 / sum (test - ref)^2)``.

    Returns:
        The ratio, or None if there is no noise or no signal, so that it is not finite.
    """
    if noise_energy <= 0 or signal_energy <= 0:
        return None
    return 10 * math.log10(signal_energy / noise_energy)


def cosine(dot: float, reference_energy: float, test_energy: float) -> float | None:
    """Return the cosine of the angle between two tensors, None if one of them is all zero."""
    norm = math.sqrt(reference_energy) * math.sqrt(test_energy)
    return max(-1.0, min(1.0, dot / norm)) if norm > 0 else None


def root_mean_square(energy: float, count: int) -> float:
    """Return the root of the mean of squares, 0 for no elements."""
    return math.sqrt(energy / count) if count else 0.0


_NORMAL_95 = 1.959964
"""The 97.5 % quantile of the normal distribution."""


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, from ``right`` of ``count`` (E. B. Wilson, 1927)."""
    if not count:
        return 0.0, 1.0
    share, square = right / count, _NORMAL_95**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def significant(value: float, digits: int) -> float:
    """Return a figure with some significant digits."""
    return float(f"{value:.{digits}g}")
