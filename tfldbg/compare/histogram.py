"""Histograms of an error in LSB, with fixed bins, so that counts of parts can be added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops

_POSITIVE = (0.25, 0.5, 0.75, 1.5, 2.5, 4.5, 8.5, 16.5, 64.5)
"""The positive edges, which from 1.5 on are between whole codes: if the reference also rounds to
codes, the error is a whole number of LSB, and float32 noise must not move it to another bin.  0.5
is the error that rounding explains, 0.75 the bound of the verdict."""

EDGES_LSB = (*(-edge for edge in reversed(_POSITIVE)), *_POSITIVE)
"""The edges of the bins, of which the first and the last are open.  An edge belongs to the bin
nearer 0."""

BINS = len(EDGES_LSB) + 1

_PARTS = 4
"""The number of parts of an LSB: each edge is a multiple of a quarter, so an error's bin follows
from its quarters, rounded away from 0, whose counts are then added by bin."""
_MOST = int(_PARTS * _POSITIVE[-1]) + 1
_QUARTERS = np.arange(-_MOST, _MOST + 1)
_SIDE = np.searchsorted(_POSITIVE, np.abs(_QUARTERS) / _PARTS, side="left")
_BIN_OF_QUARTER = len(_POSITIVE) + np.sign(_QUARTERS) * _SIDE


def count_errors(test: NDArray[Any], reference: NDArray[Any], lsb: float) -> NDArray[np.int64]:
    """Count the signed differences ``test - reference``.

    Args:
        test: Finite values of any shape, real units.
        reference: Finite values of the same shape, real units.
        lsb: The tensor's scale.

    Returns:
            The counts (`BINS`,), from the most negative bin to the most positive one.
    """
    counts = np.zeros(len(_QUARTERS), np.int64)
    loops.count_quarters(test, reference, lsb, counts)
    return np.bincount(_BIN_OF_QUARTER, weights=counts, minlength=BINS).astype(np.int64)


def beyond(counts: Sequence[int], lsb: float) -> int:
    """Return the number of elements further than ``lsb``, one of the edges, from 0."""
    within = zip(counts[1:-1], EDGES_LSB[:-1], EDGES_LSB[1:], strict=True)
    return sum(counts) - sum(n for n, low, high in within if -lsb <= low and high <= lsb)
