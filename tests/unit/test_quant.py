"""Quantization arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.quant import Affine

SCALES = st.floats(1e-6, 1e3, allow_nan=False)
TYPES = st.sampled_from(["INT4", "INT8", "UINT8", "INT16"])


@st.composite
def typed(draw: st.DrawFn) -> tuple[str, Affine]:
    """Return the type of a tensor, and its scale, a float32 as in files, and zero point."""
    type_name = draw(TYPES)
    scale = float(np.float32(draw(SCALES)))
    return type_name, Affine(scale, draw(st.integers(*quant.code_range(type_name))))


def _all_codes(type_name: str) -> NDArray[Any]:
    low, high = quant.code_range(type_name)
    dtype = {"INT4": "int8"}.get(type_name, type_name.lower())
    return np.arange(low, high + 1).astype(dtype)


@given(typed())
def test_codes_survive_a_round_trip(given_type: tuple[str, Affine]) -> None:
    type_name, affine = given_type
    codes = _all_codes(type_name)
    back = affine.quantize(affine.dequantize(codes), type_name)
    assert back.dtype == codes.dtype and np.array_equal(back, codes)


@given(typed())
def test_dequantizing_multiplies_the_exact_difference_in_float32(
    given_type: tuple[str, Affine],
) -> None:
    type_name, affine = given_type
    codes = _all_codes(type_name)
    differences = codes.astype(np.int64) - affine.zero_point
    expected = differences.astype(np.float32) * np.float32(affine.scale)
    for given_codes in (codes, codes.astype(np.int32)):
        real = affine.dequantize(given_codes)
        assert real.dtype == np.float32 and np.array_equal(real, expected)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1), typed())
def test_quantizing_rounds_in_double_precision(
    values: list[float], given_type: tuple[str, Affine]
) -> None:
    type_name, affine = given_type
    low, high = quant.code_range(type_name)
    away = [math.copysign(math.floor(abs(v / affine.scale) + 0.5), v) for v in values]
    expected = [min(max(int(steps) + affine.zero_point, low), high) for steps in away]
    assert affine.quantize(np.array(values, np.float32), type_name).tolist() == expected


@given(st.floats(-1e4, 1e4), typed())
def test_quantization_is_off_by_half_a_step_at_most(
    value: float, given_type: tuple[str, Affine]
) -> None:
    type_name, affine = given_type
    low, high = affine.real_range(type_name)
    clipped = min(max(value, low), high)
    codes = affine.quantize(np.array([value]), type_name)
    real = (int(codes[0]) - affine.zero_point) * affine.scale
    assert abs(real - clipped) <= affine.scale * 0.5 * (1 + 1e-9)


def test_values_are_rounded_and_not_cut_off() -> None:
    codes = Affine(1.0, 0).quantize(np.array([125.99, -125.99]), "INT8")
    assert codes.tolist() == [126, -126]


def test_ties_go_away_from_zero() -> None:
    codes = Affine(1.0, 0).quantize(np.array([0.5, 1.5, -0.5, -1.5]), "INT8")
    assert codes.tolist() == [1, 2, -1, -2]


@given(typed(), st.floats(0.51, 1e9))
def test_values_beyond_the_range_saturate(given_type: tuple[str, Affine], steps: float) -> None:
    type_name, affine = given_type
    low, high = affine.real_range(type_name)
    beyond = np.array([low - steps * affine.scale, high + steps * affine.scale])
    assert affine.quantize(beyond, type_name).tolist() == list(quant.code_range(type_name))


@given(typed())
def test_the_real_range_is_that_of_the_outermost_codes(given_type: tuple[str, Affine]) -> None:
    type_name, affine = given_type
    codes = _all_codes(type_name)
    real = affine.dequantize(codes)
    assert np.float32(affine.real_range(type_name)).tolist() == [real[0], real[-1]]


def test_per_channel_dequantization_uses_the_axis() -> None:
    codes = np.ones((2, 3), np.int8)
    scales = np.array([1.0, 2.0, 3.0], np.float32)
    real = quant.dequantize(codes, scales, np.array([0, 0, 1]), axis=1)
    assert real.tolist() == [[1, 2, 0], [1, 2, 0]]


@given(
    st.floats(-1e3, -1e-3),
    st.floats(1e-3, 1e3),
    st.booleans(),
)
def test_a_nudged_range_holds_zero_exactly(low: float, high: float, narrow: bool) -> None:
    nudged = quant.nudge(low, high, narrow_range=narrow)
    assert (1 if narrow else 0) <= nudged.zero_point <= 255
    assert nudged.minimum <= 0 <= nudged.maximum
    codes = nudged.minimum / nudged.scale
    assert codes == pytest.approx(round(codes), abs=1e-3)


def test_an_empty_range_has_no_scale() -> None:
    assert quant.nudge(0.0, 0.0).scale == 0.0


def test_code_ranges() -> None:
    assert quant.code_range("INT8") == (-128, 127)
    assert quant.code_range("UINT8") == (0, 255)
    assert quant.code_range("INT4") == (-8, 7)
    assert quant.code_range("INT16") == (-32768, 32767)
