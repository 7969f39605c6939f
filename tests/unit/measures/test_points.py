"""Pairs of values: bounded, the same however the samples are batched, with the worst element."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.compare.batch import Batch, Computed
from tfldbg.measures.pictures.points import PointRecorder, Points

TENSOR = 7


def _recorded(
    tflite: np.ndarray, reference: np.ndarray, splits: list[int], most: int = 64
) -> PointRecorder:
    recorder = PointRecorder(len(tflite), most)
    edges = [0, *sorted(splits), len(tflite)]
    for start, stop in pairwise(edges):
        rows = slice(start, stop)
        batch = Batch(start, stop, {}, {TENSOR: tflite[rows]})
        recorder.record(batch, Computed({TENSOR: reference[rows]}, {TENSOR: reference[rows]}))
    return recorder


def _sides(samples: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    reference = generator.normal(size=(samples, *shape)).astype(np.float32)
    return reference + generator.normal(0, 0.1, reference.shape).astype(np.float32), reference


@given(
    samples=st.integers(1, 40),
    shape=st.sampled_from([(), (1,), (3,), (2, 5, 4)]),
    splits=st.lists(st.integers(0, 40), max_size=5),
    most=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_any_split_gives_the_same_pairs(
    samples: int, shape: tuple[int, ...], splits: list[int], most: int, seed: int
) -> None:
    tflite, reference = _sides(samples, shape, seed)
    inside = [s for s in splits if 0 < s < samples]
    whole = _recorded(tflite, reference, [], most)
    split = _recorded(tflite, reference, inside, most)
    assert whole.sides({TENSOR}) == split.sides({TENSOR})


@given(samples=st.integers(1, 300), elements=st.integers(1, 500))
def test_there_are_never_more_pairs_than_asked_for(samples: int, elements: int) -> None:
    tflite, reference = _sides(samples, (elements,))
    found = _recorded(tflite, reference, [], most=50).sides({TENSOR}).accumulated[TENSOR]
    assert 0 < len(found.tflite) == len(found.reference) <= 50


def test_the_pairs_are_values_of_both_sides_spread_over_the_tensor() -> None:
    tflite = np.arange(1000, dtype=np.float32)[None]
    found = _recorded(tflite, tflite + 0.5, []).sides({TENSOR}).accumulated[TENSOR]
    assert found.reference == tuple(v + 0.5 for v in found.tflite)
    tenths = {int(v // 100) for v in found.tflite}
    assert tenths == set(range(10))


def test_the_worst_element_is_kept_though_no_pair_hits_it() -> None:
    tflite, reference = _sides(5, (20, 30))
    tflite[3, 7, 11] = reference[3, 7, 11] + 9
    worst = _recorded(tflite, reference, [2, 4]).sides({TENSOR}).accumulated[TENSOR].worst
    assert worst is not None
    assert (worst.sample, worst.index) == (3, (7, 11))
    assert worst.tflite - worst.reference == pytest.approx(9)


def test_equal_tensors_have_no_worst_element() -> None:
    _, reference = _sides(2, (4,))
    assert _recorded(reference, reference, []).sides({TENSOR}).local[TENSOR].worst is None


def test_values_that_are_not_finite_are_left_out() -> None:
    tflite, reference = _sides(1, (40,))
    tflite[0, :20] = np.nan
    reference[0, 30:] = np.inf
    found = _recorded(tflite, reference, []).sides({TENSOR}).accumulated[TENSOR]
    assert 0 < len(found.tflite) < 40
    assert np.isfinite((*found.tflite, *found.reference)).all()
    assert found.worst is not None
    assert 20 <= found.worst.index[0] < 30


def test_an_empty_tensor_has_no_pairs() -> None:
    nothing = np.zeros((3, 0), np.float32)
    assert _recorded(nothing, nothing, []).sides({TENSOR}).accumulated[TENSOR] == Points(
        (), (), None
    )


def test_a_local_pair_is_what_was_tested() -> None:
    real = np.zeros((1, 5), np.float32)
    tested, computed = real + 2, real + 1
    recorder = PointRecorder(1)
    batch = Batch(0, 1, {}, {TENSOR: real})
    recorder.record(batch, Computed({}, {TENSOR: computed}, {TENSOR: tested}))
    assert set(recorder.sides({TENSOR}).local[TENSOR].tflite) == {2.0}
