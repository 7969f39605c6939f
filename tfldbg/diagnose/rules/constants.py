"""Causes in the weights and biases of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.diagnose.rules.model import Explanation, FileRule, Sign, TraceRule, at_operator
from tfldbg.graph.query import WEIGHTED, blocks, constant, real_constant, stored

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Signal
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_LARGEST = 2**31 - 1
_EPSILON = 2.0**-22
"""The relative rounding of two float32 values that were equal."""
_FEW_CODES = 8
"""A channel whose largest weight is below this code has three bits and a sign: rounding changes
even its largest weight by up to 7 % or more."""

_NARROW = Explanation(
    code="TFL016",
    title="Weights use the code -128",
    severity="info",
    meaning="Weights are quantized symmetrically to [-127, 127] (narrow range). A file that holds "
    "-128 was quantized over the full range: its codes are off by up to one step from those of a "
    "QAT model, and kernels that rely on the narrow range may overflow in 16-bit sums of products.",
    evidence="The codes of the int8 weights.",
    suggestion="quantize weights with narrow_range=True, as fake-quant and the converter do",
    sources=("TFLite 8-bit quantization specification", "tensorflow/tensorflow#20694"),
)
_PER_TENSOR = Explanation(
    code="TFL019",
    title="One scale for weights of very different channels",
    severity="warning",
    meaning="All channels of the weights share one scale, set by the largest. Channels with small "
    "weights are left with a few codes, or none: they are dead or rounded coarsely. "
    "Depthwise convolutions after a folded batch norm suffer most.",
    evidence="The largest code of each channel, where the weights have a single scale.",
    suggestion="quantize the weights per channel",
    sources=("tensorflow/tensorflow#57745",),
)
_CLIPPED = Explanation(
    code="TFL021",
    title="Bias clipped",
    severity="error",
    meaning="A bias is stored in steps of input scale x weight scale. If that product is tiny (a "
    "channel whose weights are almost zero), the bias does not fit 32 bits and is cut off: the "
    "channel is off by a constant.",
    evidence="Codes at the end of the 32-bit range.",
    suggestion="give the channel a larger weight scale, or train without dead channels",
    sources=("tensorflow/tensorflow#33735", "tensorflow/model-optimization#794"),
)
_DOUBLED = Explanation(
    code="TFL032",
    title="The bias of a GRU is counted twice",
    severity="warning",
    meaning="A GRU adds one bias to the input's product and another to the state's. Converters "
    "have been seen to write the same bias into both, so that it counts twice.",
    evidence="Two FULLY_CONNECTED operators with different weights and, to half a step of each, "
    "the same bias, which is not constant, whose results are split and added.",
    suggestion="compare both biases with the layer in Keras: its bias has two rows, and they "
    "differ",
    sources=("tensorflow/tensorflow#54507",),
)
_WIDE = Explanation(
    code="TFL041",
    title="16-bit activations with a 32-bit bias, or none",
    severity="warning",
    meaning="With 16-bit activations and 8-bit weights the sums are 64 bits wide and the bias is "
    "int64. Operators with an int32 bias, or without one, go through other kernels, which have "
    "been seen to overflow.",
    evidence="The types of input, weights and bias.",
    suggestion="convert again with a current converter, which writes an int64 bias; compare "
    "runtimes with --against-runtime",
    sources=("tensorflow/tflite-micro#3597", "tensorflow/tflite-micro#3598"),
)


def _weighted(
    graph: Graph, subgraph: Subgraph
) -> Iterator[tuple[Operator, Tensor, NDArray[np.integer]]]:
    """Yield the operators with constant integer weights, with the weights and their codes."""
    for op in subgraph.operators:
        weighted = op.kind in WEIGHTED and len(op.inputs) > 1
        weights = stored(subgraph, op.inputs[1]) if weighted else None
        if weights is None or weights.quant is None:
            continue
        codes = constant(graph, weights)
        if codes is not None and codes.dtype.kind in "iu":
            yield op, weights, codes


def _bias(subgraph: Subgraph, op: Operator) -> Tensor | None:
    place = WEIGHTED[op.kind][2]
    index = op.inputs[place] if place < len(op.inputs) else -1
    return subgraph.tensors[index] if index >= 0 else None


def _narrow_range(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    for op, weights, codes in _weighted(graph, subgraph):
        count = 0
        if weights.type == "INT8":
            count = sum(int(np.count_nonzero(codes[some] == -128)) for some in blocks(codes))
        if count:
            message = f"the code -128 occurs in {count} of its {codes.size} weights"
            yield at_operator(subgraph, op, message, count=count, total=codes.size)


def _per_tensor(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    for op, weights, codes in _weighted(graph, subgraph):
        axis = WEIGHTED[op.kind][3]
        params = weights.quant
        if params is None or not params.per_tensor or weights.type not in ("INT8", "UINT8"):
            continue
        largest = _largest_codes(codes, axis, int(params.zero_point[0]))
        weak = np.flatnonzero(largest < _FEW_CODES)
        if not weak.size or len(largest) < 2:
            continue
        worst = int(largest.argmin())
        message = (
            f"its weights have one scale: {weak.size} of {len(largest)} channels use only codes up "
            f"to {int(largest[weak].max())}, channel {worst} up to {int(largest[worst])}"
        )
        yield at_operator(
            subgraph, op, message, channels=weak.tolist(), largest_codes=largest[weak].tolist()
        )


def _largest_codes(codes: NDArray[np.integer], axis: int, zero_point: int) -> NDArray[np.int64]:
    """Return the largest distance of a code from the zero point for each channel."""
    others = tuple(i for i in range(codes.ndim) if i != axis % codes.ndim)
    if not codes.size:
        return np.zeros(codes.shape[axis], np.int64)
    ends = (codes.max(others).astype(np.int64), codes.min(others).astype(np.int64))
    largest: NDArray[np.int64] = np.maximum(*(np.abs(end - zero_point) for end in ends))
    return largest


def _clipped_bias(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    for op in subgraph.operators:
        bias = _bias(subgraph, op) if op.kind in WEIGHTED else None
        codes = constant(graph, bias) if bias is not None and bias.type == "INT32" else None
        if codes is None:
            continue
        sizes = np.abs(codes.reshape(-1).astype(np.int64))
        clipped = np.flatnonzero(sizes >= _LARGEST)
        if clipped.size:
            message = (
                f"the bias of {clipped.size} of {sizes.size} channels is at the end of its range, "
                f"the first on channel {clipped[0]}: {int(codes.reshape(-1)[clipped[0]])}"
            )
            yield at_operator(subgraph, op, message, channels=clipped.tolist())


def _doubled_bias(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    found: list[tuple[Operator, _Bias]] = []
    for op in subgraph.operators:
        bias = _real_bias(graph, subgraph, op) if op.kind == "FULLY_CONNECTED" else None
        if bias is None:
            continue
        for first, other in found:
            again = _same_bias(bias, other) and not _same_weights(graph, subgraph, first, op)
            if again and _sums_of_gates(subgraph, first) & _sums_of_gates(subgraph, op):
                message = (
                    f"its bias is that of operator {first.index}, and both results are added: "
                    f"{bias.values.size} values counted twice"
                )
                yield at_operator(subgraph, op, message, other=first.index)
        found.append((op, bias))


@dataclass(frozen=True, slots=True, eq=False)
class _Bias:
    values: NDArray[np.float32]
    """The values (channels,) in real units."""
    rounding: NDArray[np.float64]
    """Half a step, (channels,) or (1,), in real units."""


def _real_bias(graph: Graph, subgraph: Subgraph, op: Operator) -> _Bias | None:
    """Return a bias that identifies a layer; None if there is none or it is constant."""
    bias = _bias(subgraph, op)
    values = real_constant(graph, bias) if bias is not None else None
    if bias is None or values is None or np.ptp(values) == 0:
        return None
    scale = bias.quant.scale if bias.quant is not None else np.zeros(1)
    return _Bias(values.reshape(-1), 0.5 * np.asarray(scale, np.float64))


def _same_bias(one: _Bias, other: _Bias) -> bool:
    """Return whether two biases were equal before each was rounded to its own steps."""
    if one.values.size != other.values.size:
        return False
    rounding = one.rounding + other.rounding
    told_apart = np.ptp(one.values) > 4 * rounding.max()
    off = np.abs(one.values.astype(np.float64) - other.values)
    return bool(told_apart and (off <= rounding + _EPSILON * np.abs(one.values)).all())


def _same_weights(graph: Graph, subgraph: Subgraph, one: Operator, other: Operator) -> bool:
    """Return whether two operators are one layer that is called twice."""
    mine, theirs = (constant(graph, subgraph.tensors[op.inputs[1]]) for op in (one, other))
    return mine is not None and theirs is not None and np.array_equal(mine, theirs)


_PIECES = frozenset({"SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE"})
_CARRY = _PIECES | {"RESHAPE", "QUANTIZE"}


def _sums_of_gates(subgraph: Subgraph, op: Operator) -> frozenset[int]:
    """Return the ADD operators that read parts of a result, through layout operators only.

    A GRU computes all its gates in one product and splits it.  Two whole products that are added
    are two Dense layers, whose biases are equal because they are trained alike.
    """
    found: set[int] = set()
    tensors = [(index, False) for index in op.outputs]
    while tensors:
        index, piece = tensors.pop()
        for consumer in subgraph.consumers.get(index, ()):
            if consumer.kind == "ADD" and piece:
                found.add(consumer.index)
            elif consumer.kind in _CARRY:
                tensors += [(out, piece or consumer.kind in _PIECES) for out in consumer.outputs]
    return frozenset(found)


def _wide_activations(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    for op, weights, _ in _weighted(graph, subgraph):
        given = subgraph.tensors[op.inputs[WEIGHTED[op.kind][0]]]
        bias = _bias(subgraph, op)
        if given.type != "INT16" or not given.has_codes or weights.type != "INT8":
            continue
        if bias is None or bias.type == "INT32":
            kind = "no bias" if bias is None else "an int32 bias"
            yield at_operator(subgraph, op, f"16-bit input, 8-bit weights and {kind}", bias=kind)


_VALUES: frozenset[Signal] = frozenset({"local", "weights"})

FILE_RULES = (
    FileRule(_CLIPPED, _clipped_bias, _VALUES),
    FileRule(_PER_TENSOR, _per_tensor),
    FileRule(_DOUBLED, _doubled_bias, _VALUES),
    FileRule(_WIDE, _wide_activations, _VALUES),
    FileRule(_NARROW, _narrow_range),
)
TRACE_RULES: tuple[TraceRule, ...] = ()
