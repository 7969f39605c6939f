"""Matching on small made-up graphs: names, structure, fake-quants, excuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tfldbg.graph.model import Operator, QuantParams, Subgraph, Tensor
from tfldbg.match.matcher import match
from tfldbg.match.model import Matching
from tfldbg.match.names import NameIndex
from tfldbg.match.values import choose_by_values
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.graphdef import FakeQuant, RefGraph, RefNode

SHAPE = (None, 4, 4, 2)


def _node(name: str, op: str, *inputs: str, quant: tuple[float, float] | None = None) -> RefNode:
    fake_quant = FakeQuant(*quant, bits=8, narrow_range=False) if quant else None
    return RefNode(name, op, inputs, fake_quant, SHAPE)


def _frozen(*nodes: RefNode) -> Frozen:
    graph = RefGraph(nodes, ("image",), (nodes[-1].name,))
    return Frozen(None, graph, ("image",), (SHAPE,), ("float32",), ("out",), None, "test")


def _tensor(index: int, name: str, quant: tuple[float, float] | None, **other: Any) -> Tensor:
    params = None
    if quant:
        scale, zero = FakeQuant(*quant, 8, False).parameters("INT8")
        params = QuantParams(np.array([scale], np.float32), np.array([zero]))
    kept = {"buffer": 0, "is_variable": False, "has_data": False, **other}
    return Tensor(index, name, "INT8", (1, 4, 4, 2), (1, 4, 4, 2), params, **kept)


def _op(index: int, kind: str, given: tuple[int, ...], out: int) -> Operator:
    return Operator(index, kind, given, (out,), {})


def _subgraph(tensors: list[Tensor], *ops: Operator) -> Subgraph:
    return Subgraph(0, "main", tuple(tensors), tuple(ops), (0,), (ops[-1].outputs[0],))


RANGES = [(-1.0, 1.0), (0.0, 6.0), (-3.0, 2.0), (-8.0, 8.0)]


def _chain() -> tuple[Frozen, Subgraph]:
    """Input, convolution with batch norm and ReLU, max pooling."""
    frozen = _frozen(
        _node("image", "Placeholder"),
        _node("net/in/FQ", "FakeQuantWithMinMaxVars", "image", quant=RANGES[0]),
        _node("net/w", "Const"),
        _node("net/conv/Conv2D", "Conv2D", "net/in/FQ", "net/w"),
        _node("net/bn/FusedBatchNormV3", "FusedBatchNormV3", "net/conv/Conv2D", "net/w"),
        _node("net/relu/Relu", "Relu", "net/bn/FusedBatchNormV3"),
        _node("net/relu/FQ", "FakeQuantWithMinMaxVars", "net/relu/Relu", quant=RANGES[1]),
        _node("net/pool/MaxPool", "MaxPool", "net/relu/FQ"),
    )
    tensors = [
        _tensor(0, "image", RANGES[0]),
        _tensor(1, "w", None, has_data=True),
        _tensor(2, "net/relu/Relu;net/bn/FusedBatchNormV3;;net/conv/Conv2D1", RANGES[1]),
        _tensor(3, "net/pool/MaxPool", RANGES[1]),
        _tensor(4, "net/conv/Conv2D", None, has_data=True),
    ]
    return frozen, _subgraph(tensors, _op(0, "CONV_2D", (0, 1), 2), _op(1, "MAX_POOL_2D", (2,), 3))


def _matched(frozen: Frozen, subgraph: Subgraph) -> Matching:
    return match(subgraph, None, frozen, (0,))


def test_a_folded_convolution_is_matched_to_its_fake_quant() -> None:
    found = _matched(*_chain())
    assert found.unmatched == {}
    conv = found.matches[2]
    assert (conv.node, conv.raw, conv.parameters) == ("net/relu/FQ", "net/relu/Relu", "equal")
    assert conv.group == ("net/conv/Conv2D", "net/bn/FusedBatchNormV3", "net/relu/Relu")
    assert found.matches[0].node == "net/in/FQ"
    assert found.matches[3].raw == "net/pool/MaxPool"


def test_without_names_the_structure_gives_the_same_nodes() -> None:
    frozen, subgraph = _chain()
    nameless = replace(subgraph, tensors=tuple(replace(t, name="") for t in subgraph.tensors))
    named, found = _matched(frozen, subgraph), _matched(frozen, nameless)
    assert {i: m.node for i, m in found.matches.items()} == {
        i: m.node for i, m in named.matches.items()
    }
    assert found.matches[2].rule == "structure" and named.matches[2].rule == "name"


def test_names_of_merged_constants_do_not_mislead() -> None:
    """The converter joins the names of all users of an equal constant, later layers' included."""
    frozen, subgraph = _chain()
    tensors = list(subgraph.tensors)
    tensors[2] = replace(tensors[2], name="net/conv/Conv2D;net/pool/MaxPool")
    found = _matched(frozen, replace(subgraph, tensors=tuple(tensors)))
    assert found.matches[2].raw == "net/relu/Relu"
    assert found.matches[3].raw == "net/pool/MaxPool"


def test_a_wrong_scale_differs() -> None:
    frozen, subgraph = _chain()
    tensors = list(subgraph.tensors)
    tensors[2] = _tensor(2, tensors[2].name, (0.0, 6.6))
    conv = _matched(frozen, replace(subgraph, tensors=tuple(tensors))).matches[2]
    assert conv.parameters == "differ"
    assert conv.expected == FakeQuant(0.0, 6.0, 8, False).parameters("INT8")


def test_an_unmatched_tensor_says_why() -> None:
    frozen, subgraph = _chain()
    tensors = list(subgraph.tensors)
    tensors[2] = replace(tensors[2], name="elsewhere/Conv2D")
    conv, pool = subgraph.operators
    strange = (replace(conv, kind="CONV_3D"), replace(pool, kind="UNHEARD_OF"))
    found = _matched(frozen, replace(subgraph, tensors=tuple(tensors), operators=strange))
    assert "no node of the reference is called 'elsewhere/Conv2D'" in found.unmatched[2].reason
    assert found.matches[3].rule == "name"


def test_what_a_matched_operator_reads_is_what_its_node_reads() -> None:
    frozen, subgraph = _chain()
    tensors = list(subgraph.tensors)
    tensors[2] = replace(tensors[2], name="")
    strange = replace(subgraph.operators[0], kind="CONV_3D")
    broken = replace(subgraph, tensors=tuple(tensors), operators=(strange, subgraph.operators[1]))
    assert _matched(frozen, broken).matches[2].raw == "net/relu/Relu"


def _concatenation(left: tuple[float, float]) -> tuple[Frozen, Subgraph]:
    """A branch with a fake-quant of its own and the input, joined under one scale."""
    frozen = _frozen(
        _node("image", "Placeholder"),
        _node("net/in/FQ", "FakeQuantWithMinMaxVars", "image", quant=RANGES[3]),
        _node("net/left/Relu", "Relu", "net/in/FQ"),
        _node("net/left/FQ", "FakeQuantWithMinMaxVars", "net/left/Relu", quant=RANGES[1]),
        _node("net/join/concat", "ConcatV2", "net/left/FQ", "net/in/FQ"),
        _node("net/join/FQ", "FakeQuantWithMinMaxVars", "net/join/concat", quant=RANGES[3]),
    )
    tensors = [
        _tensor(0, "image", RANGES[3]),
        _tensor(1, "net/left/Relu", left),
        replace(_tensor(2, "net/join/concat", RANGES[3])),
    ]
    return frozen, _subgraph(tensors, _op(0, "RELU", (0,), 1), _op(1, "CONCATENATION", (1, 0), 2))


@pytest.mark.parametrize(
    ("given", "expected"), [(RANGES[3], "bypassed"), (RANGES[1], "equal"), ((-5.0, 5.0), "differ")]
)
def test_a_concatenation_may_impose_its_parameters_and_no_others(
    given: tuple[float, float], expected: str
) -> None:
    assert _matched(*_concatenation(given)).matches[1].parameters == expected


def test_the_chain_of_a_bypassed_tensor_includes_the_dropped_fake_quant() -> None:
    left = _matched(*_concatenation(RANGES[3])).matches[1]
    assert left.node == left.raw == "net/left/Relu"
    assert "net/left/FQ" in left.chain


def test_exporter_digits_are_stripped_only_where_the_plain_name_is_taken() -> None:
    frozen, subgraph = _chain()
    names = [t.name for t in subgraph.tensors]
    index = NameIndex(frozen.graph, names)
    assert "net/conv/Conv2D" in NameIndex(frozen.graph, [*names, "net/conv/Conv2D"]).nodes(
        "net/conv/Conv2D1"
    )
    assert index.nodes("net/relu/Relu1") == ()
    assert index.nodes("StatefulPartitionedCall/net/pool/MaxPool:0") == ("net/pool/MaxPool",)
    assert index.nodes("other/pool/MaxPool") == ("net/pool/MaxPool",)


def test_a_numbered_node_is_no_exporters_copy_of_a_shorter_number() -> None:
    """An unrolled LSTM has MatMul_1 and MatMul_10."""
    nodes = (_node("net/MatMul_1", "MatMul", "image"), _node("net/MatMul_10", "MatMul", "image"))
    frozen = _frozen(_node("image", "Placeholder"), *nodes)
    index = NameIndex(frozen.graph, ["net/MatMul_1", "net/MatMul_10"])
    assert index.nodes("net/MatMul_10") == ("net/MatMul_10",)
    assert index.nodes("net/MatMul_100") == ("net/MatMul_10",)


def test_values_decide_only_when_clearly_better() -> None:
    test = np.arange(8.0)
    assert choose_by_values(test, {"a": test + 0.1, "b": test + 3}) == "a"
    assert choose_by_values(test, {"a": test + 0.1, "b": test + 0.11}) is None
    assert choose_by_values(test, {"a": np.zeros(3)}) is None
