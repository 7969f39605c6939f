"""What in the reference reads given values, and what a node reads."""

from __future__ import annotations

import pytest

from tests.fakes import fake_quant, node, ref_graph, tensor
from tfldbg.match.structure import following, lookalikes, read_by, sequence_read, with_folded

ADD = frozenset({"AddV2"})


def test_a_node_must_read_every_value_and_no_other() -> None:
    graph = ref_graph(
        node("a", "Placeholder"),
        node("b", "Placeholder"),
        node("both", "AddV2", "a", "b"),
        node("twice", "AddV2", "a", "a"),
        node("one", "Relu", "a"),
    )
    a, b = frozenset({"a"}), frozenset({"b"})
    assert following(graph, [a, b], ADD, 2) == ["both"]
    assert following(graph, [a], ADD, 2) == ["twice"]
    assert following(graph, [a], ADD, 1) == []
    assert following(graph, [a], frozenset({"Relu", "AddV2"}), 1) == ["one"]


def test_paddings_reshapes_and_fake_quants_are_looked_through() -> None:
    graph = ref_graph(
        node("a", "Placeholder"),
        fake_quant("a/FQ", "a", (-1.0, 1.0)),
        node("pad", "Pad", "a/FQ", "sizes"),
        node("sizes", "Const"),
        node("conv", "Conv2D", "pad", "sizes"),
        node("relu", "Relu", "conv"),
    )
    assert following(graph, [frozenset({"a"})], frozenset({"Conv2D"}), 1) == ["conv"]
    assert following(graph, [frozenset({"a"})], frozenset({"Relu"}), 1) == []


def test_the_input_of_an_operators_main_operation_is_found_upstream_of_what_is_folded() -> None:
    graph = ref_graph(
        node("a", "Placeholder"),
        node("w", "Const"),
        node("conv", "Conv2D", "a", "w"),
        node("bias", "BiasAdd", "conv", "w"),
        node("sum", "AddV2", "bias", "a"),
    )
    assert read_by(graph, "CONV_2D", "bias") == "a"
    assert read_by(graph, "MAX_POOL_2D", "bias") is None
    assert read_by(graph, "ADD", "sum") is None


@pytest.mark.parametrize(("last", "found"), [(7, "steps"), (6, None)])
def test_rows_of_a_number_that_is_known_when_it_runs(last: int, found: str | None) -> None:
    graph = ref_graph(
        node("steps", "Placeholder", shape=(None, None, 7)),
        node("flat", "Reshape", "steps", shape=(None, None)),
    )
    assert sequence_read(graph, "flat", tensor(0, shape=(1, 5, last))) == found


def test_what_is_folded_ends_at_a_branch_and_at_the_next_product() -> None:
    chain = [
        node("a", "Placeholder"),
        node("w", "Const"),
        node("conv", "Conv2D", "a", "w"),
        node("bias", "BiasAdd", "conv", "w"),
        node("relu", "Relu", "bias"),
        node("next", "Conv2D", "relu", "w"),
    ]
    assert with_folded(ref_graph(*chain), ["conv"]) == {"conv", "bias", "relu"}
    branched = ref_graph(*chain, node("beside", "Tanh", "bias"))
    assert with_folded(branched, ["conv"]) == {"conv", "bias"}


def test_kinds_that_are_confused_are_each_others_lookalikes() -> None:
    assert lookalikes("MAX_POOL_2D") == {"MaxPool", "Max", "AvgPool", "Mean"}
    assert lookalikes("SUB") >= {"AddV2", "BiasAdd"}
    assert lookalikes("CONV_2D") == frozenset()
