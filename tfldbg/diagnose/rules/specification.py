"""Causes that are breaches of the quantization specification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.rules.model import (
    Explanation,
    FileRule,
    Judged,
    Sign,
    TraceRule,
    at_first,
    at_operator,
    subject_of,
)
from tfldbg.graph.lint import lint
from tfldbg.graph.query import SAME_SCALE_KINDS
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Signal
    from tfldbg.graph.breach import Breach
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_SPECIFICATION = "TFLite 8-bit quantization specification"
_WASTED = 0.25
"""The share of codes below zero from which the range of a never negative value is wrong.

A calibration that saw the values puts zero at the lowest code; a quarter of the codes is worth
0.4 bits."""

_START = 12.0 / 255.0
"""The scale of -6 to 6, where the observers of QAT start (tfmot, default_8bit_quantizers)."""
_SAME = 1e-5

_BROKEN = Explanation(
    code="TFL010",
    title="Quantization parameters that the specification forbids",
    severity="error",
    meaning="A scale, zero point or constant is one that no converter writes and that kernels do "
    "not expect: a zero point out of range, a scale that is not a positive number, an asymmetric "
    "weight or bias, another range than the kernel's fixed one, NaN in a constant.",
    evidence="The file's parameters against the rules in docs/rules.md.",
    suggestion="convert the model again; do not edit parameters one by one",
    sources=(_SPECIFICATION,),
)
_AXIS = Explanation(
    code="TFL020",
    title="Scales along the wrong axis, or a wrong number of them",
    severity="error",
    meaning="Per-channel scales must follow the output channels: axis 0 of the weights, 3 for "
    "DEPTHWISE_CONV_2D. Along another axis every channel is read with the wrong scale: the error "
    "has the pattern of the channels.",
    evidence="quantized_dimension, and the number of scales against the shape.",
    suggestion="convert the model again with a current converter",
    sources=(_SPECIFICATION, "tensorflow/tensorflow#47858", "tensorflow/tensorflow#66081"),
)
_BIAS_SCALE = Explanation(
    code="TFL022",
    title="The bias scale is not input scale x weight scale",
    severity="error",
    meaning="Kernels add the codes of a bias in steps of input scale x weight scale and ignore the "
    "scale of the bias itself. If that is another, one of the three was changed after the bias was "
    "quantized, and the kernel adds other values than the bias states: each channel is off by a "
    "constant. The finding names the operator with the wrong bias or weights, or the one whose "
    "output scale the biases after it contradict.",
    evidence="The three scales, to 1e-6 relative. If several operators contradict each other, the "
    "majority is believed.",
    suggestion="convert the model again; do not edit a scale without the biases that follow it",
    sources=(_SPECIFICATION, "tensorflow/tensorflow#36705"),
)
_SAME_SCALE = Explanation(
    code="TFL027",
    title="A copying operator between tensors of different scales",
    severity="error",
    meaning="Reshaping, slicing, pooling and concatenation copy codes and never rescale them, so "
    "input and output must have one scale and zero point. If they do not, the values change by "
    "the ratio of the scales. The finding names the operator that wrote the tensor whose "
    "parameters the others contradict.",
    evidence="The parameters of the operator's inputs and outputs.",
    suggestion="convert the model again; if the parameters differ on purpose, put a QUANTIZE "
    "between",
    sources=(_SPECIFICATION, "tensorflow/model-optimization#1053"),
)
_SIGN = Explanation(
    code="TFL029",
    title="A range that is impossible for the operator",
    severity="warning",
    meaning="The output of RELU, ABS, SOFTMAX and their like is never negative, but its range "
    "reaches below zero: those codes are never used. If it does not reach above zero, the output "
    "is constant.",
    evidence="The zero point of the output: more than a quarter of the codes are below it, and no "
    "operator after it imposes the range.",
    suggestion="calibrate again; with QAT, train the range longer: it starts at -6 to 6",
    sources=("tensorflow/tensorflow#52854",),
)

_MISREAD = Explanation(
    code="TFL058",
    title="A kernel that copies codes and ignores scales",
    severity="error",
    meaning="ONE_HOT, MATRIX_DIAG, MATRIX_SET_DIAG, SPARSE_TO_DENSE and SCATTER_ND copy codes, or "
    "write code 0 for zero, and ignore scales; so do REVERSE_V2 and an LSTM, which keeps its "
    "output as the state that its next step reads. The converter quantizes their inputs and "
    "outputs like any other tensor, each with its own range, so that the same code means another "
    "value after them: zeros of a one-hot vector become 0.5. The file is broken as converted; "
    "float, dynamic and float16 files of the same model are right.",
    evidence="The parameters of the copied input against those of the output, and the zero point "
    "of an output that is filled with code 0.",
    suggestion="use operators that respect scales: look up rows of the identity matrix instead of "
    "ONE_HOT (tf.gather(tf.eye(n), x), an Embedding), multiply by the identity matrix instead of "
    "MATRIX_DIAG (x[..., None] * tf.eye(n)), unroll the LSTM (unroll=True); or leave the "
    "operator in float "
    "(denylisted_ops of TensorFlow's QuantizationDebugOptions)",
    sources=("LiteRT, one_hot.cc, matrix_diag.cc, scatter_nd.cc, lstm_eval.cc",),
)
_SHARED = Explanation(
    code="TFL064",
    title="One bias for inputs of different scales",
    severity="error",
    meaning="Operators that share weights, as the steps of an unrolled recurrent layer do, share "
    "a bias too. It is stored in steps of input scale x weight scale, and is right only for the "
    "operator whose input it was quantized for: all others add it in steps of their own input, so "
    "it counts too much or too little, by the ratio of the scales. The converter of 16x8 files "
    "(int64 biases) writes such files.",
    evidence="A bias that most of the operators that read it contradict, and that suits the "
    "others, to 1e-6 relative.",
    suggestion="convert to int8, where every operator gets its own bias, or make the shared layer "
    "without a bias (use_bias=False)",
    sources=("tfldbg, docs/rules.md",),
)

AS_CONVERTED = frozenset(about.code for about in (_MISREAD, _SHARED))
"""Findings about files that are wrong as converted: converting again does not help."""
REMEDIES: Mapping[str, str] = {
    "weights_zero_point": "make the weight quantizer of the QuantizeConfig symmetric "
    "(symmetric=True, narrow_range=True) and train again; converting again keeps the zero point"
}
"""The suggestions for breaches of some rules, which replace those of the explanations."""
_BY_RULE: Mapping[str, Explanation] = {
    "axis": _AXIS,
    "bias_scale": _BIAS_SCALE,
    "copied_codes": _MISREAD,
    "same_scale": _SAME_SCALE,
    "shared_bias": _SHARED,
    "no_positive_code": _SIGN,
}
_NOT_NEGATIVE = frozenset({"ABS", "EXP", "RELU", "RELU6", "SOFTMAX", "SQRT", "SQUARE", "LOGISTIC"})
_FUSED = frozenset({"RELU", "RELU6"})


def _shown(breach: Breach) -> dict[str, object]:
    return {
        "rule": breach.rule,
        "tensor_index": breach.tensor,
        "channel": breach.channel,
        "expected": list(breach.expected) if breach.expected else None,
    }


def breaches(graph: Graph, subgraph: Subgraph) -> Iterator[tuple[Explanation, Sign]]:
    """Yield the breaches of the specification in a file.

    They are not rules of the file alone, since in a trace the reference may refute them
    (`TRACE_RULES`).
    """
    for breach in lint(graph, subgraph):
        op = subgraph.operators[breach.op]
        about = _BY_RULE.get(breach.rule, _BROKEN)
        sign = at_operator(subgraph, op, breach.message, **_shown(breach))
        yield about, replace(sign, suggestion=REMEDIES.get(breach.rule))


def _in_trace(about: Explanation, judged: Judged) -> Iterator[Sign]:
    """Yield the breaches that the verdict rests on, not those that the reference refutes."""
    for op in judged.diverged("parameters"):
        for breach in op.breaches:
            if _BY_RULE.get(breach.rule, _BROKEN) is about:
                remedy = REMEDIES.get(breach.rule)
                subject = subject_of(op)
                yield Sign(op.op, op.name, breach.message, _shown(breach), remedy, subject)


def _wasted_ranges(graph: Graph, subgraph: Subgraph) -> Iterator[Sign]:
    del graph
    yield from at_first(list(_wasted(subgraph)))


def _wasted(subgraph: Subgraph) -> Iterator[Sign]:
    for op in subgraph.operators:
        fused = op.options.get("fusedActivationFunction")
        out = subgraph.tensors[op.outputs[0]] if op.outputs and op.outputs[0] >= 0 else None
        never_negative = op.kind in _NOT_NEGATIVE or fused in _FUSED
        if out is None or not never_negative or out.type not in ("INT8", "UINT8"):
            continue
        if out.zero_point is None or op.kind in SAME_SCALE_KINDS:
            continue
        if _imposed(subgraph, out, subgraph.consumers.get(out.index, ())):
            continue
        low, high = code_range(out.type)
        share = (out.zero_point - low) / (high - low)
        if _WASTED < share < 1:
            message = (
                f"{share:.0%} of the codes of its output are below zero, but after "
                f"{op.kind if op.kind in _NOT_NEGATIVE else fused} no value is"
            )
            yield at_operator(subgraph, op, message, zero_point=out.zero_point, share=share)


def _imposed(subgraph: Subgraph, tensor: Tensor, consumers: Sequence[Operator]) -> bool:
    """Return whether a consumer imposes the range: it copies codes, or another tensor shares it.

    The range that all tensors of a QAT model start from is not imposed.
    """
    if tensor.lsb is None or abs(tensor.lsb - _START) <= _SAME * _START:
        return False
    if any(consumer.kind in SAME_SCALE_KINDS for consumer in consumers):
        return True
    around = {i for consumer in consumers for i in (*consumer.inputs, *consumer.outputs) if i >= 0}
    others = [subgraph.tensors[i] for i in around - {tensor.index}]
    return any(o.affine == tensor.affine for o in others)


_PARAMETERS: frozenset[Signal] = frozenset({"parameters"})
_ALL = (_BIAS_SCALE, _SHARED, _SAME_SCALE, _MISREAD, _AXIS, _BROKEN, _SIGN)


def _trace_rule(about: Explanation) -> TraceRule:
    return TraceRule(about, lambda judged: _in_trace(about, judged), _PARAMETERS)


FILE_RULES = (FileRule(_SIGN, _wasted_ranges),)
TRACE_RULES = tuple(_trace_rule(about) for about in _ALL)
