"""Other matches that values propose, and matches that they refute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import node, operator, ref_graph, subgraph_of, tensor
from tfldbg.graph.model import Subgraph, Tensor
from tfldbg.match.kinds import CARRIED
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.proposals import Proposals, cannot_compute, changed, holds
from tfldbg.reference.graphdef import RefGraph

Values = NDArray[np.float64]
SHAPE = (4, 3, 5)


def _values(seed: int) -> Values:
    return np.random.default_rng(seed).normal(size=SHAPE)


ONE, TWO, THREE = _values(1), _values(2), _values(3)


def _graph() -> RefGraph:
    return ref_graph(
        node("image", "Placeholder"),
        node("w", "Const"),
        node("one", "Conv2D", "image", "w"),
        node("two", "Conv2D", "one", "w"),
        node("relu", "Relu", "two"),
        node("flat", "Reshape", "relu", "w"),
    )


def _file(*kinds: str) -> Subgraph:
    """A chain of operators; tensor n + 1 is written by operator n."""
    tensors = [tensor(i) for i in range(len(kinds) + 1)]
    return subgraph_of(tensors, *(operator(i, k, (i,), i + 1) for i, k in enumerate(kinds)))


def _match(index: int, raw: str, rule: str = "structure") -> Match:
    return Match(index, raw, raw, (raw,), (raw,), rule, 0.9, "none")


def _proposals(
    known: Mapping[int, str], outputs: Mapping[int, str] | None = None, *kinds: str
) -> tuple[Proposals, list[Tensor]]:
    file = _file(*(kinds or ("CONV_2D", "CONV_2D")))
    matching = Matching({i: _match(i, raw) for i, raw in known.items()}, {}, (0,))
    return Proposals(file, outputs or {}, _graph(), matching), list(file.tensors)


def test_a_match_whose_values_agree_is_kept() -> None:
    proposals, tensors = _proposals({1: "one"})
    assert proposals.of(tensors[1], ONE, {"one": ONE, "two": TWO}) is None


def test_the_node_whose_values_a_tensor_holds_is_proposed() -> None:
    proposals, tensors = _proposals({1: "one"})
    found = proposals.of(tensors[1], TWO, {"one": ONE, "two": TWO})
    assert isinstance(found, Match)
    assert (found.raw, found.rule) == ("two", "values")


def test_a_tensor_without_a_match_takes_what_its_values_tell_or_stays_without() -> None:
    proposals, tensors = _proposals({})
    found = proposals.of(tensors[1], TWO, {"one": ONE, "two": TWO})
    assert isinstance(found, Match) and found.raw == "two"
    assert proposals.of(tensors[1], THREE, {"one": ONE, "two": TWO}) is None


def test_one_wrong_channel_refutes_no_match() -> None:
    proposals, tensors = _proposals({1: "one"})
    wrong = ONE.copy()
    wrong[..., 0] += 50
    assert proposals.of(tensors[1], wrong, {"one": ONE, "two": TWO}) is None


def test_other_values_throughout_end_a_match_unless_other_weights_explain_them() -> None:
    proposals, tensors = _proposals({1: "one"})
    given = {"one": ONE, "two": TWO}
    found = proposals.of(tensors[1], THREE, given)
    assert isinstance(found, Unmatched) and not found.certain
    assert found.reason.startswith("its structure leads to 'one', but it holds other values")
    assert proposals.of(tensors[1], THREE, given, other_weights=True) is None


@pytest.mark.parametrize(("known", "certain"), [("one", True), ("two", False)])
def test_values_in_another_order_end_a_match_for_certain_if_they_are_another_nodes(
    known: str, certain: bool
) -> None:
    proposals, tensors = _proposals({1: known})
    turned = TWO.transpose(0, 2, 1).reshape(SHAPE)
    found = proposals.of(tensors[1], turned, {"one": ONE, "two": TWO})
    assert isinstance(found, Unmatched) and found.certain is certain
    assert found.reason.startswith("it holds the values of 'two' in another order")


def test_an_output_is_the_references_output_whatever_it_holds() -> None:
    proposals, tensors = _proposals({1: "one"}, {1: "relu"})
    found = proposals.of(tensors[1], ONE, {"one": ONE, "relu": TWO})
    assert isinstance(found, Match) and found.raw == "relu"
    proposals, tensors = _proposals({1: "relu"}, {1: "relu"})
    assert proposals.of(tensors[1], ONE, {"one": ONE, "relu": TWO}) is None


def test_a_reshape_of_the_match_is_another_match_only_if_nearly_all_values_agree() -> None:
    proposals, tensors = _proposals({1: "relu"})
    given = {"flat": TWO, "relu": TWO + THREE}
    exact = proposals.of(tensors[1], TWO, given)
    assert isinstance(exact, Match) and exact.raw == "flat"
    assert isinstance(proposals.of(tensors[1], TWO + 0.2 * np.sign(THREE), given), Unmatched)


def test_a_match_that_the_operator_cannot_compute_is_refuted() -> None:
    proposals, tensors = _proposals({1: "one"}, None, "RESIZE_BILINEAR")
    found = proposals.refuted(tensors[1])
    assert found is not None and found.certain
    possible, tensors = _proposals({1: "one"}, None, "CONV_2D")
    assert possible.refuted(tensors[1]) is None


def test_what_an_operator_lacks_between_its_value_and_its_match() -> None:
    proposals, tensors = _proposals({2: "relu"})
    lacking = proposals.lacking(tensors[2], "two", _match(2, "relu"))
    assert lacking == {"Relu"}
    # After a product the match belongs to another operator.
    assert proposals.lacking(tensors[2], "one", _match(2, "relu")) == frozenset()


def test_a_tensor_after_a_doubtful_one_follows_to_the_node_that_reads_the_other_match() -> None:
    proposals, tensors = _proposals({1: "image", 2: "one"})
    found = proposals.following(tensors[2], [_match(1, "one")])
    assert found is not None and found.raw == "two"
    assert proposals.following(tensors[2], [_match(1, "relu")]) is None


def test_a_match_is_widened_by_nodes_of_the_same_values() -> None:
    graph = ref_graph(
        node("image", "Placeholder"), node("left", "Relu", "image"), node("right", "Relu", "image")
    )
    file = _file("RELU")
    proposals = Proposals(file, {}, graph, Matching({1: _match(1, "left")}, {}, (0,)))
    found = proposals.widened(file.tensors[1], {"left": ONE, "right": ONE})
    assert found is not None and set(found.chain) == {"left", "right"}
    assert proposals.widened(file.tensors[1], {"left": ONE, "right": TWO}) is None


def test_changes_apply_to_what_was_carried_over_and_to_nothing_else() -> None:
    file = _file("CONV_2D", "RESHAPE", "CONV_2D")
    known = {1: _match(1, "one"), 2: _match(2, "one", CARRIED), 3: _match(3, "two")}
    matching = Matching(known, {}, (0,), {1: (1, 2)})
    other = changed(matching, {1: _match(1, "relu")}, file, _graph())
    assert {i: m.raw for i, m in other.matches.items()} == {1: "relu", 2: "relu", 3: "two"}
    assert other.shapes == {}
    own = Matching({**known, 2: _match(2, "two")}, {}, (0,))
    assert changed(own, {1: _match(1, "relu")}, file, _graph()).matches[2].raw == "two"
    gone = changed(matching, {1: Unmatched(1, "why")}, file, _graph())
    assert set(gone.matches) == {3} and gone.unmatched[2].reason == "why"


@pytest.mark.parametrize(
    ("kind", "options", "name", "cannot"),
    [
        ("CONV_2D", {}, "one", False),
        ("CONV_2D", {}, "relu", False),  # folded into it
        ("TANH", {}, "one", True),
        ("TANH", {}, "relu", True),
        ("MAX_POOL_2D", {"fusedActivationFunction": "NONE"}, "relu", False),
        ("RESHAPE", {}, "one", False),  # it hands values on
        ("UNHEARD_OF", {}, "one", False),
    ],
)
def test_what_an_operator_cannot_compute(
    kind: str, options: dict[str, Any], name: str, cannot: bool
) -> None:
    op = operator(0, kind, (0,), 1, **options)
    file = subgraph_of([tensor(0), tensor(1)], op)
    assert cannot_compute(file, op, name, _graph()) is cannot


def test_a_match_holds_its_node_and_its_copies() -> None:
    match = Match(1, "fq", "raw", ("raw",), ("raw", "fq", "copy"), "name", 1.0, "equal")
    assert all(holds(match, name) for name in ("fq", "raw", "copy"))
    assert not holds(match, "else") and not holds(None, "fq")
