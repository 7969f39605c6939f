"""The sums that shares come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.measures.compounding.shares import Shares


def _arrays(seed: int, finals: int, size: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=size) * 10.0**n for n in range(finals)]


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4))
def test_parts_that_add_up_have_shares_that_add_up(
    seed: int, finals: int, parts: int, samples: int
) -> None:
    shares = Shares(finals)
    for sample in range(samples):
        made = [_arrays(seed + 31 * sample + 7 * p, finals) for p in range(parts)]
        error = [sum(column) for column in zip(*made, strict=True)]
        shares.begin(error, _arrays(seed + 1, finals), _arrays(0, finals))
        for number, part in enumerate(made):
            shares.add(("op", number), error, part)
    found = [shares.of(("op", n)) for n in range(parts)]
    assert sum(f[0] for f in found if f is not None) == pytest.approx(1)
    if parts == 1:
        assert found[0] == pytest.approx((1, 0), abs=1e-9)


def test_final_tensors_of_any_unit_weigh_the_same() -> None:
    shares = Shares(2)
    error = [np.array([0.1, 0.0]), np.array([0.0, 100.0])]
    shares.begin(error, [np.array([1.0, 0.0]), np.array([0.0, 1000.0])], [np.zeros(2)] * 2)
    shares.add(("op", 0), error, [error[0], np.zeros(2)])
    assert shares.of(("op", 0)) == pytest.approx((0.5, 0.5**0.5))
    assert shares.final(1, 50.0).rmse_lsb == pytest.approx(2**0.5)


def test_without_an_error_there_are_no_shares() -> None:
    shares = Shares(1)
    shares.begin([np.zeros(3)], [np.ones(3)], [np.zeros(3)])
    shares.add(("op", 0), [np.zeros(3)], [np.zeros(3)])
    assert shares.of(("op", 0)) is None
    assert shares.replay_error == 0


def test_the_largest_are_kept_whatever_their_sign() -> None:
    shares = Shares(1)
    error = [np.array([1.0, 1.0])]
    shares.begin(error, error, [np.zeros(2)])
    for number, part in enumerate((0.1, -0.9, 0.5)):
        shares.add(("op", number), error, [np.full(2, part)])
    assert shares.keep_largest(2) == {("op", 0)}
    assert shares.of(("op", 0)) is None
    assert shares.of(("op", 1)) == pytest.approx((-0.9, 1.9))
