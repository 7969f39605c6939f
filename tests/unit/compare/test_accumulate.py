"""Statistics: right, and the same however the samples are split."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfldbg.compare.accumulate import CHANNEL_COLUMNS, Accumulator, TensorStats
from tfldbg.compare.histogram import BINS, EDGES_LSB, beyond
from tfldbg.compare.metrics import Line

VALUES = st.floats(-1e3, 1e3, width=32) | st.sampled_from([math.nan, math.inf, -math.inf])
BATCHES = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(0, 3), st.just(2)), elements=VALUES
)


def _stats(reference: np.ndarray, test: np.ndarray, lsb: float | None = None) -> TensorStats:
    accumulator = Accumulator(reference.shape[-1], lsb)
    accumulator.update(reference, test)
    return accumulator.result()


def assert_close(one: TensorStats, two: TensorStats) -> None:
    for name in TensorStats.__dataclass_fields__:
        a, b = getattr(one, name), getattr(two, name)
        if isinstance(a, float) and isinstance(b, float):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-9), name
        elif isinstance(a, Line) and isinstance(b, Line):
            # A residual is the root of a small difference of large sums: half the digits are left.
            assert astuple(a) == pytest.approx(astuple(b), rel=1e-5, abs=1e-4), name
        else:
            assert a == b, name


def test_known_figures() -> None:
    reference = np.array([[[1.0, 10.0]], [[2.0, 20.0]]])
    test = np.array([[[1.0, 11.0]], [[2.0, 17.0]]])
    stats = _stats(reference, test, lsb=0.5)
    assert stats.max_abs == 3
    assert stats.max_lsb == 6
    assert stats.mean_lsb == pytest.approx((1 + 3) / 4 / 0.5)
    assert stats.rmse == pytest.approx(math.sqrt((1 + 9) / 4))
    assert stats.bias_lsb == pytest.approx((1 - 3) / 4 / 0.5)
    assert stats.sqnr_db == pytest.approx(10 * math.log10((1 + 4 + 100 + 400) / 10))
    assert stats.worst_channel == 1
    assert stats.worst_channel_lsb == pytest.approx(2 / 0.5)
    assert stats.worst_sample == 1
    assert stats.channel_max_abs == (0.0, 3.0)


def test_every_channel_has_its_own_figures() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(3, 5, 4))
    test = reference + generator.normal(size=(3, 5, 4)) * [0, 0.1, 1, 0.01]
    accumulator = Accumulator(4, 0.5)
    accumulator.update(reference, test)
    table = dict(zip(CHANNEL_COLUMNS, accumulator.channels().T, strict=True))
    for channel in range(1, 4):
        alone = _stats(reference[..., channel, None], test[..., channel, None], 0.5)
        for name in CHANNEL_COLUMNS:
            assert table[name][channel] == pytest.approx(getattr(alone, name)), name
    assert np.isnan(table["sqnr_db"][0]) and table["max_abs"][0] == 0


def test_equal_tensors_have_no_noise() -> None:
    same = np.ones((3, 4))
    stats = _stats(same, same)
    assert stats.sqnr_db is None
    assert stats.cosine == pytest.approx(1)
    assert stats.worst_sample is None
    assert stats.relative_rmse == 0


def test_nan_and_infinity_are_counted_and_kept_out_of_the_sums() -> None:
    reference = np.array([[1.0, 2.0, 3.0, math.nan]])
    stats = _stats(reference, np.array([[math.nan, math.inf, 3.5, 1.0]]))
    assert (stats.nan, stats.infinite, stats.reference_nonfinite) == (1, 1, 1)
    assert stats.elements == 1
    assert stats.max_abs == 0.5


def test_a_single_bad_channel_is_not_averaged_away() -> None:
    reference = np.zeros((1, 100, 64))
    test = reference.copy()
    test[0, 7, 33] = 5.0
    stats = _stats(reference, test, lsb=1.0)
    assert stats.worst_channel == 33
    assert stats.max_lsb == 5


def test_scalars_and_empty_tensors() -> None:
    accumulator = Accumulator(1, None)
    accumulator.update(np.zeros((0, 1)), np.zeros((0, 1)))
    assert accumulator.result().elements == 0
    accumulator.update(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    assert accumulator.result().max_abs == 0.5


@settings(max_examples=2 * settings.default.max_examples)
@given(BATCHES, st.integers(0, 6), st.randoms(use_true_random=False))
def test_any_split_and_merge_equals_one_pass(
    reference: np.ndarray, cut: int, random: object
) -> None:
    del random
    test = np.flip(reference, 0).copy()
    cut = min(cut, len(reference))
    whole = _stats(reference, test, 0.25)
    first, second = Accumulator(2, 0.25), Accumulator(2, 0.25)
    first.update(reference[:cut], test[:cut], 0)
    second.update(reference[cut:], test[cut:], cut)
    for order in ((first, second), (second, first)):
        merged = Accumulator(2, 0.25)
        for part in order:
            merged.merge(part)
        assert_close(merged.result(), whole)


@given(BATCHES)
def test_streaming_equals_one_pass(reference: np.ndarray) -> None:
    test = reference * np.float32(1.01)
    streamed = Accumulator(2, None)
    for i in range(len(reference)):
        streamed.update(reference[i : i + 1], test[i : i + 1], i)
    assert_close(streamed.result(), _stats(reference, test))


def test_a_wrong_scale_is_a_straight_line() -> None:
    reference = np.random.default_rng(1).normal(size=(4, 5, 3))
    line = _stats(reference, 1.2 * reference - 0.3).line
    assert line is not None
    assert astuple(line) == pytest.approx((1.2, -0.3, 0.0, 1.0), abs=1e-6)
    assert _stats(np.ones((2, 3)), np.zeros((2, 3))).line is None
    constant = _stats(reference, np.ones_like(reference)).line
    assert constant is not None and constant.correlation == 0.0


def test_differing_values_and_the_first_sample() -> None:
    reference = np.zeros((3, 4))
    test = np.array([[0, 0.5, 0.4, 0], [1.0, 0, 0, 0], [0, 2.0, 0, -2.0]])
    stats = _stats(reference, test, lsb=1.0)
    assert stats.differing == 3
    assert stats.first_sample_max_abs == 0.5
    assert _stats(reference, test).differing == 5


@settings(max_examples=2 * settings.default.max_examples)
@given(BATCHES, st.integers(0, 6))
def test_histograms_of_any_split_add_up_and_count_every_compared_element(
    reference: np.ndarray, cut: int
) -> None:
    test = np.flip(reference, 0).copy()
    cut = min(cut, len(reference))
    whole = Accumulator(2, 0.25, histogram=True)
    whole.update(reference, test)
    first, second = Accumulator(2, 0.25, histogram=True), Accumulator(2, 0.25, histogram=True)
    first.update(reference[:cut], test[:cut])
    second.update(reference[cut:], test[cut:], cut)
    second.merge(first)
    assert second.result().histogram == whole.result().histogram
    assert sum(whole.result().histogram) == whole.result().elements
    with np.errstate(invalid="ignore"):
        error = (test.astype(np.float64) - reference).ravel() / 0.25
    plain = [sum(_in_bin(e, i) for e in error) for i in range(BINS)]
    assert list(whole.result().histogram) == plain


def _in_bin(error: float, number: int) -> bool:
    """Whether an error lies in a bin, by the definition: an edge belongs to the bin nearer 0."""
    edges = (-math.inf, *EDGES_LSB, math.inf)
    low, high = edges[number], edges[number + 1]
    if not math.isfinite(error):
        return False
    if low < 0 < high:
        return low <= error <= high
    return low < error <= high if low > 0 else low <= error < high


def test_float_tensors_have_no_histogram() -> None:
    accumulator = Accumulator(1, None, histogram=True)
    accumulator.update(np.zeros(3), np.ones(3))
    assert accumulator.result().histogram == ()


def test_what_lies_beyond_half_a_step() -> None:
    accumulator = Accumulator(1, 2.0, histogram=True)
    errors = np.array([0.0, 0.2, -1.0, 1.0, 1.002, -600.0])  # LSB: 0, 0.1, -0.5, 0.5, 0.501, -300
    accumulator.update(np.zeros(6), errors)
    histogram = accumulator.result().histogram
    assert beyond(histogram, 0.5) == 2
    assert beyond(histogram, 64.5) == 1
    assert histogram[0] == 1
