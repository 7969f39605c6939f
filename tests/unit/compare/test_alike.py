"""When two computations of a tensor are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.compare.alike import differing

VALUES = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_rounding_of_float32_makes_no_difference(seed: int, size: float) -> None:
    noise = np.random.default_rng(seed).uniform(-1, 1, VALUES.size) * 1e-6
    wanted = VALUES * np.float32(size)
    assert differing((wanted * (1 + noise)).astype(np.float32), wanted, 1e-5) == 0


@pytest.mark.parametrize("far", [None, -1e9, np.inf, np.nan])
def test_other_values_differ_whatever_else_there_is(far: float | None) -> None:
    wanted = VALUES.copy()
    if far is not None:
        wanted[0] = far
    other = np.where(np.arange(wanted.size) > 0, -3 * wanted, wanted)
    assert differing(other, wanted, 1e-4) > 990
    assert differing(wanted, wanted, 1e-4) == 0


def test_what_is_infinite_or_nan_on_one_side_differs() -> None:
    for bad in (np.inf, -np.inf, np.nan):
        other = VALUES.copy()
        other[5] = bad
        assert differing(other, VALUES, 1e-4) == differing(VALUES, other, 1e-4) == 1


def test_zeros_and_what_does_not_matter() -> None:
    zeros = np.zeros(4, np.float32)
    assert differing(zeros, zeros, 1e-4) == 0
    assert differing(zeros + np.float32(1e-3), zeros, 1e-4) == 4
    assert differing(zeros + np.float32(1e-3), zeros, 1e-4, 1e-2) == 0
