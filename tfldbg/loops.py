"""Loops over whole tensors: compiled if there was a compiler, otherwise NumPy in more passes.

Both give the same counts and maxima, and sums that agree within float32 precision.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_loops: Any
try:
    _loops = import_module("tfldbg._loops")
except ImportError:  # no compiler when tfldbg was installed
    _loops = None

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

COMPILED = _loops is not None
"""True if the compiled loops are available."""
SUMS = 7
"""The number of sums in `compare`, with test values t, reference r and e = t - r: e, abs(e), e^2,
r, r^2, t^2 and r * t."""
MAXIMA = 2
"""The number of maxima in `compare`: abs(e) and abs(r)."""


class Range(NamedTuple):
    """The range that values are clamped to."""

    low: float
    high: float
    margin: float
    """The distance beyond either end from which a value counts as saturated."""


class Compared(NamedTuple):
    """The result of `compare`."""

    differing: int
    saturated: int
    """The number of reference values beyond the range."""
    peaks: Doubles
    """(n,) the largest difference in each sample."""


_EXACT = 1 << 24
"""float32 holds every whole number up to here; a damaged file may state a larger zero point."""
_EVERYTHING = (-math.inf, math.inf, -math.inf, math.inf)


def compare(
    test: NDArray[Any],
    reference: NDArray[Any],
    half: float,
    sums: Doubles,
    maxima: Doubles,
    limits: Range | None = None,
) -> Compared | None:
    """Add the difference of two tensors to the sums and maxima of earlier ones.

    The order of additions depends on single samples only, so that any split into calls gives the
    same sums up to float64 rounding.

    Args:
        test: (n, ..., channels) real units, at least one element.
        reference: (n, ..., channels) real units.
        half: The size above which a difference counts.
        sums: (`SUMS`, channels), updated in place.
        maxima: (`MAXIMA`, channels), updated in place.
        limits: The range to clamp the reference to first, or None to leave it as it is.

    Returns:
        The counts and peaks, or None if a value is not finite; then nothing is updated.
    """
    samples, channels = len(test), maxima.shape[1]
    if _loops is not None and test.dtype == reference.dtype == np.float32:
        peaks = np.zeros(samples)
        test, reference = np.ascontiguousarray(test), np.ascontiguousarray(reference)
        ends = _EVERYTHING if limits is None else (*limits[:2], *_beyond(limits))
        counted = _loops.compare(
            test, reference, samples, channels, half, ends, sums, maxima, peaks
        )
        if counted is None:
            return None
        differing, saturated = counted
        return Compared(differing, saturated, peaks)
    saturated = 0
    if limits is not None:
        reference, saturated = clamp(reference, limits)
    shape = (samples, -1, channels)
    wanted = np.asarray(reference, np.float64).reshape(shape)
    found = np.asarray(test, np.float64).reshape(shape)
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return None
    error = found - wanted
    size = np.abs(error)
    sums += [
        error.sum((0, 1)),
        size.sum((0, 1)),
        np.einsum("nec,nec->c", error, error),
        wanted.sum((0, 1)),
        np.einsum("nec,nec->c", wanted, wanted),
        np.einsum("nec,nec->c", found, found),
        np.einsum("nec,nec->c", wanted, found),
    ]
    np.maximum(maxima, [size.max((0, 1)), np.abs(wanted).max((0, 1))], out=maxima)
    return Compared(int(np.count_nonzero(size > half)), saturated, size.max((1, 2)))


def clamp(values: Floats, limits: Range) -> tuple[Floats, int]:
    """Return values clamped to a range, and the number of saturated ones.

    Args:
        values: Any shape; NaN stays NaN.
        limits: The range.
    """
    below, above = _beyond(limits)
    if _loops is not None and values.dtype == np.float32:
        values = np.ascontiguousarray(values)
        out = np.empty(values.shape, np.float32)
        return out, _loops.clamp(values, limits.low, limits.high, below, above, out)
    saturated = np.count_nonzero((values < np.float32(below)) | (values > np.float32(above)))
    return np.clip(values, np.float32(limits.low), np.float32(limits.high)), int(saturated)


def _beyond(limits: Range) -> tuple[float, float]:
    return limits.low - limits.margin, limits.high + limits.margin


def keep_memory() -> None:
    """Keep freed memory for the next batch, which needs as much, instead of returning it.

    Only glibc supports this, and only compiled code can ask for it; elsewhere nothing happens.
    """
    if _loops is not None:
        _loops.keep_memory()


def count(codes: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Count the values of one-byte codes.

    Args:
        codes: Any shape, int8 or uint8.
        counts: (256,) the count of each byte, updated in place; int8 codes count as their bytes.
    """
    flat = np.ascontiguousarray(codes).reshape(-1).view(np.uint8)
    if _loops is not None:
        _loops.count(flat, counts)
    else:
        counts += np.bincount(flat, minlength=256)


def count_quarters(
    test: NDArray[Any], reference: NDArray[Any], step: float, counts: NDArray[np.int64]
) -> None:
    """Count differences in quarters of a step, rounded away from zero.

    Args:
        test: Any shape, finite.
        reference: The same number of values, finite.
        step: The size of one step, real units.
        counts: (2 n + 1,) the counts of ``-n`` to ``n`` quarters, updated in place; larger
            differences count as ``n``.
    """
    if _loops is not None and test.dtype == reference.dtype == np.float32:
        both = (np.ascontiguousarray(array) for array in (test, reference))
        _loops.quarters(*both, step, counts)
        return
    most = len(counts) // 2
    error = (test.astype(np.float64) - reference) * (4 / step)
    signed = np.copysign(np.ceil(np.minimum(np.abs(error), most)), error).astype(np.int64)
    counts += np.bincount(signed.ravel() + most, minlength=len(counts))


def largest_difference(test: Floats, reference: Floats) -> float:
    """Return the largest magnitude of a difference, ignoring NaN; 0 if there is none.

    Args:
        test: Any shape.
        reference: The same number of values.
    """
    if _loops is not None and test.dtype == reference.dtype == np.float32:
        most: float = _loops.largest(np.ascontiguousarray(test), np.ascontiguousarray(reference))
        return most
    with np.errstate(invalid="ignore"):
        size = test.reshape(reference.shape) - reference
    return float(np.fmax.reduce(np.abs(size, out=size), axis=None, initial=0.0))


def dequantize(codes: NDArray[Any], scale: float, zero_point: int) -> Floats:
    """Return ``(codes - zero_point) * scale`` in float32.

    Args:
        codes: Any shape, of one or two bytes, so that the difference is exact in float32.
        scale: The scale of the tensor.
        zero_point: The zero point of the tensor.
    """
    known = codes.dtype.name in ("int8", "uint8", "int16") and abs(zero_point) <= _EXACT
    if _loops is not None and known:
        out = np.empty(codes.shape, np.float32)
        if out.size:
            given = np.ascontiguousarray(codes)
            _loops.dequantize(given, codes.dtype.name, scale, zero_point, out)
        return out
    real: Floats = codes.astype(np.float32)
    real -= np.float32(zero_point)
    real *= np.float32(scale)
    return real
