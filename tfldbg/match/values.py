"""Choose between candidates with the right structure by their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CLEARLY_BETTER = 0.5


def choose_by_values(test: NDArray[Any], candidates: Mapping[str, NDArray[Any]]) -> str | None:
    """Return the candidate that agrees best, if it agrees clearly better than the next.

    Args:
        test: (n, ...) the values of the TFLite tensor, real units.
        candidates: The values of each node (n, ...), as many elements, real units.

    Returns:
        A name, or None if two candidates agree about equally well.
    """
    flat = np.asarray(test, np.float64).ravel()
    errors = {
        name: float(np.linalg.norm(np.asarray(value, np.float64).ravel() - flat))
        for name, value in candidates.items()
        if np.size(value) == flat.size
    }
    ranked = sorted(errors, key=lambda name: errors[name])
    if len(ranked) < 2:
        return ranked[0] if ranked else None
    best, second = ranked[:2]
    return best if errors[best] < _CLEARLY_BETTER * errors[second] else None
