"""Matching on small made-up graphs: names, structure, fake-quants, excuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import fake_quant, frozen_of, node, operator, subgraph_of, tensor, with_tensor
from tfldbg.graph.model import Subgraph
from tfldbg.match.kinds import LOOKALIKE
from tfldbg.match.matcher import match
from tfldbg.match.model import Matching
from tfldbg.match.names import NameIndex
from tfldbg.match.values import choose_by_values
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.graphdef import FakeQuant, Outline

RANGES = [(-1.0, 1.0), (0.0, 6.0), (-3.0, 2.0), (-8.0, 8.0)]


def _chain() -> tuple[Frozen, Subgraph]:
    """Input, convolution with batch norm and ReLU, max pooling."""
    frozen = frozen_of(
        node("image", "Placeholder"),
        fake_quant("net/in/FQ", "image", RANGES[0]),
        node("net/w", "Const"),
        node("net/conv/Conv2D", "Conv2D", "net/in/FQ", "net/w"),
        node("net/bn/FusedBatchNormV3", "FusedBatchNormV3", "net/conv/Conv2D", "net/w"),
        node("net/relu/Relu", "Relu", "net/bn/FusedBatchNormV3"),
        fake_quant("net/relu/FQ", "net/relu/Relu", RANGES[1]),
        node("net/pool/MaxPool", "MaxPool", "net/relu/FQ"),
    )
    tensors = [
        tensor(0, "image", RANGES[0]),
        tensor(1, "w", None, has_data=True),
        tensor(2, "net/relu/Relu;net/bn/FusedBatchNormV3;;net/conv/Conv2D1", RANGES[1]),
        tensor(3, "net/pool/MaxPool", RANGES[1]),
        tensor(4, "net/conv/Conv2D", None, has_data=True),
    ]
    return frozen, subgraph_of(
        tensors, operator(0, "CONV_2D", (0, 1), 2), operator(1, "MAX_POOL_2D", (2,), 3)
    )


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
    tensors[2] = tensor(2, tensors[2].name, (0.0, 6.6))
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
    frozen = frozen_of(
        node("image", "Placeholder"),
        fake_quant("net/in/FQ", "image", RANGES[3]),
        node("net/left/Relu", "Relu", "net/in/FQ"),
        fake_quant("net/left/FQ", "net/left/Relu", RANGES[1]),
        node("net/join/concat", "ConcatV2", "net/left/FQ", "net/in/FQ"),
        fake_quant("net/join/FQ", "net/join/concat", RANGES[3]),
    )
    tensors = [
        tensor(0, "image", RANGES[3]),
        tensor(1, "net/left/Relu", left),
        replace(tensor(2, "net/join/concat", RANGES[3])),
    ]
    return frozen, subgraph_of(
        tensors, operator(0, "RELU", (0,), 1), operator(1, "CONCATENATION", (1, 0), 2)
    )


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
    nodes = (node("net/MatMul_1", "MatMul", "image"), node("net/MatMul_10", "MatMul", "image"))
    frozen = frozen_of(node("image", "Placeholder"), *nodes)
    index = NameIndex(frozen.graph, ["net/MatMul_1", "net/MatMul_10"])
    assert index.nodes("net/MatMul_10") == ("net/MatMul_10",)
    assert index.nodes("net/MatMul_100") == ("net/MatMul_10",)


def test_values_decide_only_when_clearly_better() -> None:
    test = np.arange(8.0)
    assert choose_by_values(test, {"a": test + 0.1, "b": test + 3}) == "a"
    assert choose_by_values(test, {"a": test + 0.1, "b": test + 0.11}) is None
    assert choose_by_values(test, {"a": np.zeros(3)}) is None


def _branches(*names: str) -> tuple[Frozen, Subgraph]:
    """Two ReLUs that read the same value, and their sum; the tensors have the given names."""
    frozen = frozen_of(
        node("image", "Placeholder"),
        node("net/one/Relu", "Relu", "image"),
        node("net/two/Relu", "Relu", "image"),
        node("net/sum/AddV2", "AddV2", "net/one/Relu", "net/two/Relu"),
    )
    tensors = [tensor(0, "image"), *(tensor(i, name) for i, name in enumerate(names, 1))]
    ops = (
        operator(0, "RELU", (0,), 1),
        operator(1, "RELU", (0,), 2),
        operator(2, "ADD", (1, 2), 3),
    )
    return frozen, subgraph_of(tensors, *ops)


def test_siblings_are_told_apart_by_their_names() -> None:
    found = _matched(*_branches("net/two/Relu", "net/one/Relu", ""))
    assert (found.matches[1].raw, found.matches[2].raw) == ("net/two/Relu", "net/one/Relu")
    assert found.matches[3].raw == "net/sum/AddV2"


def test_siblings_without_names_are_told_apart_by_values_alone() -> None:
    frozen, subgraph = _branches("", "", "")
    asked: list[tuple[int, list[str]]] = []

    def agreement(index: int, names: Sequence[str]) -> str:
        asked.append((index, list(names)))
        return names[index - 1]

    guessed = _matched(frozen, subgraph)
    assert {1, 2} <= set(guessed.unmatched)
    assert "several nodes or none could follow" in guessed.unmatched[1].reason
    told = match(subgraph, None, frozen, (0,), agreement)
    assert [told.matches[i].raw for i in (1, 2, 3)] == [
        "net/one/Relu",
        "net/two/Relu",
        "net/sum/AddV2",
    ]
    assert told.matches[1].rule == "agreement" and told.matches[1].confidence < 0.9
    assert asked == [(1, ["net/one/Relu", "net/two/Relu"]), (2, ["net/one/Relu", "net/two/Relu"])]


def test_siblings_are_told_apart_by_their_trained_ranges() -> None:
    frozen = frozen_of(
        node("image", "Placeholder"),
        node("net/one/Relu", "Relu", "image"),
        fake_quant("net/one/FQ", "net/one/Relu", RANGES[1]),
        node("net/two/Relu", "Relu", "image"),
        fake_quant("net/two/FQ", "net/two/Relu", RANGES[3]),
    )
    tensors = [tensor(0), tensor(1, "", RANGES[3]), tensor(2, "", RANGES[1])]
    subgraph = subgraph_of(tensors, operator(0, "RELU", (0,), 1), operator(1, "RELU", (0,), 2))
    found = _matched(frozen, subgraph)
    assert (found.matches[1].node, found.matches[2].node) == ("net/two/FQ", "net/one/FQ")


def test_a_tensor_of_another_size_is_no_match_and_the_size_is_kept() -> None:
    frozen, subgraph = _chain()
    smaller = with_tensor(subgraph, 3, name="", shape=(1, 2, 2, 2), shape_signature=(1, 2, 2, 2))
    found = _matched(frozen, with_tensor(smaller, 2, name=""))
    assert 3 in found.unmatched
    assert found.shapes == {3: (1, 4, 4, 2)}


def test_a_name_that_leads_to_a_node_of_another_size_is_refused_in_words() -> None:
    frozen, subgraph = _chain()
    short = with_tensor(subgraph, 3, shape=(1, 5), shape_signature=(1, 5))
    reason = _matched(frozen, short).unmatched[3].reason
    assert reason == (
        "its name leads to 'net/pool/MaxPool', a MaxPool of 32 elements per sample; the tensor "
        "has 5 and is written by MAX_POOL_2D"
    )


def test_a_transpose_is_a_node_of_its_own() -> None:
    turned = (None, 2, 4, 4)
    frozen = frozen_of(
        node("image", "Placeholder"),
        node("net/turn", "Transpose", "image", "net/order", shape=turned),
        node("net/order", "Const", shape=(4,)),
        node("net/relu", "Relu", "net/turn", shape=turned),
    )
    shape = {"shape": (1, 2, 4, 4)}
    order = tensor(2, has_data=True, type="INT32", shape=(4,))
    tensors = [tensor(0), tensor(1, **shape), order, tensor(3, **shape)]
    ops = (operator(0, "TRANSPOSE", (0, 2), 1), operator(1, "RELU", (1,), 3))
    found = _matched(frozen, subgraph_of(tensors, *ops))
    assert (found.matches[1].raw, found.matches[3].raw) == ("net/turn", "net/relu")


def test_a_relu6_in_the_stead_of_a_relu_is_a_lookalike() -> None:
    frozen, subgraph = _branches("", "", "")
    one = subgraph_of(list(subgraph.tensors[:2]), operator(0, "RELU6", (0,), 1))
    plain = frozen_of(
        *(n for n in frozen.graph.nodes.values() if n.name in ("image", "net/one/Relu"))
    )
    found = _matched(plain, one)
    assert (found.matches[1].raw, found.matches[1].rule) == ("net/one/Relu", LOOKALIKE)
    other = subgraph_of(list(subgraph.tensors[:2]), operator(0, "TANH", (0,), 1))
    assert _matched(plain, other).matches[1].rule == "output"  # and not for what it reads


def test_a_product_without_a_bias_leaves_the_bias_to_the_add_that_is_named_after_it() -> None:
    flat = (None, 8)
    frozen = frozen_of(
        node("image", "Placeholder", shape=flat),
        node("w", "Const", shape=(8, 8)),
        node("b", "Const", shape=(8,)),
        node("net/MatMul", "MatMul", "image", "w", shape=flat),
        node("net/BiasAdd", "BiasAdd", "net/MatMul", "b", shape=flat),
    )
    shape = {"shape": (1, 8)}
    constants = [tensor(i, has_data=True, shape=(8,)) for i in (1, 2)]
    tensors = [tensor(0, **shape), *constants, tensor(3, **shape), tensor(4, **shape)]
    apart = subgraph_of(
        tensors, operator(0, "FULLY_CONNECTED", (0, 1, -1), 3), operator(1, "ADD", (3, 2), 4)
    )
    found = _matched(frozen, apart)
    assert (found.matches[3].raw, found.matches[4].raw) == ("net/MatMul", "net/BiasAdd")
    folded = subgraph_of(tensors[:4], operator(0, "FULLY_CONNECTED", (0, 1, 2), 3))
    assert _matched(frozen, folded).matches[3].group == ("net/MatMul", "net/BiasAdd")


def test_a_missing_bias_is_matched_with_the_value_after_it() -> None:
    """Its error is that of the operator, which should have added it."""
    frozen = frozen_of(
        node("image", "Placeholder"),
        node("w", "Const"),
        node("net/Conv2D", "Conv2D", "image", "w"),
        node("net/BiasAdd", "BiasAdd", "net/Conv2D", "w"),
    )
    tensors = [tensor(0), tensor(1, has_data=True), tensor(2)]
    found = _matched(frozen, subgraph_of(tensors, operator(0, "CONV_2D", (0, 1, -1), 2)))
    assert (found.matches[2].raw, found.matches[2].group[0]) == ("net/BiasAdd", "net/Conv2D")


def test_values_are_handed_on_through_quantize_and_reshape_in_both_directions() -> None:
    frozen = frozen_of(node("image", "Placeholder"), node("net/relu/Relu", "Relu", "image"))
    tensors = [tensor(0, "image", type="FLOAT32"), tensor(1), tensor(2), tensor(3, "net/relu/Relu")]
    ops = (
        operator(0, "QUANTIZE", (0,), 1),
        operator(1, "UNHEARD_OF", (1,), 2),
        operator(2, "RESHAPE", (2,), 3),
    )
    found = _matched(frozen, subgraph_of(tensors, *ops))
    assert (found.matches[1].raw, found.matches[1].rule) == ("image", "carried")
    assert (found.matches[2].raw, found.matches[2].rule) == ("net/relu/Relu", "carried")


def test_the_outputs_of_a_split_are_its_ports() -> None:
    half = (None, 4, 4, 1)
    frozen = frozen_of(
        node("image", "Placeholder"),
        node("net/split", "Split", "image", shape=half, others=(Outline(half, "float32"),)),
    )
    shape = {"shape": (1, 4, 4, 1)}
    tensors = [tensor(0), tensor(1, "net/split1", **shape), tensor(2, "net/split", **shape)]
    found = _matched(frozen, subgraph_of(tensors, operator(0, "SPLIT", (0,), 1, 2)))
    assert (found.matches[1].raw, found.matches[2].raw) == ("net/split:1", "net/split")


def test_only_the_last_of_two_operators_with_one_anchor_holds_its_value() -> None:
    """A batch norm that was not folded: both names mention it."""
    frozen = frozen_of(
        node("image", "Placeholder"), node("c", "Const"), node("net/bn/Mul", "Mul", "image", "c")
    )
    tensors = [tensor(0, "image"), tensor(1, "net/bn/Mul"), tensor(2, "net/bn/Mul1"), tensor(3)]
    tensors[3] = tensor(3, has_data=True)
    ops = (operator(0, "MUL", (0, 3), 1), operator(1, "UNHEARD_OF", (1, 3), 2))
    found = _matched(frozen, subgraph_of(tensors, *ops))
    assert found.matches[2].raw == "net/bn/Mul"
    assert "computed by this operator and operator 1 UNHEARD_OF together" in (
        found.unmatched[1].reason
    )


def test_exchanged_inputs_are_matched_as_they_are_paired() -> None:
    frozen = frozen_of(
        node("left", "Placeholder"),
        node("right", "Placeholder"),
        node("net/one", "Relu", "left"),
        node("net/two", "Tanh", "right"),
    )
    tensors = [tensor(i) for i in range(4)]
    ops = (operator(0, "TANH", (0,), 2), operator(1, "RELU", (1,), 3))
    subgraph = subgraph_of(tensors, *ops, inputs=(0, 1))
    found = match(subgraph, None, frozen, (1, 0))
    assert [found.matches[i].raw for i in range(4)] == ["right", "left", "net/two", "net/one"]
    assert set(match(subgraph, None, frozen, (0, 1)).unmatched) == {2, 3}


def test_constants_and_shapes_have_no_counterpart_and_say_so() -> None:
    frozen = frozen_of(node("image", "Placeholder"), node("net/Relu", "Relu", "image"))
    tensors = [tensor(0), tensor(1, type="INT32"), tensor(2), tensor(3, has_data=True), tensor(4)]
    ops = (
        operator(0, "SHAPE", (0,), 1),
        operator(1, "DEQUANTIZE", (3,), 4),
        operator(2, "RELU", (0,), 2),
    )
    found = _matched(frozen, subgraph_of(tensors, *ops))
    assert "shape or a counter" in found.unmatched[1].reason
    assert "unpacks a constant" in found.unmatched[4].reason
    assert set(found.matches) == {0, 2}
