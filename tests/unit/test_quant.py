"""Quantization arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg import quant

SCALES = st.floats(1e-6, 1e3, allow_nan=False)
CODES = st.integers(-128, 127)


@given(st.lists(CODES, min_size=1), SCALES, CODES)
def test_codes_survive_a_round_trip(codes: list[int], scale: float, zero_point: int) -> None:
    original = np.array(codes, np.int8)
    real = quant.dequantize(original, scale, zero_point)
    assert np.array_equal(quant.quantize(real, np.float32(scale), zero_point), original)


@given(st.floats(-1e4, 1e4), SCALES, CODES)
def test_quantization_is_off_by_half_a_step_at_most(
    value: float, scale: float, zero_point: int
) -> None:
    low, high = quant.real_range("INT8", scale, zero_point)
    clipped = min(max(value, low), high)
    codes = quant.quantize(np.array([value]), scale, zero_point)
    real = (int(codes[0]) - zero_point) * scale
    assert abs(real - clipped) <= scale * 0.5 * (1 + 1e-9)


def test_values_are_rounded_and_not_cut_off() -> None:
    assert quant.quantize(np.array([125.99, -125.99]), 1.0, 0).tolist() == [126, -126]


def test_ties_go_away_from_zero() -> None:
    assert quant.quantize(np.array([0.5, 1.5, -0.5, -1.5]), 1.0, 0).tolist() == [1, 2, -1, -2]


def test_values_beyond_the_range_saturate() -> None:
    assert quant.quantize(np.array([1e9, -1e9]), 0.1, 3).tolist() == [127, -128]
    assert quant.quantize(np.array([1e9, -1e9]), 0.1, 3, "UINT8").tolist() == [255, 0]


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
