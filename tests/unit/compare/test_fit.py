"""Ranges that fit other values than the operator's own, and what made them so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tfldbg.compare.ranges.fit import Filled, marks_of, misfits
from tfldbg.graph.load import load_graph
from tfldbg.graph.model import QuantParams
from tfldbg.rewrite.draft import Draft


def filled(
    tensor: int, kind: str, width: float, reach: float, *reads: int, **more: object
) -> Filled:
    """What int8 operator number ``tensor`` writes; inputs of the model have no number."""
    op = None if kind == "input" else tensor
    made = Filled(tensor, op, kind, 256, width, reach, tuple(reads))
    return replace(made, **more)


X, Y = filled(0, "input", 1.0, 1.0), filled(1, "input", 1.0, 1.0)
MASK = filled(1, "input", 1.0, 1.0, two_valued=True)
SUB = filled(2, "SUB", 40.0, 1.0, 0, 1)
GAIN = filled(3, "MUL", 40.0, 40.0, 2, marks=(40.0,))


def test_the_range_of_an_operator_behind() -> None:
    """MUL was calibrated in the buffer of SUB; its factor is no sentinel."""
    (found,) = misfits([X, Y, SUB, GAIN]).values()
    assert (found.op, found.by, found.sentinel) == (2, 3, None)
    assert found.factor == 40 and found.left == 6
    assert found.bits == pytest.approx(5.32, abs=0.01) and found.decibels == pytest.approx(
        32, abs=0.1
    )
    assert "operator 3 MUL" in found.message and "in place" in found.message


def test_a_range_of_a_reader_that_is_nearly_the_same() -> None:
    assert set(misfits([X, Y, replace(SUB, range=38.0), GAIN])) == {2}


@pytest.mark.parametrize(
    ("sub", "gain"),
    [
        (replace(SUB, reach=6.0), GAIN),  # two bits alone
        (SUB, replace(GAIN, reach=1.0)),  # nobody fills the range: other data calibrated both
        (SUB, replace(GAIN, range=400.0, reach=400.0)),
        (replace(SUB, codes=65536), GAIN),  # of 16 bits more than 10 are left
        (replace(SUB, reach=0.0), GAIN),  # nothing is known
        (replace(SUB, kind="TANH"), GAIN),  # a range that the kernel fixes
        (SUB, replace(GAIN, kind="ADD", marks=())),  # rounds to the same steps itself
        (SUB, replace(GAIN, kind="CONV_2D", marks=())),  # writes into no buffer that it reads
    ],
)
def test_ranges_of_which_no_neighbour_is_to_blame(sub: Filled, gain: Filled) -> None:
    assert not misfits([X, Y, sub, gain])


def test_sixteen_bits_that_a_sentinel_takes_all_the_same() -> None:
    sub, gain = (replace(f, codes=65536, range=1e9) for f in (SUB, GAIN))
    assert set(misfits([X, Y, sub, replace(gain, reach=1e9)])) == {2}


def _padded(kind: str, sentinel: float) -> list[Filled]:
    width = max(abs(sentinel), 3.0)
    return [
        X,
        filled(2, "CONV_2D", width, 3.0, 0),
        filled(3, kind, width, width, 2, marks=(sentinel,)),
        filled(4, "MAX_POOL_2D", width, 3.0, 3),
        filled(5, "CONV_2D", 4.0, 4.0, 4),
    ]


@pytest.mark.parametrize("kind", ["PADV2", "SELECT_V2", "MAXIMUM"])
def test_a_sentinel_behind_an_operator(kind: str) -> None:
    (found,) = misfits(_padded(kind, -1000.0)).values()
    assert (found.op, found.by, found.sentinel) == (2, 3, -1000.0)
    assert "sentinel -1000 of operator 3" in found.message


def test_a_sentinel_behind_a_copy() -> None:
    wide = _padded("PADV2", -1000.0)
    copied = filled(9, "RESHAPE", 1000.0, 3.0, 2)
    pad = replace(wide[2], reads=(9,))
    (found,) = misfits([*wide[:2], copied, pad, *wide[3:]]).values()
    assert (found.op, found.by) == (2, 3)


def test_a_pad_among_the_values() -> None:
    assert not misfits(_padded("PADV2", -1.0))


def test_a_branch_that_fills_the_range_of_both() -> None:
    wide, narrow = filled(2, "CONV_2D", 40.0, 40.0, 0), filled(3, "CONV_2D", 40.0, 1.0, 0)
    join = filled(4, "CONCATENATION", 40.0, 40.0, 2, 3)
    assert not misfits([X, wide, narrow, join])


def _attention(mask: Filled, sentinel: float = -1e9) -> list[Filled]:
    """Scores of up to 9, and a mask times a sentinel that is added."""
    made = filled(3, "MUL", abs(sentinel), abs(sentinel), 1, marks=(sentinel,))
    made = replace(made, two_valued=mask.two_valued)
    scores = filled(4, "BATCH_MATMUL", 9.0, 9.0, 0)
    total = filled(5, "ADD", abs(sentinel), abs(sentinel), 4, 3)
    return [X, mask, made, scores, total, filled(6, "SOFTMAX", 1.0, 1.0, 5)]


def test_a_mask_that_is_added() -> None:
    (found,) = misfits(_attention(MASK)).values()
    assert (found.op, found.by, found.sentinel, found.reach) == (5, 5, -1e9, 9.0)
    assert found.left == 0 and "less than one code" in found.message


def test_a_mask_that_the_model_is_given() -> None:
    mask = replace(MASK, range=1e9, reach=1e9)
    scores = filled(4, "BATCH_MATMUL", 9.0, 9.0, 0)
    (found,) = misfits([X, mask, scores, filled(5, "ADD", 1e9, 1e9, 4, 1)]).values()
    assert (found.op, found.sentinel) == (5, 1e9)


def test_a_constant_mask() -> None:
    scores = filled(4, "BATCH_MATMUL", 9.0, 9.0, 0)
    (found,) = misfits([X, scores, filled(5, "ADD", 1e9, 1e9, 4, marks=(-1e9,))]).values()
    assert (found.op, found.sentinel) == (5, -1e9)


@pytest.mark.parametrize(
    "tensors",
    [
        _attention(MASK, sentinel=-30.0),  # clamped to what the scores need
        _attention(replace(MASK, two_valued=False)),  # a large branch beside a small one
    ],
)
def test_sums_without_a_sentinel(tensors: list[Filled]) -> None:
    assert not misfits(tensors)


def test_two_codes_that_a_wide_range_leaves_are_no_mask() -> None:
    """SUB and GAIN have two codes left, and an operand of half is added."""
    ruined = [replace(SUB, two_valued=True), replace(GAIN, two_valued=True)]
    half = filled(4, "MUL", 0.5, 0.5, 0)
    found = misfits([X, Y, *ruined, half, filled(5, "ADD", 40.0, 40.0, 3, 4)])
    assert set(found) == {2} and found[2].sentinel is None


def _marks(kind: str, values: np.ndarray) -> tuple[float, ...]:
    draft = Draft()
    params = QuantParams(np.array([1.0], np.float32), np.array([0], np.int64))
    given, out = (draft.tensor("INT8", (1, 4), quant=params) for _ in range(2))
    draft.operator(kind, [given, draft.constant(values.astype(np.float32))], [out])
    graph = load_graph(bytes(draft.build([given], [out])))
    return marks_of(graph, graph.main, graph.main.operators[0])


@pytest.mark.parametrize(
    ("kind", "values", "marks"),
    [
        ("ADD", [0, -1e9, 0, -1e9], (-1e9,)),
        ("ADD", [5, 5, 5, 5], ()),  # moves everything alike
        ("ADD", [1, 2, 3, 4], ()),
        ("MUL", [-1e9], (-1e9,)),
        ("MAXIMUM", [-np.inf], ()),
        ("CONV_2D", [7], ()),
    ],
)
def test_constants_that_may_be_sentinels(
    kind: str, values: list[float], marks: tuple[float, ...]
) -> None:
    assert _marks(kind, np.array(values)) == marks
