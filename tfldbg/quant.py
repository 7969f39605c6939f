"""Quantization arithmetic: scale and zero point, min/max, nudging.  NumPy only.

The basis is ``real = (code - zero_point) * scale`` (TFLite 8-bit quantization specification).
Codes are the stored integers, real values are what they represent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops

_BITS = {"INT2": 2, "INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16, "INT32": 32}
_BITS |= {"UINT16": 16, "UINT32": 32, "INT64": 64, "UINT64": 64}


class Nudged(NamedTuple):
    """A fake-quant range moved so that zero is exactly a code."""

    scale: float
    zero_point: int
    """The zero point from the lowest code, 0 (or 1 with a narrow range) to 2**bits - 1."""
    minimum: float
    maximum: float


def code_range(type_name: str) -> tuple[int, int]:
    """Return the lowest and highest code of an integer tensor type such as ``"INT8"``."""
    bits = _BITS[type_name]
    if type_name.startswith("U"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


@dataclass(frozen=True, slots=True)
class Affine:
    """The one scale and zero point of a tensor: ``real = (code - zero_point) * scale``."""

    scale: float
    """Real units per code."""
    zero_point: int
    """The code of 0.0."""

    def real_range(self, type_name: str) -> tuple[float, float]:
        """Return the lowest and highest real value that the codes of a type represent."""
        low, high = code_range(type_name)
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale

    def quantize(self, real: NDArray[Any], type_name: str) -> NDArray[Any]:
        """Quantize real values with correct rounding and saturation.

        Ties go away from zero, as in TFLite's QUANTIZE kernel (``TfLiteRound``).  A plain cast
        truncates instead: 125.99 becomes 125.

        Args:
            real: Any shape, real units, finite.
            type_name: TFLite type of the codes.

        Returns:
            Codes of the same shape, in the NumPy type of ``type_name`` (int8 for sub-byte types).
        """
        low, high = code_range(type_name)
        rounded = _steps(real, self.scale)
        dtype = {"INT4": "int8", "INT2": "int8", "UINT4": "uint8"}.get(type_name, type_name.lower())
        codes: NDArray[Any] = np.clip(rounded + self.zero_point, low, high).astype(dtype)
        return codes

    def dequantize(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Return the real values of codes of any shape, in float32."""
        return dequantize(codes, self.scale, self.zero_point)


def to_steps(real: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Round real values to multiples of a scale, as `Affine.quantize` does, without saturation.

    Zero is always a code, so the steps do not depend on the zero point.
    """
    return (_steps(real, scale) * scale).astype(np.float32)


def _steps(real: NDArray[Any], scale: float) -> NDArray[np.float64]:
    steps = np.asarray(real, np.float64) / scale
    rounded: NDArray[np.float64] = np.copysign(np.floor(np.abs(steps) + 0.5), steps)
    return rounded


def dequantize(
    codes: NDArray[Any],
    scale: NDArray[Any] | float,
    zero_point: NDArray[Any] | int,
    axis: int | None = None,
) -> NDArray[np.float32]:
    """Return ``(codes - zero_point) * scale`` in float32, per tensor or along ``axis``.

    Args:
        codes: Any shape, integer codes.
        scale: One scale, or one per entry of ``axis``.
        zero_point: One zero point, or one per entry of ``axis``.
        axis: The quantized dimension when there is more than one scale.
    """
    scales = np.asarray(scale, np.float32).reshape(-1)
    zeros = np.asarray(zero_point, np.int64).reshape(-1)
    if axis is not None and scales.size > 1:
        shape = [1] * codes.ndim
        shape[axis] = -1
        scales, zeros = scales.reshape(shape), zeros.reshape(shape)
    elif scales.size == 1:
        scales, zeros = scales[0], zeros[0]
    if codes.dtype.itemsize <= 2:  # the difference is exact in float32, and half as much memory
        if scales.ndim == 0:
            return loops.dequantize(codes, float(scales), int(zeros))
        real: NDArray[np.float32] = codes.astype(np.float32)
        real -= zeros.astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # a scale may be NaN
            real *= scales
        return real
    centred = codes.astype(np.int64) - zeros
    with np.errstate(invalid="ignore", over="ignore"):
        wide: NDArray[np.float32] = centred.astype(np.float32) * scales
    return wide


def nudge(minimum: float, maximum: float, bits: int = 8, narrow_range: bool = False) -> Nudged:
    """Move a fake-quant range so that zero is exactly a code.

    The arithmetic of ``FakeQuantWithMinMaxVars`` (TensorFlow, fake_quant_ops_functor.h ``Nudge``),
    in float32 as there, so that a tie in the zero point is rounded in the same direction.

    Args:
        minimum: Lower end of the trained range, real units.
        maximum: Upper end of the trained range, real units.
        bits: Number of bits, 2 to 16.
        narrow_range: True if the lowest code is not used, as for weights.
    """
    lowest, highest = np.float32(1 if narrow_range else 0), np.float32(2**bits - 1)
    low, high = np.float32(minimum), np.float32(maximum)
    scale = (high - low) / (highest - lowest)
    if not scale > 0:
        return Nudged(0.0, int(lowest), 0.0, 0.0)
    zero = lowest - low / scale
    if zero < lowest:
        point = lowest
    elif zero > highest:
        point = highest
    else:
        point = np.float32(math.floor(float(zero) + 0.5))
    return Nudged(
        float(scale),
        int(point),
        float((lowest - point) * scale),
        float((highest - point) * scale),
    )


def adjust(minimum: float, maximum: float, bits: int = 8, narrow_range: bool = False) -> Nudged:
    """Quantize a range as TensorFlow Lite does after training.

    The arithmetic of ``GetAsymmetricQuantizationParams`` (TensorFlow, lite/tools/optimize,
    quantization_utils.cc): the range is widened to include zero, where `nudge` shifts it; the zero
    point is rounded among signed codes, ties away from zero, in float32.  For a range that
    contains zero the result is that of `nudge`, except where the zero point is a tie.

    Args:
        minimum: Lower end of the range, real units.
        maximum: Upper end of the range, real units.
        bits: Number of bits, 2 to 16.
        narrow_range: True if the lowest code is not used, as for weights.

    Returns:
        The range as from `nudge`: the zero point is counted from the lowest code.
    """
    half = 2 ** (bits - 1)
    lowest, highest = np.float32(narrow_range - half), np.float32(half - 1)
    low, high = np.float32(min(minimum, 0.0)), np.float32(max(maximum, 0.0))
    scale = (high - low) / (highest - lowest)
    if not scale > 0:
        return Nudged(0.0, int(narrow_range), 0.0, 0.0)
    zero = float(lowest - low / scale)
    rounded = np.float32(math.copysign(math.floor(abs(zero) + 0.5), zero))
    point = min(max(rounded, lowest), highest)
    return Nudged(
        float(scale),
        int(point) + half,
        float((lowest - point) * scale),
        float((highest - point) * scale),
    )


_FLOAT32_ROUNDINGS = 2.0**-22
"""The largest relative error of four float32 roundings: the width of a range, its division into
steps, the quotient of the minimum and a step, and the ends themselves."""


def tie(minimum: float, maximum: float, scale: float, zero_points: tuple[int, int]) -> float | None:
    """Return the number of steps from a range's minimum to zero, if rounding it is a tie.

    If so, two zero points that differ by one can both be roundings of one range: `nudge` computes
    in float32, the converter in double precision, so each may round a half in another direction.

    Args:
        minimum: Lower end of the range, real units.
        maximum: Upper end of the range, real units.
        scale: Real units per code.
        zero_points: The two zero points that were found.

    Returns:
        The exact number of steps, or None if it is not halfway between two whole numbers within
        float32 precision or the zero points do not differ by one.
    """
    if not (scale > 0 and maximum > minimum) or abs(zero_points[0] - zero_points[1]) != 1:
        return None
    steps = round((maximum - minimum) / scale)
    exact = -minimum * steps / (maximum - minimum)
    return exact if abs(exact % 1.0 - 0.5) <= steps * _FLOAT32_ROUNDINGS else None
