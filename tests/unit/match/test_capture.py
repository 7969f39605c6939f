"""Recorded tensors and those of a file: which is which, and what speaks against it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import operator, quantized, subgraph_of, tensor
from tfldbg.errors import MatchError
from tfldbg.graph.model import Subgraph
from tfldbg.match.capture import (
    Entry,
    MatchedCapture,
    check_recorded_model,
    match_capture,
    pair_entries,
)
from tfldbg.reference.recorded import Recorded
from tfldbg.run.samples import InputSpec

RANGE = (-1.0, 1.0)
PARAMS = quantized(RANGE)
SCALE, ZERO = float(PARAMS.scale[0]), int(PARAMS.zero_point[0])


def _entry(key: int, name: str = "", op: int | None = None, **about: Any) -> Entry:
    known = {"kind": "RELU", "elements": 4, **about}
    return Entry(key, (name,) if name else (), op, known["kind"], known["elements"])


def _paired(ours: list[Entry], theirs: list[Entry]) -> dict[int, tuple[int, str]]:
    return dict(pair_entries(ours, theirs).pairs)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("net/relu", "net/relu"),
        ("StatefulPartitionedCall/net/relu:0", "net/relu"),
        ("serving_default_x:0", "x"),
        ("net/relu1", "net/relu"),
        ("a/one:0;b/two", "a/one;b/two"),
    ],
)
def test_names_are_the_same_without_what_a_converter_adds(name: str, other: str) -> None:
    assert _paired([_entry(5, name)], [_entry(9, other)]) == {5: (9, "name")}


def test_an_exact_name_is_taken_before_one_without_its_number() -> None:
    ours, theirs = [_entry(1, "relu"), _entry(2, "relu1")], [_entry(7, "relu1"), _entry(8, "relu")]
    assert _paired(ours, theirs) == {1: (8, "name"), 2: (7, "name")}
    ports, others = [_entry(1, "x:0"), _entry(2, "x:1")], [_entry(7, "x:1"), _entry(8, "x:0")]
    assert _paired(ports, others) == {1: (8, "name"), 2: (7, "name")}


def test_a_name_that_two_tensors_have_tells_nothing() -> None:
    twice = [_entry(1, "same"), _entry(2, "same")]
    assert _paired(twice, [_entry(7, "same")]) == {}


def test_a_name_of_another_size_is_a_reason_and_no_pair() -> None:
    pairing = pair_entries([_entry(1, "relu")], [_entry(7, "relu", elements=5)])
    assert pairing.reasons == {1: "the recording's 'relu' has 5 values per sample, expected 4"}


def test_inputs_are_paired_by_their_size_if_only_one_has_it() -> None:
    ours = [_entry(1, "x", -1), _entry(2, "y", -1, elements=8)]
    theirs = [_entry(7, "b", -1, elements=8), _entry(8, "a", -1)]
    assert _paired(ours, theirs) == {1: (8, "input"), 2: (7, "input")}
    equal = [_entry(1, "x", -1), _entry(2, "y", -1)]
    assert _paired(equal, [_entry(7, "a", -1), _entry(8, "b", -1)]) == {}


def test_operators_between_paired_ones_are_paired_in_their_order() -> None:
    ours = [_entry(i, name, i) for i, name in enumerate(("first", "x", "y", "last"))]
    theirs = [_entry(10 + i, name, i) for i, name in enumerate(("first", "p", "q", "last"))]
    assert _paired(ours, theirs) == {
        0: (10, "name"),
        1: (11, "order"),
        2: (12, "order"),
        3: (13, "name"),
    }


@pytest.mark.parametrize("other", [{"kind": "TANH"}, {"kind": None}, {"elements": 5}])
def test_an_order_of_other_kinds_or_sizes_pairs_nothing(other: dict[str, Any]) -> None:
    ours = [_entry(0, "first", 0), _entry(1, "x", 1), _entry(2, "y", 2)]
    theirs = [_entry(10, "first", 0), _entry(11, "p", 1), _entry(12, "q", 2, **other)]
    assert _paired(ours, theirs) == {0: (10, "name")}


def test_an_operator_more_on_one_side_pairs_nothing_there() -> None:
    ours = [_entry(0, "first", 0), _entry(1, "x", 1)]
    theirs = [_entry(10, "first", 0), _entry(11, "p", 1), _entry(12, "q", 2)]
    assert _paired(ours, theirs) == {0: (10, "name")}


# A file and its recording.


def _recorded(number: int, name: str | None, **about: Any) -> Recorded:
    told: dict[str, Any] = {
        "index": number,
        "name": name,
        "type": "INT8",
        "shape": (4, 4, 2),
        "scale": SCALE,
        "zero_point": ZERO,
        "operator": None,
        "kind": None,
        "reads": None,
    }
    return Recorded(number, **{**told, **about})


def _file() -> Subgraph:
    tensors = [tensor(i, f"t{i}", RANGE) for i in range(3)]
    return subgraph_of(tensors, operator(0, "RELU", (0,), 1), operator(1, "TANH", (1,), 2))


def _matched(*tensors: Recorded, same_file: bool = False) -> MatchedCapture:
    file = _file()
    specs = [InputSpec(file.tensors[0], ("x", "t0"))]
    return match_capture(file, specs, tensors, same_file=same_file, sizes={})


def test_a_recording_of_the_same_file_is_matched_by_index_whatever_the_names() -> None:
    tensors = [_recorded(i, f"other {i}") for i in range(3)]
    found = _matched(*tensors, same_file=True)
    assert {i: r.number for i, r in found.recorded.items()} == {0: 0, 1: 1, 2: 2}
    assert {m.rule for m in found.matching.matches.values()} == {"index"}
    lacking = _matched(*tensors[:2], same_file=True)
    assert lacking.matching.unmatched[2].reason == "it is not in the recording"


def test_of_another_file_only_tensors_without_a_name_are_matched_by_index() -> None:
    found = _matched(_recorded(0, "t2", index=0), _recorded(1, None, index=1))
    assert {i: r.number for i, r in found.recorded.items()} == {2: 0, 1: 1}


def test_an_input_goes_by_the_name_of_its_argument() -> None:
    assert _matched(_recorded(0, "x", index=None)).recorded[0].number == 0


def test_integers_without_a_scale_are_no_codes_of_another_type() -> None:
    bare = {"scale": None, "zero_point": None}
    assert 1 in _matched(_recorded(0, "t1", **bare)).recorded
    found = _matched(_recorded(0, "t1", type="INT32", **bare))
    assert 1 not in found.recorded
    assert found.matching.unmatched[1].reason.startswith("recorded as int32 without a scale")
    assert 1 in _matched(_recorded(0, "t1", type="FLOAT32", **bare)).recorded


def test_one_scale_that_differs_is_told_and_many_are_another_calibration() -> None:
    one = [_recorded(i, f"t{i}", scale=SCALE * (2 if i == 2 else 1)) for i in range(3)]
    found = _matched(*one)
    assert found.matching.matches[2].parameters == "differ" and not found.notes
    many = [_recorded(i, f"t{i}", scale=SCALE * (1 if i == 2 else 2)) for i in range(3)]
    found = _matched(*many)
    assert {m.parameters for m in found.matching.matches.values()} == {"none"}
    assert found.notes[0].startswith("2 of 3 scales and zero points differ")


def test_a_recording_with_hardly_anything_in_common_is_of_another_model() -> None:
    tensors = [_recorded(i, f"other {i}", index=None) for i in range(9)]
    with pytest.raises(MatchError, match=r"0 of the 2 tensors .* among the 9 recorded") as caught:
        check_recorded_model("run.h5", tensors, _matched(*tensors), _file())
    assert caught.value.hint
    known = [*tensors, _recorded(9, "t1")]
    check_recorded_model("run.h5", known, _matched(*known), _file())
