"""Errors along time: by operator, along an axis, brought together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.unit.diagnose.evidence import SCALE, stats
from tfldbg.compare.steps import Doubles, Figure, along, by_step, figures_of, largest_by_step
from tfldbg.graph.steps import Recurrence, SequenceOutput

LOOP = Recurrence((9,), ((1, 2), (3, 4), (5,)))


def test_a_step_has_the_worst_of_its_operators() -> None:
    known = {
        1: [(stats(0.5), stats(1.0), SCALE)],
        2: [(stats(0.2), stats(3.0), SCALE)],
        3: [(stats(7.0), stats(7.0), SCALE), (None, None, SCALE)],
        4: [(None, stats(2.0), SCALE)],
    }
    first, second, third = by_step((LOOP,), known, ())
    assert (first.ops, first.worst_op, first.worst_accumulated_op) == ((1, 2), 1, 2)
    assert first.max_local_lsb == pytest.approx(0.5)
    assert first.max_accumulated_lsb == pytest.approx(3.0)
    assert (second.worst_op, second.max_local_lsb) == (3, pytest.approx(7.0))
    assert (third.ops, third.worst_op, third.max_local_lsb, third.max_local_abs) == (
        (5,),
        None,
        None,
        None,
    )


def test_float_operators_are_measured_as_they_are() -> None:
    (step,) = by_step((), {}, [Figure(0, 7, 0.25, None, None, 3), Figure(0, 7, 0.125, None, None)])
    assert (step.max_local_lsb, step.max_local_abs) == (None, 0.25)
    assert (step.ops, step.worst_op, step.worst_body_op) == ((7,), 7, 3)


def test_steps_count_in_lsb_where_anything_is_quantized() -> None:
    (step,) = by_step((), {}, [Figure(0, 1, 9.0, None, None), Figure(0, 2, 0.2, None, 0.1)])
    assert (step.worst_op, step.max_local_lsb) == (2, pytest.approx(2.0))


def test_no_error_has_no_operator() -> None:
    (step,) = by_step((), {}, [Figure(0, 1, 0.0, 0.0, 0.1)])
    assert (step.max_local_lsb, step.worst_op, step.worst_accumulated_op) == (0.0, None, None)


@given(arrays(np.float32, (5, 1, 4, 3), elements=st.floats(-8, 8, width=32)), st.integers(1, 4))
def test_any_split_gives_the_same_maxima(values: np.ndarray, cut: int) -> None:
    sequence = SequenceOutput(0, 6, 1)
    whole: dict[int, Doubles] = {}
    parts: dict[int, Doubles] = {}
    along(whole, sequence, np.zeros_like(values), values)
    for part in (values[:cut], values[cut:]):
        along(parts, sequence, np.zeros_like(part), part)
    assert np.array_equal(whole[6], parts[6])
    assert np.array_equal(whole[6], np.abs(values.astype(np.float64)).max((0, 1, 3)))


def test_nan_is_an_infinite_error_and_a_reference_without_value_none() -> None:
    reference = np.array([[0.0], [np.nan], [1.0]], np.float32)
    found = np.array([[np.nan], [5.0], [1.5]], np.float32)
    assert largest_by_step(reference, found).tolist() == [np.inf, 0.0, 0.5]


def test_a_tensor_without_accumulated_error_has_none() -> None:
    figures = figures_of(3, np.array([0.1, 0.2]), None, 0.1)
    assert [(f.step, f.local, f.accumulated) for f in figures] == [(0, 0.1, None), (1, 0.2, None)]
    assert figures_of(3, None, None, 0.1) == []
