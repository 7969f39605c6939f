"""From one node of a tensor to all: what is folded, which copies there are, which range fits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import fake_quant, node, operator, ref_graph, subgraph_of, tensor
from tfldbg.graph.model import Operator
from tfldbg.match.model import Match
from tfldbg.match.settle import Settler, same_parameters
from tfldbg.reference.graphdef import RefGraph, RefNode

NARROW, WIDE = (-1.0, 1.0), (-8.0, 8.0)


def _graph(*after: RefNode) -> RefGraph:
    """A convolution and what follows it."""
    start = (node("image", "Placeholder"), node("w", "Const"))
    return ref_graph(*start, node("conv", "Conv2D", "image", "w"), *after)


def _settled(
    graph: RefGraph, op: Operator | None = None, quant: Any = None, *more: Operator, **names: Any
) -> Match:
    """Settle tensor 2, which is written by a convolution with a bias."""
    op = op or operator(0, "CONV_2D", (0, 1, 1), 2, fusedActivationFunction="NONE")
    tensors = [tensor(0), tensor(1, has_data=True), tensor(2, "", quant)]
    tensors += [tensor(i) for i in (3, 4)]
    settler = Settler(graph, subgraph_of(tensors, op, *more), names.get("mentioned", {}))
    return settler.settle(tensors[2], op, "conv", "name")


def test_bias_batch_norm_and_activation_are_folded_and_the_next_product_is_not() -> None:
    graph = _graph(
        node("bias", "BiasAdd", "conv", "w"),
        node("norm", "FusedBatchNormV3", "bias", "w"),
        node("relu", "Relu6", "norm"),
        node("next", "Conv2D", "relu", "w"),
    )
    assert _settled(graph).group == ("conv", "bias", "norm", "relu")


def test_nothing_is_folded_past_a_branch() -> None:
    graph = _graph(
        node("bias", "BiasAdd", "conv", "w"),
        node("one", "Relu", "bias"),
        node("two", "Tanh", "bias"),
    )
    assert _settled(graph).group == ("conv", "bias")


def test_a_sum_of_two_activations_is_no_bias() -> None:
    assert _settled(_graph(node("sum", "AddV2", "conv", "image"))).group == ("conv",)


@pytest.mark.parametrize(
    ("fused", "named", "group"),
    [
        ("NONE", (), ("conv",)),
        ("NONE", ("clip",), ("conv", "clip")),
        ("RELU6", (), ("conv", "clip")),
    ],
)
def test_a_minimum_is_folded_where_the_operator_clips_or_is_named_after_it(
    fused: str, named: tuple[str, ...], group: tuple[str, ...]
) -> None:
    op = operator(0, "CONV_2D", (0, 1, 1), 2, fusedActivationFunction=fused)
    graph = _graph(node("clip", "Minimum", "conv", "w"))
    assert _settled(graph, op, mentioned={2: named}).group == group


def test_a_bias_belongs_to_the_add_after_a_convolution_that_has_none() -> None:
    graph = _graph(node("bias", "BiasAdd", "conv", "w"))
    add = operator(1, "ADD", (2, 1), 3)
    without = operator(0, "CONV_2D", (0, 1, -1), 2)
    assert _settled(graph, without, None, add).group == ("conv",)
    assert _settled(graph, None, None, add).group == ("conv", "bias")
    named = {"mentioned": {3: ("bias",)}}
    assert _settled(graph, None, None, add, **named).group == ("conv",)


def test_the_batch_to_space_of_a_dilated_convolution_is_folded() -> None:
    graph = _graph(node("space", "BatchToSpaceND", "conv", "w"))
    assert _settled(graph).group == ("conv",)
    dilated = operator(0, "CONV_2D", (0, 1, 1), 2, dilationHFactor=2)
    assert _settled(graph, dilated).group == ("conv", "space")


def test_of_several_fake_quants_the_one_with_the_tensors_range_is_its_node() -> None:
    graph = _graph(
        fake_quant("one", "conv", NARROW), node("copy", "Identity", "conv"),
        fake_quant("two", "copy", WIDE),
    )  # fmt: skip
    found = _settled(graph, None, WIDE)
    assert (found.node, found.raw, found.parameters) == ("two", "copy", "equal")
    assert set(found.chain) == {"conv", "one", "copy", "two"}
    found = _settled(graph, None, (-3.0, 3.0))
    assert (found.node, found.raw, found.parameters) == ("conv", "conv", "differ")
    narrow = tensor(0, "", NARROW)
    assert found.expected == pytest.approx((narrow.lsb, narrow.zero_point))
    assert _settled(graph).parameters == "none"


def test_an_input_takes_nothing_after_it() -> None:
    graph = ref_graph(node("image", "Placeholder"), node("relu", "Relu", "image"))
    given = tensor(0)
    settled = Settler(graph, subgraph_of([given]), {}).settle(given, None, "image", "input")
    assert settled.group == ("image",)


@pytest.mark.parametrize(
    ("factor", "shift", "same"),
    [(1.0, 0, True), (1 + 1e-7, 0, True), (1.001, 0, False), (1.0, 1, False)],
)
def test_parameters_are_equal_up_to_rounding_of_the_scale(
    factor: float, shift: int, same: bool
) -> None:
    one = tensor(0, "", NARROW)
    assert one.lsb is not None and one.zero_point is not None
    assert same_parameters(one, (one.lsb * factor, one.zero_point + shift)) is same
    assert not same_parameters(tensor(0), (one.lsb, one.zero_point))
