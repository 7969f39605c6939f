"""The compiled loops and what stands in for them do the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

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


def _compare(
    test: np.ndarray,
    reference: np.ndarray,
    half: float = 0.5,
    limits: loops.Range | None = None,
    forms: tuple[loops.Stored, loops.Stored] = (loops.REAL, loops.REAL),
    *,
    cuts: tuple[int, ...] = (),
) -> loops.Sums | None:
    """Compare whole tensors, or parts of them; return the figures, None if one is not finite."""
    sums = loops.Sums(test.shape[-1])
    comparison = loops.comparison(sums, half, limits, *forms)
    for start, stop in zip((0, *cuts), (*cuts, len(test)), strict=True):
        some = slice(start, stop)
        if stop > start and not comparison.add(test[some], reference[some], stop - start, start):
            assert not sums.sums.any() and not sums.maxima.any() and not sums.counts.any()
            return None
    return sums


def _in_numpy(function: object, *given: object, **named: object) -> object:
    kept, loops._loops = loops._loops, None  # type: ignore[assignment]
    try:
        called = getattr(loops, function) if isinstance(function, str) else function
        return called(*given, **named)  # type: ignore[operator]
    finally:
        loops._loops = kept


def _assert_alike(mine: loops.Sums | None, other: object, test: np.ndarray) -> None:
    assert mine is not None and isinstance(other, loops.Sums)
    assert mine.counts.tolist() == other.counts.tolist()
    np.testing.assert_allclose(mine.maxima, other.maxima, rtol=1e-6)
    np.testing.assert_allclose(mine.peaks, other.peaks, rtol=1e-6)
    # A sum may cancel, so that its error is to be held against what was added.
    magnitude = max(1.0, float(np.abs(mine.maxima).max()), float(np.abs(test).max())) ** 2
    np.testing.assert_allclose(mine.sums, other.sums, rtol=1e-5, atol=1e-6 * magnitude * test.size)


@given(SHAPES, st.integers(0, 99), st.sampled_from([None, LIMITS]))
def test_sums_counts_and_maxima_agree(
    shape: tuple[int, int, int], seed: int, limits: loops.Range | None
) -> None:
    generator = np.random.default_rng(seed)
    test, reference = generator.normal(1, 3, (2, *shape)).astype(np.float32)
    given = (test, reference, 2.0, limits)
    _assert_alike(_compare(*given), _in_numpy(_compare, *given), test)


def _codes(seed: int, dtype: type, shape: tuple[int, ...]) -> tuple[np.ndarray, loops.Stored]:
    generator, ends = np.random.default_rng(seed), np.iinfo(dtype)
    codes = generator.integers(ends.min, ends.max + 1, shape).astype(dtype)
    scale, zero = float(np.float32(generator.uniform(1e-4, 1))), int(generator.integers(-128, 128))
    return codes, loops.Stored(codes.dtype.char, scale, zero)


@given(
    SHAPES,
    st.integers(0, 99),
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.sampled_from([None, LIMITS]),
    st.booleans(),
)
def test_codes_compare_as_their_real_values(
    shape: tuple[int, int, int], seed: int, dtype: type, limits: loops.Range | None, both: bool
) -> None:
    codes, form = _codes(seed, dtype, shape)
    others, their_form = _codes(seed + 1, dtype, shape)
    real, their_real = loops.dequantize(codes, *form[1:]), loops.dequantize(others, *their_form[1:])
    reference, forms = (others, (form, their_form)) if both else (their_real, (form, loops.REAL))
    mine = _compare(codes, reference, form.scale / 2, limits, forms)
    real_ones = _compare(real, their_real, form.scale / 2, limits)
    assert mine is not None and real_ones is not None
    for name in ("sums", "maxima", "counts", "peaks"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(real_ones, name))
    given = (codes, reference, form.scale / 2, limits, forms)
    _assert_alike(mine, _in_numpy(_compare, *given), real)


@given(SHAPES, st.integers(0, 99), st.data())
def test_any_split_gives_the_same_sums(
    shape: tuple[int, int, int], seed: int, data: st.DataObject
) -> None:
    test, reference = np.random.default_rng(seed).normal(0, 9, (2, *shape)).astype(np.float32)
    cut = data.draw(st.integers(0, shape[0]))
    whole, parts = _compare(test, reference), _compare(test, reference, cuts=(cut,))
    assert whole is not None and parts is not None
    np.testing.assert_allclose(whole.sums, parts.sums, rtol=1e-12, atol=1e-12)
    assert np.array_equal(whole.maxima, parts.maxima)
    assert np.array_equal(whole.counts, parts.counts)
    assert np.array_equal(whole.peaks, parts.peaks)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [0, 7, 8, 30])
def test_what_is_not_finite_changes_nothing(bad: float, side: int, place: int) -> None:
    both = np.ones((2, 1, 31, 5), np.float32)
    both[side, 0, place, 3] = bad
    assert _compare(both[0], both[1]) is None
    assert _in_numpy(_compare, both[0], both[1]) is None


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
    everything, real = (-np.inf, np.inf, -np.inf, np.inf), ("f", 1.0, 0)

    def compare(
        reference: np.ndarray,
        samples: int = 1,
        maxima: int = 2,
        form: tuple[str, float, int] = real,
    ) -> None:
        arrays = (np.zeros((7, 2)), np.zeros((maxima, 2)), np.zeros(3, np.int64), np.zeros(3))
        made = native.Comparison(2, 0.5, everything, real, form, *arrays)
        made.add(values, reference, samples, 0)

    compare(values)
    for call in (
        lambda: compare(values, maxima=1),
        lambda: compare(values[:4]),
        lambda: compare(values, 4),
        lambda: compare(values, 0),
        lambda: compare(values, form=("b", 1.0, 0)),
        lambda: compare(values.astype(np.float64)),
        lambda: compare(values, form=("d", 1.0, 0)),
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


@pytest.mark.parametrize("stated", [{}, {"VERSION": loops._VERSION + 1}])
def test_loops_of_another_version_are_not_used(
    stated: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loops._compiled() is not None
    monkeypatch.setattr(loops, "import_module", lambda name: SimpleNamespace(**stated))
    assert loops._compiled() is None


@given(
    st.sampled_from(["int8", "uint8"]),
    st.integers(-(1 << 25), 1 << 25),
    st.floats(2e-38, 1e38),
    st.integers(0, 9),
    st.data(),
)
def test_errors_in_lsb_are_rounded_alike(
    dtype: str, zero_point: int, scale: float, count: int, data: st.DataObject
) -> None:
    limits = np.iinfo(dtype)
    codes = np.array(
        data.draw(st.lists(st.integers(limits.min, limits.max), min_size=count, max_size=count)),
        dtype,
    )
    each = st.floats(width=32, allow_nan=True, allow_infinity=True)
    reference = np.array(data.draw(st.lists(each, min_size=count, max_size=count)), np.float32)
    found = loops.errors_lsb(codes, reference, scale, zero_point)
    plain = _in_numpy("errors_lsb", codes, reference, scale, zero_point)
    assert isinstance(plain, np.ndarray) and found.dtype == plain.dtype == np.float16
    with np.errstate(all="ignore"):
        exact = codes.astype(np.float64) - zero_point - reference.astype(np.float64) / scale
        allowed = 1.01 / 1024 + np.abs(exact) / 2000 + 2e-7 * np.abs(reference / np.float64(scale))
        allowed += 2e-7 * abs(zero_point)
        large = np.sign(exact) * np.inf
        for made in (found, plain):
            assert np.array_equal(np.isnan(made), np.isnan(reference))
            assert (np.abs(exact[np.isinf(made)]) >= 65500).all()
            close = np.abs(made - exact) <= allowed
            beyond = (np.abs(exact) > 65500) & (made == large)
            assert (close | beyond | np.isnan(reference)).all()


def test_whole_errors_in_lsb_are_exact() -> None:
    codes = np.arange(-128, 128, dtype=np.int8)
    for scale, shift in ((0.0173, 3), (1e-20, 0), (7e5, -255)):
        reference = (codes.astype(np.float32) - 5 - shift) * np.float32(scale)
        for made in (
            loops.errors_lsb(codes, reference, scale, 5),
            _in_numpy("errors_lsb", codes, reference, scale, 5),
        ):
            assert np.array_equal(made, np.full(256, shift, np.float16))
