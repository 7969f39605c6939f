"""Loops over whole tensors: compiled if there was a compiler, otherwise NumPy in more passes.

Both give the same counts and maxima, and sums that agree within float32 precision.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_VERSION = 1
"""The version of the compiled loops; one more whenever a function or its arguments change."""


def _compiled() -> Any | None:
    """Return the compiled loops, None where there are none or only those of another tfldbg."""
    try:
        found = import_module("tfldbg._loops")
    except ImportError:  # no compiler when tfldbg was installed
        return None
    return found if getattr(found, "VERSION", None) == _VERSION else None


_loops: Any = _compiled()

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Halves = NDArray[np.float16]

COMPILED = _loops is not None
"""True if the compiled loops are available."""
SUMS = 7
"""The number of sums in `Sums`, with test values t, reference r and e = t - r: e, abs(e), e^2,
r, r^2, t^2 and r * t."""
MAXIMA = 2
"""The number of maxima in `Sums`: abs(e) and abs(r)."""


class Range(NamedTuple):
    """The range that values are clamped to."""

    low: float
    high: float
    margin: float
    """The distance beyond either end from which a value counts as saturated."""


class Stored(NamedTuple):
    """The form in which a tensor holds its values."""

    type: str
    """The character of NumPy: ``f`` for float32 in real units, ``b``, ``B`` or ``h`` for codes of
    int8, uint8 or int16."""
    scale: float = 1.0
    zero_point: int = 0

    @property
    def is_read(self) -> bool:
        """True if `comparison` reads it: float32 holds the difference to the zero point exactly."""
        return self.type == "f" or (self.type in "bBh" and abs(self.zero_point) <= _EXACT)


REAL = Stored("f")
"""The form of float32 values in real units."""
_EXACT = 1 << 24
"""float32 holds every whole number up to here; a damaged file may state a larger zero point."""
_EVERYTHING = (-math.inf, math.inf, -math.inf, math.inf)


class Sums:
    """The figures of the difference of two tensors, which `comparison` updates.

    Args:
        channels: The number of channels.
    """

    def __init__(self, channels: int) -> None:
        self.sums: Doubles = np.zeros((SUMS, channels))
        """The sums by channel."""
        self.maxima: Doubles = np.zeros((MAXIMA, channels))
        """The maxima by channel."""
        self.counts: NDArray[np.int64] = np.zeros(3, np.int64)
        """The numbers of compared rows of all channels, of reference values beyond the range, and
        of differences above half a step."""
        self.peaks: Doubles = np.array([0.0, -1.0, -1.0])
        """The largest difference in sample 0, the largest of all, and its sample, the first of
        equals; -1 without one."""

    def consider(self, size: float, sample: float) -> None:
        """Keep the sample with the largest difference, the earliest of equals."""
        if size > self.peaks[1] or (size == self.peaks[1] and sample < self.peaks[2]):
            self.peaks[1:] = size, sample

    def merge(self, other: Sums) -> None:
        """Add the figures of another pair of the same tensors."""
        self.sums += other.sums
        np.maximum(self.maxima, other.maxima, out=self.maxima)
        self.counts += other.counts
        self.peaks[0] = max(self.peaks[0], other.peaks[0])
        self.consider(float(other.peaks[1]), float(other.peaks[2]))


class TensorComparison(Protocol):
    """A comparison of tensors of one form."""

    def add(self, test: NDArray[Any], reference: NDArray[Any], samples: int, first: int) -> bool:
        """Add samples; return False and change nothing if a value is not finite.

        Args:
            test: (samples, ..., channels), contiguous, at least one element.
            reference: The same number of values, contiguous.
            samples: The number of samples.
            first: The number of the first sample.
        """


def comparison(
    sums: Sums,
    half: float,
    limits: Range | None = None,
    test: Stored = REAL,
    reference: Stored = REAL,
) -> TensorComparison:
    """Return a comparison that adds the difference of two tensors to earlier figures.

    The order of additions depends on single samples only, so that any split into calls gives the
    same sums up to float64 rounding.

    Args:
        sums: The figures, updated in place.
        half: The size above which a difference counts.
        limits: The range to clamp the reference to first, or None to leave it as it is.
        test: The form of the test values.
        reference: The form of the reference values.
    """
    if _loops is None:
        return _InNumPy(sums, half, limits, test, reference)
    ends = _EVERYTHING if limits is None else (*limits[:2], *_beyond(limits))
    channels = sums.sums.shape[1]
    kept = (sums.sums, sums.maxima, sums.counts, sums.peaks)
    made: TensorComparison = _loops.Comparison(channels, half, ends, test, reference, *kept)
    return made


class _InNumPy:
    """A comparison without compiled code, in float64."""

    def __init__(
        self, sums: Sums, half: float, limits: Range | None, test: Stored, reference: Stored
    ) -> None:
        self._sums, self._half, self._limits = sums, half, limits
        self._forms = (test, reference)

    def add(self, test: NDArray[Any], reference: NDArray[Any], samples: int, first: int) -> bool:
        """Add samples; return False and change nothing if a value is not finite."""
        both = zip((test, reference), self._forms, strict=True)
        test, reference = (v if f.type == "f" else dequantize(v, *f[1:]) for v, f in both)
        saturated = 0
        if self._limits is not None:
            reference, saturated = clamp(reference, self._limits)
        return add_figures(self._sums, self._half, test, reference, samples, first, saturated)


def add_figures(
    sums: Sums,
    half: float,
    test: NDArray[Any],
    reference: NDArray[Any],
    samples: int,
    first: int,
    saturated: int = 0,
) -> bool:
    """Add samples in real units, in float64; return False if a value is not finite.

    Args:
        sums: The figures, updated in place.
        half: As for `comparison`.
        test: As for `TensorComparison.add`, any float type.
        reference: As for `TensorComparison.add`, any float type.
        samples: As for `TensorComparison.add`.
        first: As for `TensorComparison.add`.
        saturated: The number of reference values that were clamped before.
    """
    shape = (samples, -1, sums.sums.shape[1])
    wanted = np.asarray(reference, np.float64).reshape(shape)
    found = np.asarray(test, np.float64).reshape(shape)
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return False
    error = found - wanted
    size = np.abs(error)
    sums.sums += [
        error.sum((0, 1)),
        size.sum((0, 1)),
        np.einsum("nec,nec->c", error, error),
        wanted.sum((0, 1)),
        np.einsum("nec,nec->c", wanted, wanted),
        np.einsum("nec,nec->c", found, found),
        np.einsum("nec,nec->c", wanted, found),
    ]
    largest = [size.max((0, 1)), np.abs(wanted).max((0, 1))]
    np.maximum(sums.maxima, largest, out=sums.maxima)
    sums.counts += (wanted[..., 0].size, saturated, int(np.count_nonzero(size > half)))
    peaks = size.max((1, 2))
    if first == 0:
        sums.peaks[0] = peaks[0]
    sums.consider(float(peaks.max()), first + int(peaks.argmax()))
    return True


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


_STEPS = np.float32(3 << 12)
"""1.5 * 2^13: float32 has steps of 1/1024 there, to which adding and subtracting it rounds."""


def errors_lsb(codes: NDArray[Any], reference: Floats, scale: float, zero_point: int) -> Halves:
    """Return ``codes - zero_point - reference / scale``, the error in LSB, rounded to 1/1024 LSB.

    An integer is exact up to 2048, as float16 holds it.  Errors above 65504, the largest float16,
    are infinite; NaN stays NaN.

    Args:
        codes: Any shape, int8 or uint8.
        reference: The same shape, real units.
        scale: The scale of the tensor.
        zero_point: The zero point of the tensor.
    """
    per_unit = np.float32(1 / scale)
    if _loops is not None and abs(zero_point) <= _EXACT:
        out = np.empty(codes.shape, np.float16)
        if out.size:
            given, wanted = np.ascontiguousarray(codes), np.ascontiguousarray(reference)
            form = codes.dtype.name
            _loops.errors(given, form, wanted, float(per_unit), zero_point, out.view(np.uint16))
        return out
    with np.errstate(over="ignore", invalid="ignore"):
        error = codes.astype(np.float32) - np.float32(zero_point) - reference * per_unit
        error = (error + _STEPS) - _STEPS
        return error.astype(np.float16)
