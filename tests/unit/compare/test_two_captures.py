"""Two recordings as the sides of a stream: an operator's own error is that of equal inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.unit.captures import SCALE, capture
from tfldbg.against.parts.two_recordings import TwoCaptures, relate
from tfldbg.compare import stream
from tfldbg.compare.tally import Measured
from tfldbg.errors import DataError
from tfldbg.match.two_captures import put_side_by_side
from tfldbg.progress import Silent

ABOUT = (
    {"operator": -1, "kind": "INPUT"},
    {"operator": 0, "reads": (0,)},
    {"operator": 1, "reads": (0, 1)},
    {"operator": 2, "reads": (2,)},
)
CODES = hnp.arrays(
    np.int8, st.tuples(st.integers(1, 9), st.just(4), st.just(2)), elements=st.integers(-1, 1)
)


def _measure(
    one: list[NDArray[Any]], other: list[NDArray[Any]], samples: int | None = None
) -> Measured:
    first, second = (capture(*zip(side, ABOUT, strict=True))[0] for side in (one, other))
    beside = put_side_by_side(first, second)
    return TwoCaptures(first, second, beside).measure(samples or len(one[0]), Silent())


def _sides(values: NDArray[np.int8]) -> tuple[list[NDArray[np.int8]], list[NDArray[np.int8]]]:
    """Return two sides of four tensors that differ by chance, but for the input."""
    one = [np.zeros_like(values[:, 0])] * 4
    return one, [one[0], *(values[:, i] for i in (1, 2, 3))]


@given(CODES)
def test_the_own_error_is_that_of_the_samples_with_equal_inputs(values: NDArray[np.int8]) -> None:
    one, other = _sides(values)
    measured = _measure(one, other)
    equal = [(a == b).all(1) for a, b in zip(one, other, strict=True)]
    for index, reads in ((1, (0,)), (2, (0, 1)), (3, (2,))):
        chosen = np.logical_and.reduce([equal[i] for i in reads])
        local = measured.local.get(index)
        if not chosen.any():
            assert local is None
            continue
        off = SCALE * np.abs(other[index][chosen].astype(float))
        assert local is not None
        assert (local.elements, local.max_abs) == (off.size, off.max())
        worst = None if not off.max() else np.flatnonzero(chosen)[off.max(1).argmax()]
        assert local.worst_sample == worst
        assert measured.accumulated[index].elements == values[:, 0].size


@given(CODES, st.integers(1, 4))
def test_batches_of_any_size_tell_the_same(values: NDArray[np.int8], size: int) -> None:
    sides = _sides(values)
    whole = _measure(*sides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_MOST_SAMPLES", size)
        parts = _measure(*sides)
    assert parts.accumulated == whole.accumulated
    assert parts.local == whole.local


def test_memory_holds_one_batch_however_many_samples_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.zeros((500, 64), np.int8)
    first, read = capture(*((values, about) for about in ABOUT))
    second, other = capture(*((values, about) for about in ABOUT))
    both = TwoCaptures(first, second, put_side_by_side(first, second))
    both.measure(500, Silent())
    assert read.most == other.most == 32
    read.most = other.most = 0
    monkeypatch.setattr(stream, "_BATCH_BYTES", 3 * 4 * 4 * 64)
    both.measure(500, Silent())
    assert read.most == other.most == 3


def test_as_many_samples_as_are_asked_for() -> None:
    sides = _sides(np.ones((6, 4, 2), np.int8))
    assert _measure(*sides, samples=4).accumulated[1].elements == 4 * 2


def test_nothing_is_told_of_one_recording_by_itself() -> None:
    """NaN, and codes at the end of a range, are the same in both."""
    values = np.full((3, 2), np.nan, np.float32)
    measured = _measure([values] * 4, [values] * 4)
    assert (measured.nan, measured.usage, measured.shapes) == ({}, {}, {})
    assert measured.local[3].nan == 0


def test_recorded_values_beyond_the_other_range_are_no_part_of_rounding() -> None:
    """A reference that is computed is clamped to the tested range; what was recorded is not."""
    codes, coarse = np.full((2, 3), 100, np.int8), {**ABOUT[1], "scale": 2 * SCALE}
    one = capture((codes * 0, ABOUT[0]), (codes, coarse))[0]
    other = capture((codes * 0, ABOUT[0]), (codes + 27, ABOUT[1]))[0]
    local = TwoCaptures(one, other, put_side_by_side(one, other)).measure(2, Silent()).local[1]
    assert local.max_abs == SCALE * (200 - 127) and local.saturated == 0


@pytest.mark.parametrize("wrong", [0, 40])
def test_other_inputs_are_refused_in_whatever_batch(wrong: int) -> None:
    one = [np.zeros((50, 2), np.int8)] * 4
    changed = one[0].copy()
    changed[wrong, 1] = 3
    with pytest.raises(DataError, match=f"sample {wrong} of input 't0' differs by up to 1.5"):
        _measure(one, [changed, *one[1:]])


def test_reasons_and_what_equal_inputs_can_tell() -> None:
    values = np.zeros((2, 2), np.int8)
    hidden = {"operator": 3, "reads": (1, 77)}
    side = capture(*((values, about) for about in (*ABOUT, hidden)))[0]
    relation = relate(put_side_by_side(side, side))
    assert relation.fed_alike == {1, 2, 3}
    assert relation.reasons == {
        1: "its input 't0' differs in every sample",
        2: "one of its inputs differs in every sample",
        3: "its input 't2' differs in every sample",
        4: "its input tensor 77 is not in both recordings",
    }
