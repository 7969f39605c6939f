"""The compiled loops and what stands in for them do the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg import loops

LIMITS = loops.Range(-2.5, 3.0, 0.25)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 41), st.integers(1, 70))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without a compiler."""
    monkeypatch.setattr(loops, "_loops", None)
    yield


@pytest.fixture(autouse=True)
def compiled() -> None:
    assert loops.COMPILED or shutil.which("cc") is None
    if not loops.COMPILED:
        pytest.skip("tfldbg was installed without a compiler")


def _sums(channels: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((loops.SUMS, channels)), np.zeros((loops.MAXIMA, channels))


def _in_numpy(function: str, *given: object) -> object:
    kept, loops._loops = loops._loops, None  # type: ignore[assignment]
    try:
        return getattr(loops, function)(*given)
    finally:
        loops._loops = kept


@given(SHAPES, st.integers(0, 99), st.sampled_from([None, LIMITS]))
def test_sums_counts_and_maxima_agree(
    shape: tuple[int, int, int], seed: int, limits: loops.Range | None
) -> None:
    generator = np.random.default_rng(seed)
    test, reference = generator.normal(1, 3, (2, *shape)).astype(np.float32)
    mine, other = _sums(shape[-1]), _sums(shape[-1])
    counted = loops.compare(test, reference, 2.0, *mine, limits)
    expected = _in_numpy("compare", test, reference, 2.0, *other, limits)
    assert counted is not None and isinstance(expected, loops.Compared)
    assert (counted.differing, counted.saturated) == (expected.differing, expected.saturated)
    np.testing.assert_allclose(counted.peaks, expected.peaks, rtol=1e-6)
    np.testing.assert_allclose(mine[1], other[1], rtol=1e-6)
    # A sum may cancel, so that its error is to be held against what was added.
    magnitude = np.abs([test - reference, reference]).max() ** 2 * shape[0] * shape[1]
    np.testing.assert_allclose(mine[0], other[0], rtol=1e-5, atol=1e-6 * max(magnitude, 1))


@given(SHAPES, st.integers(0, 99), st.data())
def test_any_split_gives_the_same_sums(
    shape: tuple[int, int, int], seed: int, data: st.DataObject
) -> None:
    test, reference = np.random.default_rng(seed).normal(0, 9, (2, *shape)).astype(np.float32)
    cut = data.draw(st.integers(0, shape[0]))
    whole, parts = _sums(shape[-1]), _sums(shape[-1])
    loops.compare(test, reference, 0.5, *whole)
    for rows in (slice(0, cut), slice(cut, None)):
        if test[rows].size:
            loops.compare(test[rows], reference[rows], 0.5, *parts)
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-12, atol=1e-12)
    assert np.array_equal(whole[1], parts[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [0, 7, 8, 30])
def test_what_is_not_finite_changes_nothing(bad: float, side: int, place: int) -> None:
    both = np.ones((2, 1, 31, 5), np.float32)
    both[side, 0, place, 3] = bad
    sums, maxima = _sums(5)
    assert loops.compare(both[0], both[1], 0.5, sums, maxima) is None
    assert not sums.any() and not maxima.any()


@given(st.integers(0, 99), st.sampled_from([np.int8, np.uint8, np.int16]))
def test_dequantized_codes_are_the_same_bits(seed: int, dtype: type) -> None:
    generator = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    codes = generator.integers(limits.min, limits.max + 1, (3, 37)).astype(dtype)
    scale, zero = float(np.float32(generator.uniform(1e-4, 1))), int(generator.integers(-128, 128))
    found = loops.dequantize(codes, scale, zero)
    assert found.tobytes() == _in_numpy("dequantize", codes, scale, zero).tobytes()  # type: ignore[attr-defined]


@pytest.mark.parametrize("zero", [-(2**63), -(2**31), 2**31, 2**63 - 1])
def test_a_zero_point_that_no_file_should_state(zero: int) -> None:
    codes = np.arange(-128, 128).astype(np.int8)
    found = loops.dequantize(codes, 0.5, zero)
    np.testing.assert_allclose(found, np.full(256, -zero * 0.5), rtol=1e-6)


@given(st.integers(0, 99))
def test_clamped_values_are_the_same_bits(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 4, (5, 23)).astype(np.float32)
    values[0, :3] = [np.nan, np.inf, -np.inf]
    found, beyond = loops.clamp(values, LIMITS)
    expected = _in_numpy("clamp", values, LIMITS)
    assert isinstance(expected, tuple)
    assert found.tobytes() == expected[0].tobytes() and beyond == expected[1]


@given(st.integers(0, 999), st.sampled_from([np.int8, np.uint8]))
def test_counts_are_the_same(count: int, dtype: type) -> None:
    codes = np.random.default_rng(count).integers(0, 256, count).astype(np.uint8).view(dtype)
    mine, other = np.zeros(256, np.int64), np.zeros(256, np.int64)
    loops.count(codes, mine)
    _in_numpy("count", codes, other)
    assert np.array_equal(mine, other) and mine.sum() == count


@given(st.integers(1, 2000), st.sampled_from([0.02, 0.3, 1.0]), st.integers(1, 9))
def test_quarters_are_the_same(count: int, step: float, most: int) -> None:
    generator = np.random.default_rng(count)
    reference = (generator.integers(-128, 128, count) * step).astype(np.float32)
    test = (reference + generator.choice([0, 0.25, 1, -1, -99], count) * step).astype(np.float32)
    mine, other = np.zeros(2 * most + 1, np.int64), np.zeros(2 * most + 1, np.int64)
    loops.count_quarters(test, reference, step, mine)
    _in_numpy("count_quarters", test, reference, step, other)
    assert np.array_equal(mine, other) and mine.sum() == count


@given(st.integers(0, 200), st.integers(0, 9))
def test_the_largest_difference_is_the_same_and_never_nan(count: int, odd: int) -> None:
    both = np.random.default_rng(count).normal(0, 4, (2, count)).astype(np.float32)
    both[0, ::7][:odd] = np.nan
    with np.errstate(invalid="ignore"):
        sizes = np.abs(both[0] - both[1])
    expected = float(sizes[~np.isnan(sizes)].max(initial=0.0))
    assert loops.largest_difference(*both) == expected
    assert _in_numpy("largest_difference", *both) == expected


def test_sizes_that_do_not_fit_are_refused() -> None:
    native, values = loops._loops, np.ones(6, np.float32)
    everything, sums = (-np.inf, np.inf, -np.inf, np.inf), np.zeros((loops.SUMS, 2))

    def compare(reference: np.ndarray, samples: int, maxima: int, peaks: int) -> None:
        both = (np.zeros((maxima, 2)), np.zeros(peaks))
        native.compare(values, reference, samples, 2, 0.5, everything, sums, *both)

    compare(values, 1, loops.MAXIMA, 1)
    for call in (
        lambda: compare(values, 1, 1, 1),
        lambda: compare(values, 1, loops.MAXIMA, 2),
        lambda: compare(values[:4], 1, loops.MAXIMA, 1),
        lambda: compare(values, 4, loops.MAXIMA, 4),
        lambda: native.clamp(values, 0, 1, 0, 1, values[:3].copy()),
        lambda: native.largest(values, values[:5].copy()),
        lambda: native.count(np.zeros(3, np.uint8), np.zeros(255, np.int64)),
        lambda: native.dequantize(np.zeros(5, np.int8), "int16", 1.0, 0, values[:5].copy()),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            call()


def test_statistics_do_not_need_a_compiler(plain: None) -> None:
    from tests.unit.compare import test_accumulate

    test_accumulate.test_streaming_equals_one_pass()


@given(SHAPES, st.integers(0, 99), st.sampled_from([0.05, 1.0, 3e-8]))
def test_histograms_count_the_same(shape: tuple[int, int, int], seed: int, step: float) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.integers(-9, 9, (2, *shape)) * 0.25
    test, reference = (codes * step).astype(np.float32)
    mine, other = np.zeros(29, np.int64), np.zeros(29, np.int64)
    loops.count_quarters(test, reference, step, mine)
    _in_numpy("count_quarters", test, reference, step, other)
    assert mine.tolist() == other.tolist()
    assert mine.sum() == test.size
