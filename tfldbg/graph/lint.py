"""Check a file's quantization against the TFLite 8-bit and 16x8 specification without running it.

The rules come from three sources: the specification (LiteRT, ``quantization_spec.md``), the
converter's operator properties (``operator_property.cc``) and the ``Prepare`` functions of the
kernels, which refuse a file or assume that it keeps the rule.  ``docs/rules.md`` lists the rules
with their source.  Where tensors contradict each other, `tfldbg.graph.votes` decides which is
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.breach import (
    ACTIVATIONS,
    Breach,
    in_words,
    input_of,
    output_of,
    owner_of,
    parameters_of,
    quantized,
    role_of,
)
from tfldbg.graph.copied_codes import misread_codes
from tfldbg.graph.query import CHOOSING, WEIGHTED, constant
from tfldbg.graph.votes import disagreements
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

__all__ = ["Breach", "lint"]

_NORMAL = float(np.finfo(np.float32).tiny)

FIXED_OUTPUTS: dict[tuple[str, str], tuple[float, int]] = {
    ("SOFTMAX", "INT8"): (1 / 256, -128),
    ("SOFTMAX", "UINT8"): (1 / 256, 0),
    ("SOFTMAX", "INT16"): (1 / 32768, 0),
    ("LOGISTIC", "INT8"): (1 / 256, -128),
    ("LOGISTIC", "UINT8"): (1 / 256, 0),
    ("LOGISTIC", "INT16"): (1 / 32768, 0),
    ("TANH", "INT8"): (1 / 128, 0),
    ("TANH", "INT16"): (1 / 32768, 0),
    ("L2_NORMALIZATION", "INT8"): (1 / 128, 0),
    ("L2_NORMALIZATION", "UINT8"): (1 / 128, 128),
    ("LOG_SOFTMAX", "INT8"): (16 / 256, 127),
    ("LOG_SOFTMAX", "UINT8"): (16 / 256, 255),
}
"""The output scale and zero point that the kernel assumes.

TANH with uint8 is not included: the older converter wrote zero point 127, the newer one writes
128, and the kernel accepts both.
"""

_SOFTMAX_TOLERANCE = 1e-3
"""The relative difference that ``SoftmaxPrepare`` accepts; the other kernels compare exactly."""

_NOT_NEGATIVE = frozenset({"ABS", "EXP", "LOGISTIC", "RELU", "RELU6", "SOFTMAX", "SQRT", "SQUARE"})
_NOT_NEGATIVE_FUSED = frozenset({"RELU", "RELU6"})


def lint(graph: Graph, subgraph: Subgraph) -> tuple[Breach, ...]:
    """Return the rules that a subgraph breaks, ordered by operator.

    Args:
        graph: The file that the subgraph belongs to.
        subgraph: The subgraph to check.

    Returns:
        One breach per operator, tensor and rule; empty for files that keep the specification.
    """
    alone = [
        *_scales(graph, subgraph),
        *_zero_points(subgraph),
        *_weights(subgraph),
        *_axes(subgraph),
        *_fixed_ranges(subgraph),
        *_signs(subgraph),
        *_constants(graph, subgraph),
        *misread_codes(graph, subgraph),
    ]
    found = alone + list(disagreements(subgraph, _zeros(graph, subgraph), alone))
    return tuple(sorted(found, key=lambda b: (b.op, b.rule, b.tensor)))


_KEEP_ZERO = frozenset(
    {"BROADCAST_TO", "EXPAND_DIMS", "FILL", "MUL", "QUANTIZE", "RESHAPE", "STRIDED_SLICE"}
    | {"SPLIT_V", "TILE", "TRANSPOSE", "UNPACK"}
)
"""Operators that return zeros for zeros; operators with weights and no bias do so, too."""


def _zeros(graph: Graph, subgraph: Subgraph) -> frozenset[int]:
    """Return the int32 and int64 constants, the types of biases, that are all zero."""
    wide = (t for t in subgraph.tensors if t.has_data and t.type in ("INT32", "INT64"))
    found = ((t.index, constant(graph, t)) for t in wide if t.quant is not None)
    return frozenset(i for i, codes in found if codes is not None and not codes.any())


def _nothing_but_zero(graph: Graph, subgraph: Subgraph) -> frozenset[int]:
    """Return the tensors that are zero for all data, such as an initial state.

    Calibration sees no range there, and their scale has no effect.
    """
    small = (t for t in subgraph.tensors if t.has_data and t.quant and t.elements == 1)
    found = {t.index for t in small if not _used_channels(graph, t).any()}
    for op in subgraph.operators:
        read = {"FILL": op.inputs[1:2], "MUL": op.inputs}.get(op.kind, op.inputs[:1])
        biased = op.kind in WEIGHTED and any(i >= 0 for i in op.inputs[WEIGHTED[op.kind][2] :])
        keeps = op.kind in _KEEP_ZERO | WEIGHTED.keys() and not biased
        if keeps and not found.isdisjoint(read):
            found.update(op.outputs)
    return frozenset(found)


def _used_channels(graph: Graph, tensor: Tensor) -> NDArray[np.bool_]:
    """Return for each scale of a tensor whether it scales any value other than zero."""
    params, codes = tensor.quant, constant(graph, tensor) if tensor.has_data else None
    count = params.scale.size if params is not None else 1
    if params is None or codes is None or params.zero_point.size not in (1, count):
        return np.ones(count, np.bool_)
    if count == 1:
        return np.array([bool((codes != params.zero_point[0]).any())])
    if params.axis >= codes.ndim or codes.shape[params.axis] != count:
        return np.ones(count, np.bool_)
    rows = np.moveaxis(codes, params.axis, 0).reshape(count, -1)
    used: NDArray[np.bool_] = (rows != params.zero_point.reshape(-1, 1)).any(1)
    return used


def _scales(graph: Graph, subgraph: Subgraph) -> Iterator[Breach]:
    """Check that every scale is positive, finite and normal, as XNNPACK requires (``isnormal``)."""
    zero = _nothing_but_zero(graph, subgraph)
    for owner, tensor, params in quantized(subgraph):
        finite = np.isfinite(params.scale)
        normal = finite & (params.scale >= _NORMAL)
        if normal.all() or (tensor.index in zero and finite.all()):
            continue
        # The scale 0 does no harm to zeros, but zero times infinity is NaN.
        wrong = np.flatnonzero(~finite | (~normal & _used_channels(graph, tensor)))
        if wrong.size:
            channel = int(wrong[0])
            shown = channel if params.scale.size > 1 else None
            where = "" if shown is None else f" on channel {shown}"
            message = (
                f"{role_of(owner, tensor)} has scale {params.scale[channel]:.6g}{where}, "
                f"which is not a positive, finite, normal number"
            )
            yield Breach("impossible_scale", owner.index, tensor.index, shown, message)


def _zero_points(subgraph: Subgraph) -> Iterator[Breach]:
    """Check that zero points are codes of the type, and zero for int16 activations."""
    for owner, tensor, params in quantized(subgraph):
        low, high = code_range(tensor.type)
        outside = np.flatnonzero((params.zero_point < low) | (params.zero_point > high))
        role = role_of(owner, tensor)
        if outside.size:
            zero = int(params.zero_point[outside[0]])
            message = f"{role} has zero point {zero}, but {tensor.type} codes are {low} to {high}"
            yield Breach("zero_point_range", owner.index, tensor.index, None, message)
        elif tensor.type == "INT16" and np.any(params.zero_point) and not _widens(subgraph, owner):
            message = f"{role} is INT16 with zero point {params.zero_point[0]}, which must be 0"
            expected = (float(params.scale[0]), 0) if params.scale.size == 1 else None
            yield Breach("int16_zero_point", owner.index, tensor.index, None, message, expected)


def _widens(subgraph: Subgraph, op: Operator) -> bool:
    """Return whether SOFTMAX turns 8 bits into 16, starting at the lowest code.

    ``SoftmaxPrepare`` requires zero point 0 only for an int16 input; for an 8-bit one TFLite Micro
    requires -32768.
    """
    given = input_of(subgraph, op, 0)
    return op.kind == "SOFTMAX" and given is not None and given.type in ("INT8", "UINT8")


def _weights(subgraph: Subgraph) -> Iterator[Breach]:
    """Check the zero points of weights and biases."""
    for op in subgraph.operators:
        if op.kind not in WEIGHTED:
            continue
        _, weights, bias = (input_of(subgraph, op, i) for i in WEIGHTED[op.kind][:3])
        # Weights that another operator computes are activations, which may have any zero point.
        if weights is not None and weights.has_data and weights.type == "INT8":
            yield from _is_symmetric("weights_zero_point", "weights", op, weights)
        if bias is not None and bias.type in ("INT32", "INT64"):
            yield from _is_symmetric("bias_zero_point", "bias", op, bias)


def _is_symmetric(rule: str, role: str, op: Operator, tensor: Tensor) -> Iterator[Breach]:
    params = tensor.quant
    wrong = np.flatnonzero(params.zero_point) if params is not None else np.zeros(0)
    if params is None or wrong.size == 0:
        return
    channel = int(wrong[0]) if params.zero_point.size > 1 else None
    where = "" if channel is None else f" on channel {channel}"
    message = f"the zero point of its {role} is {params.zero_point[wrong[0]]}{where}, but must be 0"
    expected = (float(params.scale[0]), 0) if params.scale.size == 1 else None
    yield Breach(rule, op.index, tensor.index, channel, message, expected)


def _axes(subgraph: Subgraph) -> Iterator[Breach]:
    """Check that quantized dimensions are valid and have one scale per slice."""
    demanded: dict[int, tuple[str, int]] = {}
    for op in subgraph.operators:
        if op.kind in WEIGHTED:
            _, weights_at, bias_at, axis = WEIGHTED[op.kind]
            weights, bias = input_of(subgraph, op, weights_at), input_of(subgraph, op, bias_at)
            if weights is not None:
                demanded[weights.index] = ("its weights", axis)
            if bias is not None:
                # Some converters keep the four dimensions of the added operand: 1, 1, 1, channels.
                wanted = next((n for n, size in enumerate(bias.shape) if size > 1), 0)
                demanded[bias.index] = ("its bias", wanted)
    for tensor in subgraph.tensors:
        owner = owner_of(subgraph, tensor)
        if owner is not None:
            name, axis = demanded.get(tensor.index, (role_of(owner, tensor), -1))
            fault = _axis_fault(tensor, name, axis)
            if fault:
                yield Breach("axis", owner.index, tensor.index, None, fault)


def _axis_fault(tensor: Tensor, name: str, axis: int) -> str | None:
    """Return what is wrong with a quantized dimension; ``axis`` is the required one, -1 for any."""
    params, rank = tensor.quant, len(tensor.shape)
    if params is None or params.scale.size == 0 or rank == 0:
        return None
    count, zeros = params.scale.size, params.zero_point.size
    stated = params.axis if params.stated_axis is None else params.stated_axis
    if not 0 <= stated < rank:  # refused even if there is one scale
        return f"the quantized dimension of {name} is {stated}, but it has rank {rank}"
    if count == 1:
        return None
    if axis not in (-1, params.axis):
        return f"the quantized dimension of {name} is {params.axis}, but must be {axis}"
    if count != tensor.shape[params.axis]:
        return f"there are {count} scales for {tensor.shape[params.axis]} channels of {name}"
    if zeros not in (1, count):
        return f"there are {zeros} zero points for the {count} scales of {name}"
    return None


def _fixed_ranges(subgraph: Subgraph) -> Iterator[Breach]:
    """Check the outputs whose scale and zero point the kernel assumes."""
    for op in subgraph.operators:
        given, out = input_of(subgraph, op, 0), output_of(subgraph, op)
        if given is None or out is None or given.type != out.type or not out.has_codes:
            continue
        demanded, have = FIXED_OUTPUTS.get((op.kind, out.type)), parameters_of(out)
        if demanded is None or have is None:
            continue
        slack = _SOFTMAX_TOLERANCE if op.kind == "SOFTMAX" else 0.0
        if abs(have[0] - demanded[0]) <= slack * demanded[0] and have[1] == demanded[1]:
            continue
        message = (
            f"its output has {in_words(have)}, but {op.kind} of {out.type} has {in_words(demanded)}"
        )
        yield Breach("fixed_range", op.index, out.index, None, message, demanded)


def _signs(subgraph: Subgraph) -> Iterator[Breach]:
    """Check that an output that is never negative has a code above zero."""
    for op in subgraph.operators:
        out = output_of(subgraph, op)
        fused = op.options.get("fusedActivationFunction")
        if out is None or out.type not in ACTIVATIONS or not out.has_codes:
            continue
        if op.kind not in _NOT_NEGATIVE and fused not in _NOT_NEGATIVE_FUSED:
            continue
        have = parameters_of(out)
        if have is not None and have[1] >= code_range(out.type)[1]:
            word = op.kind if op.kind in _NOT_NEGATIVE else fused
            message = f"its output, after {word}, has zero point {have[1]}: no code is positive"
            yield Breach("no_positive_code", op.index, out.index, None, message)


def _constants(graph: Graph, subgraph: Subgraph) -> Iterator[Breach]:
    """Check float constants for NaN, and weights and biases for infinities.

    Elsewhere an infinity is valid: it masks attention scores or starts a running minimum.  NaN is
    valid where an operator chooses between inputs, for example as the maximum of no values.
    """
    for tensor in subgraph.tensors:
        owner = owner_of(subgraph, tensor)
        if owner is None or not tensor.has_data or not tensor.type.startswith("FLOAT"):
            continue
        values = constant(graph, tensor)
        if values is None:
            continue
        if owner.kind in CHOOSING:
            continue
        bad = np.isnan(values) if owner.kind not in WEIGHTED else ~np.isfinite(values)
        count = int(np.count_nonzero(bad))
        if count:
            first = values[bad].flat[0]
            message = f"{count} of {values.size} values of its constant '{tensor.name}' are {first}"
            yield Breach("nonfinite_constant", owner.index, tensor.index, None, message)
