"""Which operators of a file are computed from its own values, and a file beside itself."""

from __future__ import annotations

from tests.fakes import operator, subgraph_of, tensor
from tfldbg.graph.model import Subgraph
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import aliases, own_steps


def _file() -> Subgraph:
    """QUANTIZE, RELU, TANH, and an operator that has no float copy."""
    tensors = [tensor(0, "x", type="FLOAT32"), *(tensor(i, f"t{i}") for i in range(1, 5))]
    ops = (
        operator(0, "QUANTIZE", (0,), 1),
        operator(1, "RELU", (1,), 2),
        operator(2, "TANH", (2,), 3),
        operator(3, "RANDOM_UNIFORM", (3,), 4),
    )
    return subgraph_of(tensors, *ops)


ALL = frozenset(range(5))


def test_operators_are_computed_and_what_only_stores_otherwise_is_an_alias() -> None:
    plan = own_steps(_file(), ALL)
    assert [step.op.index for step in plan.steps] == [1, 2]
    assert [list(step.feeds) for step in plan.steps] == [[1], [2]]
    assert plan.aliases == {1: 0}
    assert set(plan.refused) == {3} and plan.reasons == {4: plan.refused[3]}


def test_stored_values_make_a_quantize_an_operator() -> None:
    plan = own_steps(_file(), ALL, stored=True)
    assert [step.op.index for step in plan.steps] == [0, 1, 2] and plan.aliases == {}


def test_an_operator_whose_input_cannot_be_read_has_a_reason_and_what_follows_does_not() -> None:
    plan = own_steps(_file(), ALL - {2})
    assert plan.reasons[3] == "its input tensor 2 cannot be read"
    assert [step.op.index for step in plan.steps] == []
    assert own_steps(_file(), ALL - {1}).aliases == {}


def test_an_alias_needs_both_values() -> None:
    assert aliases(_file(), ALL) == {1: 0}
    assert aliases(_file(), frozenset({1, 2})) == {}


def test_a_file_is_matched_with_itself_but_for_what_is_no_activation() -> None:
    tensors = [tensor(0, "x"), tensor(1, "y"), tensor(2, type="INT32"), tensor(3)]
    ops = (
        operator(0, "RELU", (0,), 1),
        operator(1, "SHAPE", (0,), 2),
        operator(2, "TANH", (1,), 3),
    )
    found = match_itself(subgraph_of(tensors, *ops))
    assert {i: m.raw for i, m in found.matches.items()} == {0: "x", 1: "y", 3: "tensor 3"}
    assert found.inputs == (0,) and found.unmatched == {}
