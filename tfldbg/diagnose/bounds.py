"""Bounds of an operator's local error, beyond the rounding of its output.

`Thresholds.local_lsb` covers the output's own rounding: half a step, and a quarter more for kernels
that round twice (gemmlowp's doubling high multiplication, then a rounding shift).  The additions
here follow from the scales of an operator and from the arithmetic of a kernel; nothing is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.diagnose.resizing import resize_error
from tfldbg.diagnose.tables import table_error
from tfldbg.graph.query import (
    SAME_SCALE_KINDS,
    WEIGHTED,
    activation_inputs,
    blocks,
    called_subgraphs,
    constant,
    real_constant,
    stored,
)
from tfldbg.options.runtimes import WITH_XNNPACK

if TYPE_CHECKING:
    from tfldbg.compare.usage import Usage
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.run.job import Loaded

_Q8 = 256.0
_INT8_STEPS = 127.0
_HALF_EPSILON = 2.0**-10
"""The largest spacing of float16 values relative to the value."""
_INT16_MULTIPLIER = 1.0
"""Kernels with 64-bit sums keep 15 bits of the multiplier (TFLite, int64 version of
``MultiplyByQuantizedMultiplier``): 2**-15 relative, which is one LSB at the end of the range."""
_EXPONENTIAL = 2.0
"""The error in LSB of each exponential of an int16 SOFTMAX (TFLite, ``SoftmaxInt16``): its table of
513 entries over -10 to 0 is linear between them, h**2 / 16 = 0.8 with the compensated midpoint, and
table, interpolation and input are rounded.  An output is one exponential over the sum of all."""
_ROUNDED_DOWN = 0.25
"""LiteRT's int8 SQRT takes the code below the exact result, for each of the 256 codes: the error is
up to a whole step."""
_BYTES = frozenset({"INT8", "UINT8"})
_WIDE = frozenset({"INT32", "UINT32", "INT64"})
"""Types whose codes have more bits than the 24 of a float32."""
_ROUNDED = 2.0**-24
"""The largest relative error of rounding to float32."""
_PACKED = _BYTES | {"INT2", "INT4"}
_TABLES = frozenset({"EXP", "GELU", "LOGISTIC", "LOG", "RSQRT", "SOFTMAX", "TANH", "HARD_SWISH"})
"""Functions that int16 kernels interpolate in tables of 513 entries."""
_RECURRENT = frozenset({"LSTM", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM"})


BoundRule = Literal["lsb", "table", "recurrent", "float", "noise", "relative"]


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound of the error of an operator's output, given the same inputs as the reference."""

    rule: BoundRule
    """The limit that applies: ``lsb`` (`Thresholds.local_lsb`), ``table`` (int16 functions computed
    from tables, `Thresholds.int16_lsb`), ``recurrent`` (operators that loop over their own rounded
    state, `Thresholds.recurrent_lsb`), ``float`` (`Thresholds.float_relative`), ``noise`` (six
    times ``noise``) or ``relative`` (`Thresholds.hybrid_relative`)."""
    extra_lsb: tuple[float, ...] = (0.0,)
    """LSB to add, one value or one per channel."""
    implied_scale: float | None = None
    """The scale of the input that the operator's bias was quantized for, if it has a bias."""
    implied_lsb: tuple[float, ...] = ()
    """The error of that bias because the input has another scale, one value per channel."""
    step: float | None = None
    """The step in real units, if a float output holds the values of a quantized tensor."""
    noise: tuple[float, ...] = ()
    """The standard deviation that rounded inputs or weights explain, real units, one per
    channel."""


def bound(
    loaded: Loaded,
    op: Operator,
    runtimes: Sequence[str],
    ranges: Mapping[int, float],
    rounded: bool,
    unknown_weights: bool,
    usage: Mapping[int, Usage] = MappingProxyType({}),
) -> Bound:
    """Return the error of one operator that arithmetic explains.

    Args:
        loaded: The file.
        op: The operator.
        runtimes: The runtimes that computed it, for both sides if kernels computed the reference.
        ranges: The largest magnitude that occurred in each tensor, real units.
        rounded: True if the reference's constants are those before rounding.
        unknown_weights: True if its weights may be rounded and were not compared.
        usage: The codes that occurred in each tensor.
    """
    subgraph = loaded.subgraph
    if not op.outputs or op.outputs[0] < 0:
        return Bound("float")
    out = subgraph.tensors[op.outputs[0]]
    if out.lsb is None:
        return _float_bound(loaded, op, ranges, rounded)
    extra = sum(_kernel_lsb(subgraph, op, runtime) for runtime in runtimes)
    extra += _float32_lsb(subgraph, op, ranges) + _table_lsb(subgraph, op, usage)
    if op.kind == "REDUCE_PROD":
        extra += _product_lsb(subgraph, op, ranges)
    if out.type == "INT16" and op.kind == "RESIZE_BILINEAR":
        extra += resize_error(subgraph, op, ranges.get(op.inputs[0], 0.0))
    extras: tuple[float, ...] = (extra,)
    if rounded:
        unknown = _unknown_weights_lsb(subgraph, op) if unknown_weights else 0.0
        extras = tuple(extra + lsb + unknown for lsb in _constants_lsb(subgraph, op))
    if op.kind in _RECURRENT:
        return Bound("recurrent", extras)
    rule: BoundRule = "table" if out.type == "INT16" and op.kind in _TABLES else "lsb"
    return Bound(rule, extras, *_implied(loaded, op))


def joint_bound(
    subgraph: Subgraph, op: Operator, others: Mapping[int, Bound], own: Bound, *, rounding: bool
) -> Bound:
    """Add to an operator's bound those of the operators that are only checked together with it.

    Their errors are added unchanged, in steps of this operator's output: data movement and sums do
    not enlarge them.  The effect of rounded inputs on another output's channels is only known
    relative to the signal.

    Args:
        subgraph: The subgraph of the operators.
        op: The last of the operators.
        others: The bounds of the operators before it, by operator.
        own: Its own bound.
        rounding: True if the error includes the rounding of the operators before it.
    """
    out = subgraph.tensors[op.outputs[0]]
    read = next((i for i in others if op.inputs[0] in subgraph.operators[i].outputs), None)
    if op.kind == "DEQUANTIZE" and read is not None:
        rest = {i: o for i, o in others.items() if i != read}
        last = subgraph.operators[read]
        made = joint_bound(subgraph, last, rest, others[read], rounding=rounding)
        return replace(made, step=subgraph.tensors[op.inputs[0]].lsb)
    added = 0.0
    recurrent = own.rule == "recurrent"
    rounded = any(
        o.rule in ("noise", "relative") or subgraph.tensors[subgraph.operators[i].outputs[0]].lsb
        for i, o in others.items()
    )
    if own.rule == "float" and rounded:
        return Bound("relative")
    for index, limit in others.items():
        between = subgraph.tensors[subgraph.operators[index].outputs[0]]
        if subgraph.operators[index].kind in SAME_SCALE_KINDS or out.lsb is None:
            continue
        recurrent = recurrent or limit.rule == "recurrent"
        if between.lsb is not None:
            added += (float(rounding) + max(limit.extra_lsb)) * between.lsb / out.lsb
    rule: BoundRule = "recurrent" if recurrent else own.rule
    return replace(own, rule=rule, extra_lsb=tuple(e + added for e in own.extra_lsb))


def _implied(loaded: Loaded, op: Operator) -> tuple[float | None, tuple[float, ...]]:
    """Return the input scale that a bias implies, and the error of the bias under the actual scale.

    Kernels add the codes of a bias in steps of input scale x weight scale and ignore the scale that
    the bias itself states (TFLite 8-bit quantization specification).
    """
    subgraph = loaded.subgraph
    slots = WEIGHTED.get(op.kind, ())[:3]
    if not slots or len(op.inputs) <= max(slots) or min(op.inputs[i] for i in slots) < 0:
        return None, ()
    given, weights, bias = (subgraph.tensors[op.inputs[i]] for i in slots)
    out = subgraph.tensors[op.outputs[0]]
    codes = constant(loaded.graph, bias)
    if given.lsb is None or out.lsb is None or bias.quant is None or codes is None:
        return None, ()
    if weights.quant is None or not weights.quant.scale.size or not bias.quant.scale.size:
        return None, ()
    stated, step = (q.scale.astype(np.float64) for q in (bias.quant, weights.quant))
    if not {stated.size, step.size} <= {1, codes.size}:
        return None, ()
    off = np.abs(codes.reshape(-1) * (stated - given.lsb * step)) / out.lsb
    live = (step > 0) & (stated > 0)  # a channel of zeros may have the scale 0
    if not live.any():
        return None, ()
    implied = (stated / np.where(step > 0, step, 1.0))[live]
    return float(np.median(implied)), tuple(float(v) for v in off)


def _float_bound(loaded: Loaded, op: Operator, ranges: Mapping[int, float], rounded: bool) -> Bound:
    """Return the bound of an operator with float output, perhaps from constants of fewer bits."""
    subgraph = loaded.subgraph
    given = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    constants = {t.index: stored(subgraph, t.index) for t in given}
    out = op.outputs[0]
    if subgraph.tensors[out].type == "FLOAT16":
        return Bound("noise", noise=(ranges.get(out, 0.0) * _HALF_EPSILON / math.sqrt(12.0),))
    # The operator reads a dense copy of sparse codes, and as float what DEQUANTIZE unpacks.
    own = [t for t in given if (c := constants[t.index]) is not None and c.type == t.type]
    packed = any(_is_packed(t) for t in (*own, *_inside(loaded, op)))
    unpacked = [c for t in given if (c := constants[t.index]) is not None and c.type != t.type]
    halves = rounded and bool(unpacked)
    if not packed and not halves:
        return Bound("float")
    norms = _weight_norms(loaded, op)
    if not norms.size or op.inputs[0] not in ranges:
        return Bound("relative")
    largest = ranges[op.inputs[0]]
    step = largest / _INT8_STEPS if packed else largest * _HALF_EPSILON
    steps = np.hypot(step * norms, _bias_spacing(loaded, op, norms.size))
    return Bound("noise", noise=tuple(float(s) for s in steps / math.sqrt(12.0)))


def _is_packed(tensor: Tensor) -> bool:
    return tensor.quant is not None and tensor.type in _PACKED


def _inside(loaded: Loaded, op: Operator) -> tuple[Tensor, ...]:
    """Return the constants of the subgraphs that an operator runs."""
    subgraphs = loaded.graph.subgraphs
    run = (subgraphs[n] for n in called_subgraphs(op) if 0 <= n < len(subgraphs))
    return tuple(tensor for subgraph in run for tensor in subgraph.tensors if tensor.has_data)


def _weight_norms(loaded: Loaded, op: Operator) -> NDArray[np.float64]:
    """Return the Euclidean norm of the weights of each output channel, empty if unknown.

    The error of an input that is rounded to steps is up to half a step, evenly distributed: the sum
    over an output's weights w then has the standard deviation ``step / sqrt(12) * norm(w)``.  The
    same holds for weights that are rounded relative to their size.
    """
    nothing = np.empty(0)
    if op.kind not in WEIGHTED:
        return nothing
    weights = stored(loaded.subgraph, op.inputs[1])
    real = None if weights is None else real_constant(loaded.graph, weights)
    if real is None:
        return nothing
    channel_axis = WEIGHTED[op.kind][3]
    others = tuple(i for i in range(real.ndim) if i != channel_axis)
    # Converting blocks of channels avoids a float64 copy of a large constant.
    rows = np.moveaxis(real, channel_axis, 0) if others else real
    squares = [np.square(rows[some].astype(np.float64)) for some in blocks(rows)]
    norms: NDArray[np.float64] = np.sqrt(
        np.concatenate([s.reshape(len(s), -1).sum(1) for s in squares])
    )
    return norms


def _bias_spacing(loaded: Loaded, op: Operator, channels: int) -> NDArray[np.float64]:
    """Return the largest spacing of float16 values at the bias of each output channel."""
    place = WEIGHTED[op.kind][2]
    held = stored(loaded.subgraph, op.inputs[place]) if len(op.inputs) > place else None
    real = (
        real_constant(loaded.graph, held) if held is not None and held.type == "FLOAT16" else None
    )
    if real is None or real.size != channels:
        return np.zeros(channels)
    return np.abs(real.reshape(-1).astype(np.float64)) * _HALF_EPSILON


def _first_activation(subgraph: Subgraph, op: Operator) -> Tensor | None:
    """Return the first input that holds values of the network, not a constant or a shape."""
    given, others = [i for i in op.inputs if i >= 0], subgraph.non_activations
    live = (i for i in given if stored(subgraph, i) is None and i not in others)
    first = next(live, None)
    return subgraph.tensors[first if first is not None else given[0]] if given else None


def _kernel_lsb(subgraph: Subgraph, op: Operator, runtime: str) -> float:
    """Return the error that a kernel is known to add to the rounding of its output."""
    given, out = _first_activation(subgraph, op), subgraph.tensors[op.outputs[0]]
    if given is None or given.lsb is None or out.lsb is None:
        return 0.0
    ratio = given.lsb / out.lsb
    if out.type == "INT16" and op.kind in WEIGHTED.keys() | {"BATCH_MATMUL", "MUL"}:
        return _INT16_MULTIPLIER
    if out.type == "INT16" and op.kind == "SOFTMAX":
        return _EXPONENTIAL * max(out.shape[-1:], default=1)
    bytewise = given.type in _BYTES and out.type in _BYTES
    if runtime in WITH_XNNPACK and op.kind == "QUANTIZE" and bytewise:
        return _q8_multiplier(given, ratio)
    if runtime in WITH_XNNPACK and op.kind == "LEAKY_RELU":
        slope = float(op.options.get("alpha", 0.0))
        return max(_q8_multiplier(given, ratio), _q8_multiplier(given, ratio * slope))
    if runtime in ("builtin", "reference") and op.kind == "MEAN":
        return _rounded_zero_point(given, ratio)
    return _ROUNDED_DOWN if op.kind == "SQRT" and bytewise else 0.0


def _table_lsb(subgraph: Subgraph, op: Operator, usage: Mapping[int, Usage]) -> float:
    """Return the error of an int16 kernel's table for the codes that occurred."""
    given, out = _first_activation(subgraph, op), subgraph.tensors[op.outputs[0]]
    if given is None or given.type != "INT16":
        return 0.0
    seen = usage.get(given.index)
    codes = quant.code_range("INT16") if seen is None else (seen.lowest, seen.highest)
    return table_error(op.kind, given, out, codes)


def _product_lsb(subgraph: Subgraph, op: Operator, ranges: Mapping[int, float]) -> float:
    """Return the error of rounding after each factor of a product.

    TFLite, reduce kernels (``GetQuantProdScaling``): each of the N factors is multiplied by
    input scale / output scale**(1/N), and every partial product is rounded to a whole number.  The
    factors after it enlarge that half, each by up to its own size in units of the N-th root.
    """
    given, out = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.outputs[0]]
    if out.lsb is None or not out.elements:
        return 0.0
    factors = max(given.elements // out.elements, 1)
    largest = ranges.get(given.index, 0.0) / out.lsb ** (1.0 / factors)
    low, high = quant.code_range(out.type)
    with np.errstate(over="ignore"):
        grown = 0.5 * np.power(np.float64(largest), np.arange(1, factors))
    return min(float(grown.sum()), float(high - low))


def _float32_lsb(subgraph: Subgraph, op: Operator, ranges: Mapping[int, float]) -> float:
    """Return the error of float32 itself for codes wider than its 24 bits.

    A real value is its code, rounded to float32, times the scale, rounded again: 2**-24 of the
    value each.  That happens to every input and to the output, and the reference's own result is
    rounded once.  The error of an input of a sum is relative to the input, however small the sum;
    for other operators it is relative to the result.
    """
    out = subgraph.tensors[op.outputs[0]]
    given = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    if out.lsb is None or not any(t.has_codes and t.type in _WIDE for t in (out, *given)):
        return 0.0
    sizes = [ranges.get(out.index, 0.0)]
    if op.kind in ("ADD", "SUB"):
        sizes += [ranges.get(t.index, 0.0) for t in given]
    roundings = 2 * (len(given) + 1) + 1
    return roundings * _ROUNDED * max(sizes) / out.lsb


def _constants_lsb(subgraph: Subgraph, op: Operator) -> tuple[float, ...]:
    """Return the error of rounded constants, if the reference has them before rounding."""
    given, out = _first_activation(subgraph, op), subgraph.tensors[op.outputs[0]]
    if given is None or given.lsb is None or out.lsb is None:
        return (0.0,)
    if op.kind in ("ADD", "SUB", "MUL"):
        return (_constant_operand(subgraph, op, given, out),)
    if op.kind == "BATCH_MATMUL":
        return (_constant_factor_lsb(subgraph, op, given, out),)
    return _bias_rounding(subgraph, op, given.lsb / out.lsb)


def _q8_multiplier(given: Tensor, ratio: float) -> float:
    """Return the error of a multiplier that is rounded to eight fractional bits.

    XNNPACK, microparams-init.c: int8 conversion and leaky ReLU multiply by ``lrintf(256 * ratio)``.
    """
    zero_point = given.zero_point or 0
    low, high = quant.code_range(given.type)
    reach = max(high - zero_point, zero_point - low)
    return abs(round(_Q8 * ratio) / _Q8 - ratio) * reach


def _rounded_zero_point(given: Tensor, ratio: float) -> float:
    """Return the error of an input's zero point that is rounded to whole steps of the output.

    TFLite, reduce kernels: ``bias = output_zero_point - round(input_zero_point * ratio)``.
    """
    product = (given.zero_point or 0) * ratio
    return abs(product - round(product))


def _constant_operand(subgraph: Subgraph, op: Operator, given: Tensor, out: Tensor) -> float:
    """Return half a step of a constant operand; for MUL, times the largest value of the other."""
    if given.affine is None or out.lsb is None:
        return 0.0
    operands = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    steps = [t.lsb for t in operands if t.lsb is not None and _is_constant(subgraph, t)]
    largest = 1.0
    if op.kind == "MUL":
        largest = max(map(abs, given.affine.real_range(given.type)))
    return sum(0.5 * step * largest / out.lsb for step in steps)


def _is_constant(subgraph: Subgraph, tensor: Tensor) -> bool:
    """Return whether a tensor is a constant, or computed from constants alone, as by FILL."""
    if tensor.has_data:
        return True
    producer = subgraph.producers.get(tensor.index)
    return producer is not None and not activation_inputs(subgraph, producer)


def _bias_rounding(subgraph: Subgraph, op: Operator, ratio: float) -> tuple[float, ...]:
    """Return half a step of the int32 bias, whose scale is input scale x weight scale."""
    if len(op.inputs) < 3 or op.inputs[1] < 0 or op.inputs[2] < 0:
        return (0.0,)
    weights, bias = subgraph.tensors[op.inputs[1]], subgraph.tensors[op.inputs[2]]
    if bias.type != "INT32" or weights.quant is None or not weights.quant.scale.size:
        return (0.0,)
    return tuple(float(0.5 * ratio * scale) for scale in weights.quant.scale)


def _constant_factor_lsb(subgraph: Subgraph, op: Operator, given: Tensor, out: Tensor) -> float:
    """Return the error of a rounded matrix that is not compared with the reference's."""
    number = next((n for n, i in enumerate(op.inputs) if subgraph.tensors[i].has_data), None)
    if number is None or len(subgraph.tensors[op.inputs[number]].shape) < 2:
        return 0.0
    matrix = subgraph.tensors[op.inputs[number]]
    transposed = bool(op.options.get("adjY" if number else "adjX"))
    summed = matrix.shape[-2 if bool(number) != transposed else -1]
    return _summed_lsb(summed, matrix, given, out)


def _summed_lsb(count: int, weights: Tensor, given: Tensor, out: Tensor) -> float:
    """Return the largest error of a sum of products with rounded weights, in steps of the output.

    The error of each of the K weights of an output is up to half a step, evenly distributed: the
    error of the sum has the standard deviation ``step * sqrt(K / 12) * x``.  Six of them, for the
    largest step and the largest input, are not exceeded by chance.
    """
    if weights.quant is None or not weights.quant.scale.size:
        return 0.0
    if given.affine is None or out.lsb is None:
        return 0.0
    largest = max(map(abs, given.affine.real_range(given.type)))
    step = float(weights.quant.scale.max())
    return 6.0 * math.sqrt(count / 12.0) * step * largest / out.lsb


def _unknown_weights_lsb(subgraph: Subgraph, op: Operator) -> float:
    """Return the largest error of rounded weights that cannot be compared."""
    if op.kind not in WEIGHTED or len(op.inputs) < 2 or op.inputs[1] < 0:
        return 0.0
    given, weights = subgraph.tensors[op.inputs[0]], stored(subgraph, op.inputs[1])
    if weights is None:
        return 0.0
    count = weights.elements // max(weights.shape[WEIGHTED[op.kind][3]], 1)
    return _summed_lsb(count, weights, given, subgraph.tensors[op.outputs[0]])
