"""Causes in the operators of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import (
    Explanation,
    FileRule,
    Sign,
    TraceRule,
    at_operator,
    listed,
)
from tfldbg.diagnose.words import plural
from tfldbg.graph.query import WEIGHTED, activation_inputs

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_UNFOLDED = Explanation(
    code="TFL023",
    title="Batch norm not folded",
    severity="warning",
    meaning="A batch norm after a convolution is usually folded into its weights and bias. Left as "
    "MUL and ADD it costs two operators, and quantizes twice what should be quantized once. In QAT "
    "the fake-quant is then at another place than in the file.",
    evidence="An operator with weights whose output goes only into a MUL by one constant per "
    "channel and from there into an ADD of one constant per channel.",
    suggestion="put the batch norm directly after the convolution, before the activation, and "
    "convert the inference graph (training=False)",
    sources=("tensorflow/tensorflow#43882", "tensorflow/model-optimization#1131"),
)
_ISLAND = Explanation(
    code="TFL024",
    title="Float island",
    severity="warning",
    meaning="Operators in the middle of a quantized file compute in float: their inputs are "
    "dequantized and their outputs quantized again. It costs time and memory, and an accelerator "
    "or microcontroller without float kernels cannot run it at all.",
    evidence="Float operators between a DEQUANTIZE and a QUANTIZE.",
    suggestion="annotate these layers for quantization, or use operators that have integer kernels",
    sources=("tensorflow/model-optimization#523", "tensorflow/tensorflow#42082"),
)
_FAKE_QUANT = Explanation(
    code="TFL025",
    title="FAKE_QUANT operator left in the file",
    severity="warning",
    meaning="The converter should turn a fake-quant node into the parameters of a tensor. One that "
    "is left as an operator rounds at run time, and what it rounds is rounded again by the "
    "operators around it.",
    evidence="An operator of kind FAKE_QUANT.",
    suggestion="convert with optimizations = [tf.lite.Optimize.DEFAULT], and check that every "
    "input and output of the layer is fake-quantized",
    sources=("Stack Overflow 62433410",),
)
_HYBRID = Explanation(
    code="TFL047",
    title="Hybrid operators: integer weights, float activations",
    severity="info",
    meaning="The weights are integers, the activations float (dynamic-range quantization). Kernels "
    "quantize each activation as it arrives, with a scale of that moment, or dequantize the "
    "weights first: the result depends on the kernel, and on all values of the sample.",
    evidence="Operators with int8 or int4 weights whose input and output are float.",
    suggestion="convert with a representative data set if the target computes in integers",
    sources=("TFLite dynamic-range quantization",),
)

_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_PACKED = frozenset({"INT2", "INT4", "INT8", "UINT8"})


def _unfolded_batch_norm(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    del graph
    for op in subgraph.operators:
        weighted = op.kind in WEIGHTED and op.outputs
        channels = subgraph.tensors[op.outputs[0]].shape[-1:] if weighted else ()
        if not channels:
            continue
        factor = _only_consumer(subgraph, op, "MUL")
        offset = factor and _only_consumer(subgraph, factor, "ADD")
        if factor is None or offset is None:
            continue
        if all(_per_channel(subgraph, o, channels) for o in (factor, offset)):
            fused = op.options.get("fusedActivationFunction", "NONE")
            why = "" if fused == "NONE" else f"; its activation {fused} is between them"
            message = (
                f"operators {factor.index} MUL and {offset.index} ADD after it are a batch norm "
                f"of {channels[0]} channels that was not folded{why}"
            )
            yield at_operator(subgraph, op, message, ops=[factor.index, offset.index])


def _only_consumer(subgraph: Subgraph, op: Operator, kind: str) -> Operator | None:
    found = subgraph.consumers.get(op.outputs[0], ()) if op.outputs else ()
    return found[0] if len(found) == 1 and found[0].kind == kind else None


def _per_channel(subgraph: Subgraph, op: Operator, channels: tuple[int, ...]) -> bool:
    """Return whether one operand is a constant with one value per channel."""
    constants = [t for i in op.inputs if (t := subgraph.tensors[i]).has_data]
    unpacked = [subgraph.tensors[i] for i in op.inputs if i in subgraph.folded_constants]
    return any(t.elements == channels[0] > 1 for t in (*constants, *unpacked))


@dataclass(frozen=True, slots=True)
class _Island:
    operators: tuple[int, ...]
    entries: tuple[int, ...]
    """The DEQUANTIZE operators before it."""
    exits: tuple[int, ...]
    """The QUANTIZE operators after it."""


def _float_islands(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    del graph
    for island in _islands(subgraph):
        first = subgraph.operators[island.operators[0]]
        count = len(island.operators)
        kinds = sorted({subgraph.operators[i].kind for i in island.operators})
        word = "computes" if count == 1 else "compute"
        message = (
            f"{plural(count, 'operator')} {word} in float ({listed(island.operators)}: "
            f"{', '.join(kinds)}), after DEQUANTIZE {listed(island.entries)} and before "
            f"QUANTIZE {listed(island.exits)}"
        )
        cost = sum(_elements(subgraph, i) for i in (*island.entries, *island.exits))
        yield at_operator(
            subgraph, first, message, ops=list(island.operators), converted_values=cost
        )


def _elements(subgraph: Subgraph, op: int) -> int:
    outputs = subgraph.operators[op].outputs
    return subgraph.tensors[outputs[0]].elements if outputs else 0


def _islands(subgraph: Subgraph) -> Iterator[_Island]:
    """Yield the connected runs of float operators between quantized ones."""
    producers, consumers = subgraph.producers, subgraph.consumers
    floats = {op.index for op in subgraph.operators if _computes_in_float(subgraph, op)}
    left = sorted(floats, reverse=True)
    seen: set[int] = set()
    while left:
        run, entries, exits = set[int](), set[int](), set[int]()
        stack = [left.pop()]
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            run.add(number)
            op = subgraph.operators[number]
            before = [producers.get(t.index) for t in activation_inputs(subgraph, op)]
            behind = [o for out in op.outputs for o in consumers.get(out, ())]
            stack += [o.index for o in (*before, *behind) if o and o.index in floats]
            entries |= {o.index for o in before if o and o.kind == "DEQUANTIZE"}
            exits |= {o.index for o in behind if o.kind == "QUANTIZE"}
        if entries and exits:
            yield _Island(tuple(sorted(run)), tuple(sorted(entries)), tuple(sorted(exits)))


def _computes_in_float(subgraph: Subgraph, op: Operator) -> bool:
    if op.kind in _CONVERSIONS or any(i in subgraph.folded_constants for i in op.outputs):
        return False
    written = [subgraph.tensors[i].type for i in op.outputs if i >= 0]
    return bool(written) and all(name == "FLOAT32" for name in written)


def _residual_fake_quant(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    del graph
    for op in subgraph.operators:
        if op.kind == "FAKE_QUANT":
            low, high = (float(op.options.get(end) or 0.0) for end in ("min", "max"))
            message = f"it rounds to the range {low:.4g} to {high:.4g} at run time"
            yield at_operator(subgraph, op, message, min=low, max=high)


def _hybrid_operators(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    del graph
    found = [op for op in subgraph.operators if _is_hybrid(subgraph, op)]
    if found:
        kinds = sorted({op.kind for op in found})
        message = (
            f"integer weights and float activations in {plural(len(found), 'operator')} "
            f"({', '.join(kinds)}): {listed([op.index for op in found])}"
        )
        yield Sign(None, None, message, {"ops": [op.index for op in found]})


def _is_hybrid(subgraph: Subgraph, op: Operator) -> bool:
    if op.kind in _CONVERSIONS or not op.outputs or op.outputs[0] < 0:
        return False

    def packed(tensor: Tensor) -> bool:
        return tensor.has_data and tensor.quant is not None and tensor.type in _PACKED

    given = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    floats = [t for t in given if t.type == "FLOAT32" and not t.has_data]
    out = subgraph.tensors[op.outputs[0]]
    return out.type == "FLOAT32" and bool(floats) and any(packed(t) for t in given)


FILE_RULES = (
    FileRule(_FAKE_QUANT, _residual_fake_quant, frozenset({"local"})),
    FileRule(_UNFOLDED, _unfolded_batch_norm),
    FileRule(_ISLAND, _float_islands),
    FileRule(_HYBRID, _hybrid_operators),
)
TRACE_RULES: tuple[TraceRule, ...] = ()
