"""Final outputs and accuracy: right, and the same however the samples come."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfldbg.compare.accuracy import Accuracy
from tfldbg.compare.metrics import wilson
from tfldbg.compare.outputs import Finals, OutputStatistics, Wanted, output_step
from tfldbg.compare.sides import EMULATION, REFERENCE, TFLITE
from tfldbg.graph.model import Operator, QuantParams, Subgraph, Tensor
from tfldbg.measures.worst.examine import compare_sample
from tfldbg.run.labels import Labels

STEP = 0.5


def _tensor(index: int, shape: tuple[int, ...], step: float | None) -> Tensor:
    params = None
    if step is not None:
        params = QuantParams(np.array([step], np.float32), np.array([0]))
    kind = "FLOAT32" if step is None else "INT8"
    return Tensor(index, f"t{index}", kind, shape, shape, params, 0, False, False)


def _network(step: float | None = STEP, last: float | None = STEP) -> Subgraph:
    """Input 0, operator 0 writes 1, operator 1 writes 2, the output."""
    tensors = (_tensor(0, (1, 4), None), _tensor(1, (1, 4), step), _tensor(2, (1, 4), last))
    kind = "DEQUANTIZE" if step is not None and last is None else "FULLY_CONNECTED"
    operators = (
        Operator(0, "FULLY_CONNECTED", (0,), (1,), {}),
        Operator(1, kind, (1,), (2,), {}),
    )
    return Subgraph(0, "main", tensors, operators, (0,), (2,))


def _finals(wanted: Wanted, *batches: dict[str, np.ndarray], subgraph: Subgraph) -> Finals:
    statistics = OutputStatistics(subgraph, wanted)
    start = 0
    for batch in batches:
        statistics.update(start, {side: {2: values} for side, values in batch.items()})
        start += len(batch[TFLITE])
    return statistics.result()


def test_known_figures() -> None:
    tflite = np.array([[0.0, 1.0, 2.0, 4.0], [0.0, 0.0, 3.0, 0.0]])
    reference = np.array([[0.0, 1.25, 2.0, 4.0], [0.125, 0.0, 2.0, 0.0]])
    sides = {TFLITE: tflite, REFERENCE: reference}
    found = _finals(Wanted(tolerance=0.25), sides, subgraph=_network())
    (output,) = found.outputs
    (pair,) = output.pairs
    assert (pair.test, pair.against) == (TFLITE, REFERENCE)
    assert (output.step, output.tolerance) == (STEP, 0.25)
    assert (pair.max_abs, pair.mean_abs, pair.worst_sample) == (1.0, 1.375 / 8, 1)
    # 0.125 / 0.125 would be 1, but nothing below a step is told from 0: 0.125 / 0.5.
    assert pair.max_relative == 1.0 / 2.0
    assert (pair.elements, pair.mismatching, pair.passed) == (8, 1, False)
    assert pair.mismatching_share == 1 / 8
    loose = _finals(Wanted(tolerance=1.0), sides, subgraph=_network())
    assert loose.outputs[0].pairs[0].passed


def test_three_sides_make_three_pairs() -> None:
    value = np.zeros((1, 4))
    sides = {TFLITE: value, REFERENCE: value + 1, EMULATION: value + 3}
    pairs = _finals(Wanted(), sides, subgraph=_network()).outputs[0].pairs
    assert {(p.test, p.against): p.max_abs for p in pairs} == {
        (TFLITE, REFERENCE): 1,
        (EMULATION, REFERENCE): 2,
        (TFLITE, EMULATION): 3,
    }


def test_what_is_not_finite_mismatches_and_stays_out_of_the_figures() -> None:
    tflite = np.array([[math.nan, math.inf, math.inf, 1.0]])
    reference = np.array([[0.0, 0.0, math.inf, 1.5]])
    found = _finals(
        Wanted(tolerance=1.0, worst=1), {TFLITE: tflite, REFERENCE: reference}, subgraph=_network()
    )
    pair = found.outputs[0].pairs[0]
    assert (pair.elements, pair.mismatching, pair.max_abs) == (4, 2, 0.5)
    assert found.worst_samples == (0,)


VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(4)),
    elements=st.sampled_from([-1.0, 0.0, 0.25, 1.0, 7.0, math.nan, math.inf]),
)


@given(VALUES, st.integers(0, 6))
def test_any_split_into_batches_equals_one_pass(values: np.ndarray, cut: int) -> None:
    labels = Labels(np.arange(6) % 4, 2, 4, "")
    wanted = Wanted(labels=labels, k=2, worst=3)
    sides = {TFLITE: values, REFERENCE: np.flip(values, 1).copy()}
    parts = [{s: v[:cut] for s, v in sides.items()}, {s: v[cut:] for s, v in sides.items()}]
    whole = _finals(wanted, sides, subgraph=_network())
    assert _finals(wanted, *(p for p in parts if len(p[TFLITE])), subgraph=_network()) == whole
    for side in whole.accuracy.sides if whole.accuracy else ():
        array = np.where(np.isnan(sides[side.side]), -np.inf, sides[side.side])
        expected = (array.argmax(1) == labels.classes[: len(array)]) & (array.max(1) > -np.inf)
        assert side.top_1 == expected.sum()


def _accuracy(scores: list[list[float]], classes: list[int], k: int = 2) -> Accuracy:
    labels = Labels(np.array(classes), 2, 4, "")
    finals = _finals(Wanted(labels=labels, k=k), {TFLITE: np.array(scores)}, subgraph=_network())
    assert finals.accuracy is not None
    return finals.accuracy


def test_of_equal_values_the_first_counts_as_for_argmax() -> None:
    tied = [[5.0, 5.0, 1.0, 5.0]]
    by_class = [_accuracy(tied, [c]).sides[0] for c in range(4)]
    assert [s.top_1 for s in by_class] == [1, 0, 0, 0]
    assert [s.top_k for s in by_class] == [1, 1, 0, 0]
    assert all(s.ties == 1 for s in by_class)


def test_a_value_that_is_no_number_is_never_right() -> None:
    side = _accuracy([[math.nan, 1.0, 0.0, 0.0]] * 2, [0, 1]).sides[0]
    assert (side.top_1, side.top_k) == (1, 1)


def test_disagreements_are_named() -> None:
    labels = Labels(np.zeros(3, np.int64), 2, 4, "")
    one, other = np.eye(4)[[0, 1, 2]], np.eye(4)[[0, 2, 1]]
    finals = _finals(Wanted(labels=labels), {TFLITE: one, REFERENCE: other}, subgraph=_network())
    assert finals.accuracy is not None
    (found,) = finals.accuracy.disagreements
    assert (found.test, found.against, found.count, found.samples) == (TFLITE, REFERENCE, 2, (1, 2))


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(81, 263)  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_worst_samples_are_those_with_the_largest_error_in_codes() -> None:
    tflite = np.zeros((5, 4))
    reference = np.zeros((5, 4))
    reference[1, 3], reference[2, 0], reference[4, 1] = 2.0, -3.0, 2.0
    sides = {TFLITE: tflite, REFERENCE: reference}
    found = _finals(Wanted(worst=4), sides, subgraph=_network())
    assert found.worst_samples == (2, 1, 4)


def test_a_dequantized_output_has_the_step_of_its_codes() -> None:
    assert output_step(_network(last=None), 2) == STEP
    assert output_step(_network(step=None, last=None), 2) is None


def _one(*values: float) -> np.ndarray:
    """One sample of a tensor of shape (1, 4)."""
    return np.array([[values]], np.float64)


def test_where_codes_part() -> None:
    subgraph = _network()
    codes = {1: _one(1, 2, 3, 4).astype(np.int8), 2: _one(1, 127, 3, 4).astype(np.int8)}
    real = {i: c * STEP for i, c in codes.items()}
    reference = {
        1: _one(1, 3, 3, 4) * STEP,
        2: _one(1, 300, 3.2, -5) * STEP,
    }
    found = compare_sample(subgraph, 7, codes, real, reference)
    assert (found.sample, found.first_difference_op, found.first_part_op) == (7, 0, 1)
    assert found.error_lsb == 173
    assert found.error == 173 * STEP
    first, second = found.ops
    assert (first.differing, first.largest, first.index) == (1, 1, (0, 1))
    assert (first.tflite, first.reference) == (2, 3)
    assert (second.differing, second.saturated, second.largest) == (1, 1, 9)
    assert second.reference_excerpt == (1, 127, 3, -5)
    assert second.codes and isinstance(second.reference, int)


def test_float_tensors_part_in_real_values() -> None:
    subgraph = _network(step=None, last=None)
    real = {1: _one(1, 2, 3, 1000), 2: _one(1, 2, math.nan, 4)}
    reference = {1: real[1] + 0.05, 2: _one(1, 2, 3, 4)}
    found = compare_sample(subgraph, 0, real, real, reference)
    assert found.error_lsb is None
    assert found.first_difference_op == found.first_part_op == 1
    assert not found.ops[1].codes and found.ops[1].index == (0, 2)
