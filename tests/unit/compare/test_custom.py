"""Metrics of the user's own: any split gives the same, and what fails names its place."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.compare.accumulate import Accumulator
from tfldbg.compare.custom import MetricCounter, MetricStats
from tfldbg.errors import PluginError
from tfldbg.options.sources import Metric


def _mean_error(reference: np.ndarray, test: np.ndarray) -> float:
    return float((test - reference).mean())


def _counter(metric: Metric = _mean_error) -> MetricCounter:
    return MetricCounter("mine", metric, "operator 3 ADD 'sum'")


def _whole(values: list[float], metric: Metric = _mean_error) -> MetricStats:
    counter = _counter(metric)
    test = np.array(values, np.float32).reshape(-1, 1)
    counter.update(np.zeros_like(test), test, 0)
    return counter.result()


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(floats, min_size=1, max_size=12), st.data())
def test_any_split_and_any_order_of_merging_equals_one_pass(values: list[float], data: Any) -> None:
    cut = data.draw(st.integers(0, len(values)))
    again = data.draw(st.integers(cut, len(values)))
    test = np.array(values, np.float32).reshape(-1, 1)
    first, second = _counter(), _counter()
    first.update(np.zeros_like(test[:cut]), test[:cut], 0)
    second.update(np.zeros_like(test[again:]), test[again:], again)
    first.update(np.zeros_like(test[cut:again]), test[cut:again], cut)
    second.merge(first)
    assert second.result() == _whole(values)


def test_mean_smallest_largest_and_where() -> None:
    found = _whole([2.0, -1.0, 5.0, 5.0, -1.0])
    assert found == MetricStats(2.0, -1.0, 5.0, 1, 2, samples=5, infinite=0, left_out=0)


def test_infinite_values_are_counted_apart() -> None:
    found = _whole([0.0, 1.0, 4.0], lambda r, t: 1 / t.sum() if t.any() else math.inf)
    assert (found.mean, found.samples, found.infinite) == (0.625, 2, 1)
    assert _whole([0.0], lambda r, t: math.inf).mean is None


def test_samples_that_hold_no_numbers_are_left_out() -> None:
    found = _whole([1.0, math.nan, math.inf])
    assert (found.mean, found.samples, found.left_out) == (1.0, 1, 2)


@pytest.mark.parametrize("value", [2, 2.5, np.float32(2.5), np.array([[2.5]]), True])
def test_any_single_number_will_do(value: Any) -> None:
    assert _whole([1.0], lambda r, t: value).mean == np.asarray(value).item()


def _raises(reference: np.ndarray, test: np.ndarray) -> float:
    raise KeyError("no such thing")


def _writes(reference: np.ndarray, test: np.ndarray) -> float:
    test[0] = 0
    return 0.0


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (_raises, "fails at operator 3 ADD 'sum', sample 8: KeyError: 'no such thing'"),
        (_writes, "fails at operator 3 ADD 'sum', sample 8: ValueError: assignment destination"),
        (lambda r, t: sys.exit(0), "fails at operator 3 ADD 'sum', sample 8: SystemExit: 0"),
        (lambda r, t: np.abs(t - r), "returns an array of shape (2,) at operator 3 ADD 'sum'"),
        (lambda r, t: None, "returns a value of type NoneType at"),
        (lambda r, t: "far", "returns a value of type str at"),
        (lambda r, t: 1j, "returns a value of type complex at"),
        (lambda r, t: math.nan, "returns NaN at operator 3 ADD 'sum', sample 8, although"),
    ],
)
def test_what_a_function_does_wrong_is_said_with_its_name_and_place(metric: Any, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        _counter(metric).update(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32), 8)
    assert caught.value.message.startswith("the metric 'mine' ") and said in caught.value.message
    assert caught.value.hint


def test_statistics_carry_metrics() -> None:
    accumulator = Accumulator(1, None, metrics={"mine": _counter()})
    values = np.ones((4, 3, 1), np.float32)
    accumulator.update(values, values + 1, 0)
    accumulator.update(values, values + 3, 4)
    found = accumulator.result()
    assert found.metrics["mine"].mean == 2.0 and found.metrics["mine"].samples == 8
