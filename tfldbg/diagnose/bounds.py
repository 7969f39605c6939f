"""How far an operator may be off by itself, beyond the rounding of its output.

`Thresholds.local_lsb` covers the output's own rounding: half a step, and a quarter more for kernels
that round twice (gemmlowp's doubling high multiplication, then a rounding shift).  What is added
here follows from an operator's own scales and from how a kernel is known to compute; nothing is
fitted.
"""

from __future__ import annotations

import math

from tfldbg import quant
from tfldbg.graph.model import Operator, Subgraph, Tensor

_Q8 = 256.0
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})


def allowance_lsb(subgraph: Subgraph, op: Operator, runtime: str) -> tuple[float, ...]:
    """Return the extra LSB that arithmetic explains: one for all channels, or one a channel.

    Args:
        subgraph: Whose operator it is.
        op: The operator.
        runtime: Whose kernels computed it.
    """
    if not op.outputs or not op.inputs or op.inputs[0] < 0:
        return (0.0,)
    first = next(
        (i for i in op.inputs if i >= 0 and not subgraph.tensors[i].has_data), op.inputs[0]
    )
    given, out = subgraph.tensors[first], subgraph.tensors[op.outputs[0]]
    if given.lsb is None or out.lsb is None:
        return (0.0,)
    ratio = given.lsb / out.lsb
    if runtime == "xnnpack" and op.kind == "QUANTIZE":
        return (_q8_multiplier(given, ratio),)
    if runtime == "xnnpack" and op.kind == "LEAKY_RELU":
        slope = float(op.options.get("alpha", 0.0))
        return (max(_q8_multiplier(given, ratio), _q8_multiplier(given, ratio * slope)),)
    if runtime != "xnnpack" and op.kind == "MEAN":
        return (_rounded_zero_point(given, ratio),)
    if op.kind in ("ADD", "SUB", "MUL"):
        return (_constant_operand(subgraph, op, given, out),)
    return _bias_rounding(subgraph, op, ratio)


def _q8_multiplier(given: Tensor, ratio: float) -> float:
    """Error of a multiplier that is rounded to eight fractional bits.

    XNNPACK, microparams-init.c: int8 conversion and leaky ReLU multiply by ``lrintf(256 * ratio)``.
    """
    zero_point = given.zero_point or 0
    low, high = quant.code_range(given.type)
    reach = max(high - zero_point, zero_point - low)
    return abs(round(_Q8 * ratio) / _Q8 - ratio) * reach


def _rounded_zero_point(given: Tensor, ratio: float) -> float:
    """Error of the input's zero point, rounded to whole output steps before it is subtracted.

    TFLite, reduce kernels: ``bias = output_zero_point - round(input_zero_point * ratio)``.
    """
    product = (given.zero_point or 0) * ratio
    return abs(product - round(product))


def _constant_operand(subgraph: Subgraph, op: Operator, given: Tensor, out: Tensor) -> float:
    """Half a step of a quantized constant operand; for MUL, times the largest value it meets."""
    if given.lsb is None or given.zero_point is None or out.lsb is None:
        return 0.0
    operands = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    steps = [t.lsb for t in operands if t.has_data and t.lsb is not None]
    largest = 1.0
    if op.kind == "MUL":
        largest = max(map(abs, quant.real_range(given.type, given.lsb, given.zero_point)))
    return sum(0.5 * step * largest / out.lsb for step in steps)


def _bias_rounding(subgraph: Subgraph, op: Operator, ratio: float) -> tuple[float, ...]:
    """Half a step of the int32 bias, whose scale is input scale x weight scale."""
    if len(op.inputs) < 3 or op.inputs[1] < 0 or op.inputs[2] < 0:
        return (0.0,)
    weights, bias = subgraph.tensors[op.inputs[1]], subgraph.tensors[op.inputs[2]]
    if bias.type != "INT32" or weights.quant is None or not weights.quant.scale.size:
        return (0.0,)
    return tuple(float(0.5 * ratio * scale) for scale in weights.quant.scale)


def unknown_weights_lsb(subgraph: Subgraph, op: Operator) -> float:
    """Return what rounding of weights may add where they cannot be compared with the reference's.

    Each of the K weights of an output is off by up to half a step, evenly spread: their sum has the
    standard deviation ``step * sqrt(K / 12) * x``.  Six of them, for the largest step and the
    largest input, are not exceeded by chance.
    """
    if op.kind not in _WEIGHTED or len(op.inputs) < 2 or op.inputs[1] < 0:
        return 0.0
    given, weights = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.inputs[1]]
    out = subgraph.tensors[op.outputs[0]]
    quantized = weights.has_data and weights.quant is not None and weights.quant.scale.size > 0
    if not quantized or weights.quant is None or given.lsb is None or out.lsb is None:
        return 0.0
    channel_axis = 3 if op.kind == "DEPTHWISE_CONV_2D" else 0
    count = weights.elements // max(weights.shape[channel_axis], 1)
    largest = max(map(abs, quant.real_range(given.type, given.lsb, given.zero_point or 0)))
    step = float(weights.quant.scale.max())
    return 6.0 * math.sqrt(count / 12.0) * step * largest / out.lsb
