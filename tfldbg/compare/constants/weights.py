"""Compare the constants of the file with those of the reference, with folded batch norm.

A weight may differ by half a step, which is the rounding of quantization; so may a bias, in its own
steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.constants.arrangement import bias_arrangement, weights_arrangement
from tfldbg.compare.constants.checks import (
    HALF_STEP,
    TINY,
    UNITS,
    BiasCheck,
    Doubles,
    Floats,
    Unit,
    WeightCheck,
    block_steps,
    difference,
    step_sizes,
)
from tfldbg.compare.constants.folding import (
    Folded,
    fold,
    probe,
    product_scale,
    rounded_constants,
)
from tfldbg.compare.constants.operands import compare_operands
from tfldbg.graph.query import constant, real_constant

if TYPE_CHECKING:
    from tfldbg.compare.constants.turned import Turn
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor
    from tfldbg.reference.evaluate import Frozen, Segment

__all__ = [
    "HALF_STEP",
    "SAME",
    "BiasCheck",
    "Folded",
    "WeightCheck",
    "check_folded",
    "check_weights",
    "fold",
]

SAME = 0.01
"""The difference in steps below which weights count as equal."""
_SLIPS = {-1: "was left out", 1: "was counted twice", -2: "has the wrong sign"}
"""The names of mistakes, by the number of times that a term is added too often."""


def check_weights(
    graph: Graph,
    subgraph: Subgraph,
    frozen: Frozen,
    segments: Mapping[int, Segment],
    turns: Mapping[int, Turn],
) -> tuple[dict[int, WeightCheck], dict[int, Segment]]:
    """Compare constant weights and biases, and replace the reference's weights by rounded ones.

    Args:
        graph: The file.
        subgraph: The subgraph.
        frozen: The reference.
        segments: Each operator cut out of the reference, by output tensor.
        turns: The matrices that multiply activations, and inversely weights, by operator.

    Returns:
        The checks by output tensor, and all segments.  Segments whose weights differ from the
        file's only by rounding compute with the file's weights, so that the remaining difference
        is that of the operator's arithmetic.
    """
    checks = compare_operands(graph, subgraph, frozen, segments)
    planned = dict(segments)
    for measured in probe(subgraph, frozen, segments, turns):
        check = check_folded(graph, subgraph, measured.folded)
        if check is None:
            continue
        checks[check.tensor] = check
        file_weights = real_constant(graph, subgraph.tensors[check.weights])
        if check.unit == "float32" or file_weights is None:
            continue
        if SAME < check.max_steps <= HALF_STEP:
            rounded = rounded_constants(measured, file_weights)
            planned[check.tensor] = replace(segments[check.tensor], constants=rounded)
    return checks, planned


def check_folded(graph: Graph, subgraph: Subgraph, folded: Folded) -> WeightCheck | None:
    """Compare the weights and bias of one operator; None if the weights cannot be read.

    Args:
        graph: The file.
        subgraph: The subgraph.
        folded: The reference's constants.
    """
    found = real_constant(graph, subgraph.tensors[folded.weights])
    check = None if found is None else _compare(graph, subgraph, folded, found)
    return check and replace(check, bias=_compare_bias(graph, subgraph, folded))


def _compare(
    graph: Graph, subgraph: Subgraph, folded: Folded, file_weights: Floats
) -> WeightCheck | None:
    tensor = subgraph.tensors[folded.weights]
    blocks = block_steps(graph, subgraph, tensor, file_weights)

    def against(kernel: Doubles) -> WeightCheck | None:
        return difference(
            folded.op.outputs[0],
            tensor,
            kernel,
            folded.kernel_rounding,
            file_weights,
            folded.channel_axis,
            blocks,
        )

    check = against(folded.kernel)
    if check is None or not check.differ:
        return check
    hypotheses = {
        "the factor of the batch norm was left out": folded.unfolded,
        "the factor of the batch norm was applied twice": _twice(folded),
    }
    others = ((said, against(kernel)) for said, kernel in hypotheses.items())
    found = next((said for said, other in others if other and not other.differ), None)
    rounding, axis = folded.kernel_rounding, folded.channel_axis
    step = step_sizes(tensor, folded.kernel, rounding, axis, blocks)
    arranged = None
    if found is None and step is not None:
        own = file_weights.astype(np.float64)
        arranged = weights_arrangement(own, folded.kernel, step, folded.channel_axis)
    return replace(check, misfolded=found, arrangement=arranged)


def _twice(folded: Folded) -> Doubles:
    """Return the weights with the factor of the nodes after the core applied twice."""
    own = folded.unfolded
    gain = np.divide(folded.kernel, own, out=np.ones_like(own), where=own != 0)
    twice: Doubles = folded.kernel * gain
    return twice


def _compare_bias(graph: Graph, subgraph: Subgraph, folded: Folded) -> BiasCheck | None:
    """Compare the file's bias with the folded one; None if it cannot be read."""
    read = _file_bias(graph, subgraph, folded)
    if read is None or folded.bias is None:
        return None
    found, step, unit = read
    off = np.abs(found - folded.offset)
    steps = off / step
    # For float32 the step is computed from the rounding.
    explained = 0.5 + (0.0 if unit == "float32" else folded.offset_rounding / step)
    worst = int((steps - explained).argmax())
    return BiasCheck(
        tensor=folded.op.outputs[0],
        bias=folded.bias,
        max_steps=float(steps[worst]),
        worst_channel=worst,
        found=float(found[worst]),
        expected=float(folded.offset[worst]),
        wrong=int((steps > explained).sum()),
        total=int(off.size),
        max_real=float(off.max()),
        unit=unit,
        # A term that is removed from rounded codes is rounded a second time.
        misfolded=_misfolded(folded, found, (explained + 0.5) * step),
        arrangement=bias_arrangement(found, folded.offset, explained * step),
        largest=float(np.abs(folded.offset).max(initial=0.0)),
    )


def _misfolded(folded: Folded, found: Doubles, tolerance: Doubles) -> str | None:
    """Return the term whose absence, or double presence, explains the bias on every channel.

    Args:
        folded: The reference's constants.
        found: (channels,) the file's bias, real units.
        tolerance: (channels,) the difference that rounding explains, real units.
    """
    off = found - folded.offset
    if len(folded.terms) < 2 or not (np.abs(off) > tolerance).any():
        return None  # a missing bias of one term is reported as another bias
    for role, part in folded.terms:
        for times, said in _SLIPS.items():
            if (np.abs(off - times * part) <= tolerance).all():
                return f"the {role} {said}"
    return None


def _file_bias(
    graph: Graph, subgraph: Subgraph, folded: Folded
) -> tuple[Doubles, Doubles, Unit] | None:
    """Return the file's bias (channels,) in real units, its step, and what the step is."""
    shape = (folded.offset.size,)
    if folded.bias is None:
        return None
    if folded.bias < 0:
        scale = product_scale(subgraph, folded.op)
        if scale is not None:
            return np.zeros(shape), np.broadcast_to(scale, shape), "scale"
        return np.zeros(shape), np.maximum(2 * folded.offset_rounding, TINY), "float32"
    tensor = subgraph.tensors[folded.bias]
    values = constant(graph, tensor)
    if values is None or values.size not in (1, *shape):
        return None
    found = values.reshape(-1).astype(np.float64)
    if tensor.type in UNITS:
        step = step_sizes(tensor, folded.offset, folded.offset_rounding, 0)
    else:
        # The codes of a bias are symmetric: its zero point is 0 (8-bit quantization specification).
        step = _bias_scale(subgraph, folded.op, tensor)
        found = found * (1.0 if step is None else step)
    if step is None or step.size not in (1, *shape):
        return None
    unit = UNITS.get(tensor.type, "scale")
    return np.broadcast_to(found, shape), np.broadcast_to(step, shape), unit


def _bias_scale(subgraph: Subgraph, op: Operator, bias: Tensor) -> Doubles | None:
    if bias.quant is not None and bias.quant.scale.size:
        return np.maximum(bias.quant.scale.astype(np.float64), TINY)
    return product_scale(subgraph, op)
