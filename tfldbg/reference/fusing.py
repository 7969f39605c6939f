"""Fold the batch norm after a depthwise convolution into its weights, so that TensorFlow fuses it.

TensorFlow fuses batch norm with ordinary convolutions, but only a bias with depthwise ones.  There
a batch norm costs two passes over the tensor, and prevents fusing the activation after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.reference.graphdef import node_of
from tfldbg.reference.protos import TYPES, fill, values_of

_BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_COPIES = frozenset({"Identity", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"})
"""The operations between weights and convolution; their output has the shape of the first input."""


def fold_batch_norms(definition: Any, fetched: Collection[str]) -> None:
    """Fold every batch norm that only a depthwise convolution feeds, in place.

    The output of the batch norm stays the same up to float32 rounding.

    Args:
        definition: A `protos.GraphDef` without variables.
        fetched: The tensors that will be read, ``name:port``.
    """
    nodes = {node.name: node for node in definition.node}
    consumers: dict[str, list[str]] = defaultdict(list)
    for node in definition.node:
        for tensor in node.input:
            consumers[node_of(tensor.removeprefix("^"))].append(tensor)
    read = {node_of(tensor) for tensor in fetched}
    for node in list(definition.node):
        if node.op not in _BATCH_NORMS or node.attr["is_training"].b:
            continue
        conv = nodes[node_of(node.input[0])]
        others = [t for t in (*consumers[node.name], *fetched) if node_of(t) == node.name]
        alone = len(consumers[conv.name]) == 1 and conv.name not in read
        if conv.op == "DepthwiseConv2dNative" and alone and not any(map(_second, others)):
            _fold(definition, nodes, node, conv)


def _second(tensor: str) -> bool:
    """Return whether a tensor is not the first output of its node."""
    return ":" in tensor and not tensor.endswith(":0")


def _fold(definition: Any, nodes: Mapping[str, Any], norm: Any, conv: Any) -> None:
    """Fold one batch norm if its operands are constant and float32."""
    float32 = TYPES["float32"]
    kernel = _constant(nodes, conv.input[1], _COPIES)
    given = [_constant(nodes, tensor, {"Identity"}) for tensor in norm.input[1:5]]
    formats = {norm.attr["data_format"].s, conv.attr["data_format"].s}
    if kernel is None or kernel.ndim != 4 or norm.attr["T"].type != float32 or formats != {b"NHWC"}:
        return
    scale, offset, mean, variance = (np.empty(0) if v is None else v.astype(float) for v in given)
    if not scale.size == offset.size == mean.size == variance.size == kernel[0, 0].size:
        return
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + norm.attr["epsilon"].f)
    bias = offset - mean * factor
    if not np.isfinite([factor, bias]).all():
        return  # compute it unchanged, to keep its infinities and NaN
    names = [f"{norm.name}/tfldbg_{part}" for part in ("factor", "bias", "kernel")]
    _add_constant(definition, names[0], factor.reshape(kernel.shape[2:]))
    _add_constant(definition, names[1], bias)
    product = definition.node.add(name=names[2], op="Mul", input=[conv.input[1], names[0]])
    product.attr["T"].type = float32
    conv.input[1] = names[2]
    inputs = [norm.input[0], names[1], *norm.input[5:]]  # and the control inputs
    norm.op = "BiasAdd"
    norm.ClearField("input")
    norm.ClearField("attr")
    norm.input.extend(inputs)
    norm.attr["T"].type = float32
    norm.attr["data_format"].s = b"NHWC"


def _constant(
    nodes: Mapping[str, Any], tensor: str, through: Collection[str]
) -> NDArray[Any] | None:
    """Return the constant that a tensor is a copy of, or None if it is computed otherwise."""
    node = nodes[node_of(tensor)]
    while node.op in through:
        node = nodes[node_of(node.input[0])]
    if node.op != "Const":
        return None
    return values_of(node.attr["value"].tensor)


def _add_constant(definition: Any, name: str, value: NDArray[Any]) -> None:
    node = definition.node.add(name=name, op="Const")
    node.attr["dtype"].type = TYPES["float32"]
    fill(node.attr["value"].tensor, value.astype(np.float32))
