"""Whether two computations of a tensor agree up to the order of float32 additions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FAR = 1e4
"""Values this many times as large as the smallest tenth are another kind of value, such as the
-1e9 of a mask, and do not decide what is small."""


def differing(one: NDArray[Any], other: NDArray[Any], share: float, least: float = 0.0) -> int:
    """Return the number of values that differ by more than a share of the tensor's largest value.

    Args:
        one: Any shape.
        other: The same shape.
        share: The share, also of each value itself.
        least: The difference that is always allowed, real units.
    """
    room = max(share * _largest(other), least)
    alike = np.isclose(one, other, rtol=share, atol=room, equal_nan=True)
    return int(np.count_nonzero(~alike))


def _largest(values: NDArray[Any]) -> float:
    """Return the largest magnitude without values of another kind."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)].astype(np.float64))
    if not sizes.size:
        return 0.0
    return float(sizes[sizes <= _FAR * np.quantile(sizes, 0.1)].max())
