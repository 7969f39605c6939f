"""How a recorded input was made of the data: every cast is told, and rounding is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.against.parts.recording_signs import QUANTIZED, how_made
from tfldbg.graph.model import QuantParams, Tensor

SCALE, ZERO_POINT = 0.037, -20


def _input(scale: float = SCALE, zero_point: int = ZERO_POINT) -> Tensor:
    params = QuantParams(np.array([scale], np.float32), np.array([zero_point], np.int64))
    return Tensor(0, "x", "INT8", (1, 64), (1, 64), params, 0, False, False)


def _data(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-4, 5, (4, 64)).astype(np.float32)


def _codes(values: np.ndarray, wrapped: bool = False) -> np.ndarray:
    whole = values.astype(np.int64)
    return whole.astype(np.int8) if wrapped else np.clip(whole, -128, 127).astype(np.int8)


@given(st.integers(0, 1000))
def test_rounded_data_is_quantized(seed: int) -> None:
    # In float32, as a script divides: ties may fall to the other side.
    steps = np.round(_data(seed) / np.float32(SCALE)) + ZERO_POINT
    assert how_made(_input(), _data(seed), _codes(steps)) == QUANTIZED


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("cast", "said"),
    [
        (lambda x: np.trunc(x / SCALE + ZERO_POINT), "cut off instead of rounded"),
        (lambda x: np.floor(x / SCALE + ZERO_POINT), "rounded down"),
        (lambda x: np.trunc(x / SCALE) + ZERO_POINT, "before the zero point was added"),
        (lambda x: np.round(x / SCALE), "without the zero point"),
        (lambda x: np.trunc(x), "cast to integers without scale and zero point"),
        (lambda x: np.round(x), "rounded without scale and zero point"),
    ],
)
def test_every_cast_is_told(cast: object, said: str, wrapped: bool) -> None:
    data = _data(1).astype(np.float64)
    codes = _codes(cast(data), wrapped)  # type: ignore[operator]
    assert said in (how_made(_input(), data.astype(np.float32), codes) or "")


def test_other_data_is_no_cast() -> None:
    other = _codes(np.round(_data(2) / SCALE) + ZERO_POINT)
    assert how_made(_input(), _data(1), other) is None
