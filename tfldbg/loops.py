"""Loops over whole tensors: compiled where a compiler was at hand, else NumPy in more passes.

Both give the same counts and maxima, and sums that agree to what float32 leaves of them.
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
"""Whether the compiled loops are here."""
SUMS = 7
"""What `compare` sums of the test values t and the reference r, with e = t - r: e, abs(e), e^2, r,
r^2, t^2 and r * t."""
MAXIMA = 2
"""What `compare` keeps the largest of: abs(e) and abs(r)."""


class Range(NamedTuple):
    """What values are clamped to."""

    low: float
    high: float
    margin: float
    """How far beyond either end a value counts as saturated."""


class Compared(NamedTuple):
    """What `compare` found."""

    differing: int
    saturated: int
    """How many reference values were beyond the range."""
    peaks: Doubles
    """(n,) the largest difference of each sample."""


_EXACT = 1 << 24
"""Up to here float32 holds every whole number, and a damaged file may state a zero point beyond."""
_EVERYTHING = (-math.inf, math.inf, -math.inf, math.inf)


def compare(
    test: NDArray[Any],
    reference: NDArray[Any],
    half: float,
    sums: Doubles,
    maxima: Doubles,
    limits: Range | None = None,
) -> Compared | None:
    """Add the difference of two tensors to what is known of earlier ones.

    The order in which numbers are added depends on single samples alone, so that any split into
    calls gives the same sums up to float64 rounding.

    Args:
        test: (n, ..., channels) real units, of at least one element.
        reference: (n, ..., channels) real units.
        half: From which size on a difference counts.
        sums: (`SUMS`, channels), is changed.
        maxima: (`MAXIMA`, channels), is changed.
        limits: What to clamp the reference to before anything else; None for nothing.

    Returns:
        None where a value is not finite, and then nothing is changed.
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
    """Return values clamped to a range, and how many are saturated.

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
    """Keep freed memory for the next batch, which needs as much, instead of giving it back.

    Only glibc can be told, and only by compiled code; elsewhere nothing happens.
    """
    if _loops is not None:
        _loops.keep_memory()


def count(codes: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Count codes of one byte.

    Args:
        codes: Any shape, int8 or uint8.
        counts: (256,) how often each byte was seen, is changed; int8 codes count as their bytes.
    """
    flat = np.ascontiguousarray(codes).reshape(-1).view(np.uint8)
    if _loops is not None:
        _loops.count(flat, counts)
    else:
        counts += np.bincount(flat, minlength=256)


def count_quarters(
    test: NDArray[Any], reference: NDArray[Any], step: float, counts: NDArray[np.int64]
) -> None:
    """Count differences in quarters of a step, rounded away from 0.

    Args:
        test: Any shape, finite.
        reference: As many, finite.
        step: What a difference is divided by.
        counts: (2 n + 1,) how often each of ``-n`` to ``n`` quarters was seen, is changed; larger
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
    """Return the largest magnitude of a difference, NaN left out; 0 where there is none.

    Args:
        test: Any shape.
        reference: As many.
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
        scale: Of all of them.
        zero_point: Of all of them.
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
