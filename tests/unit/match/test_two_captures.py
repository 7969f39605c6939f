"""Two recordings: which tensor is which, and what nothing can tell of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.captures import SCALE, capture
from tfldbg.errors import MatchError
from tfldbg.match.two_captures import put_side_by_side
from tfldbg.reference.capture import Capture

CODES = np.zeros((4, 3), np.int8)
REAL = np.zeros((4, 3), np.float32)
INPUT = {"operator": -1, "kind": "INPUT"}


def _open(*about: dict[str, Any], values: Any = CODES, **run: Any) -> Capture:
    return capture(*((values, told) for told in about), **run)[0]


def test_what_one_recording_does_not_say_is_taken_from_the_other() -> None:
    told = _open(INPUT, {"operator": 7, "kind": "ADD", "reads": (0,)})
    mute = _open({}, {})
    for one, other in ((told, mute), (mute, told)):
        beside = put_side_by_side(one, other)
        (node,) = beside.written
        assert (node.operator.index, node.operator.kind, node.operator.inputs) == (7, "ADD", (0,))
        assert beside.subgraph.inputs == (0,)
        assert beside.notes == ()


def test_operators_stand_in_the_order_in_which_they_run() -> None:
    side = _open(INPUT, {"operator": 5, "reads": (2,)}, {"operator": 2, "reads": (0,)})
    beside = put_side_by_side(side, side)
    assert [n.operator.index for n in beside.written] == [2, 5]
    assert [o.outputs for o in beside.subgraph.operators] == [(2,), (1,)]


def test_every_tensor_before_stands_in_for_what_is_read() -> None:
    side = _open(INPUT, {}, {})
    beside = put_side_by_side(side, side)
    assert [n.operator.inputs for n in beside.written] == [(0,), (0, 1)]
    assert any("the order in the file" in note for note in beside.notes)
    assert any("every tensor before it is equal" in note for note in beside.notes)


def test_tensors_keep_the_numbers_of_their_file_where_all_have_one() -> None:
    side = _open({**INPUT, "index": 40}, {"index": 12, "operator": 0, "reads": (40,)})
    beside = put_side_by_side(side, side)
    assert [n.tensor.index for n in beside.nodes] == [40, 12]
    assert beside.subgraph.tensors[12].lsb == SCALE and len(beside.subgraph.tensors) == 41
    assert beside.written[0].operator.inputs == (40,)


@pytest.mark.parametrize("index", [None, 10**12])
def test_places_stand_in_for_numbers_that_no_file_has(index: int | None) -> None:
    side = _open(INPUT, {"index": index, "operator": 0})
    beside = put_side_by_side(side, side)
    assert [n.tensor.index for n in beside.nodes] == [0, 1]


def test_codes_without_a_scale_take_the_other_sides() -> None:
    told, mute = _open({}), _open({"scale": None, "zero_point": None})
    for one, other in ((told, mute), (mute, told)):
        (node,) = put_side_by_side(one, other).nodes
        assert node.reference is not None
        assert (node.reference.scale, node.tested.scale, node.tensor.lsb) == (SCALE,) * 3
    (node,) = put_side_by_side(mute, mute).nodes
    assert node.tensor.lsb == 1.0


def test_real_units_are_counted_in_steps_of_the_codes() -> None:
    codes, real = _open({"scale": 0.25}), _open({}, values=REAL)
    for one, other in ((codes, real), (real, codes)):
        beside = put_side_by_side(one, other)
        assert beside.nodes[0].tensor.lsb == 0.25
        assert beside.matching.matches[0].parameters == "none"


def test_parameters_that_differ_are_told() -> None:
    one, other = _open({"scale": 0.25}), _open({})
    match = put_side_by_side(one, other).matching.matches[0]
    assert (match.parameters, match.expected) == ("differ", (0.25, 0))
    assert put_side_by_side(other, other).matching.matches[0].parameters == "equal"


def test_what_cannot_be_compared_hides_what_reads_it() -> None:
    one = _open(
        INPUT, {"scale": None, "operator": 0, "reads": (0,)}, {"operator": 1, "reads": (1,)}
    )
    other = capture(
        (CODES, INPUT),
        (REAL, {"operator": 0, "reads": (0,)}),
        (CODES, {"operator": 1, "reads": (1,)}),
    )[0]
    first, second = put_side_by_side(one, other).written
    assert first.reference is None
    assert first.unjudged == "one recording holds integers without a scale, the other real units"
    assert second.unjudged == "its input 't1' cannot be compared"


def test_what_is_read_and_not_recorded_is_named() -> None:
    side = _open(INPUT, {"operator": 3, "reads": (0, 9)})
    (node,) = put_side_by_side(side, side).written
    assert node.unjudged == "its input tensor 9 is not in both recordings"
    assert node.operator.inputs == (0,)


def test_tensors_of_one_recording_alone() -> None:
    one = _open(INPUT, {"operator": 0}, {"name": "only here", "operator": 1})
    other = _open(INPUT, {"operator": 0, "name": "elsewhere", "kind": "ADD"}, path="b.h5")
    beside = put_side_by_side(one, other)
    assert any(note == "2 tensors of 'run.h5' have no counterpart" for note in beside.notes)
    assert beside.matching.unmatched[1].reason == beside.written[0].unjudged
    with pytest.raises(MatchError, match="have no tensor in common"):
        put_side_by_side(_open({"name": "a"}), _open({"name": "b"}))


def test_the_same_file_is_matched_by_index() -> None:
    one = _open(INPUT, {"operator": 0, "name": "old"}, model_sha256="5", signature="")
    other = _open(INPUT, {"operator": 0, "name": "new"}, model_sha256="5", signature="")
    assert put_side_by_side(one, other).matching.matches[1].rule == "index"
