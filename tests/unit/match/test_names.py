"""Which output of an operator a tensor is."""

from __future__ import annotations

import pytest

from tfldbg.match.names import NameIndex, numbered
from tfldbg.reference.graphdef import RefGraph, RefNode


@pytest.mark.parametrize(
    ("names", "ports"),
    [
        (["split", "split1", "split2"], [0, 1, 2]),
        (["split1", "split", "split2"], [1, 0, 2]),
        (["one", "two"], [0, 1]),
        (["part 1", "part 0"], [0, 1]),
        (["only"], [0]),
    ],
)
def test_the_exporter_numbers_outputs(names: list[str], ports: list[int]) -> None:
    assert numbered(names) == ports


def _node(name: str, operation: str, *inputs: str) -> RefNode:
    return RefNode(name, operation, inputs, None, (None, 4))


@pytest.mark.parametrize(
    ("tensor", "nodes"),
    [
        ("cell/split_1;cell/split_11;cell/split_12", ("cell/split_1",)),
        ("cell/split_1;cell/split_11", ("cell/split_1",)),
        ("cell/split_11", ("cell/split_11",)),
        ("cell/split_1;cell/add", ("cell/split_1", "cell/add")),
    ],
)
def test_the_outputs_of_one_node_are_no_other_nodes(tensor: str, nodes: tuple[str, ...]) -> None:
    names = ("cell/split_1", "cell/split_11", "cell/split_12")
    graph = RefGraph(
        [
            _node("x", "Placeholder"),
            *(_node(name, "Split", "x") for name in names),
            _node("cell/add", "AddV2", "x"),
        ],
        ("x",),
        (),
    )
    assert NameIndex(graph, [tensor]).nodes(tensor) == nodes
