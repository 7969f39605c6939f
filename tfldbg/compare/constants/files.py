"""Compare the constants of two .tflite files, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.constants.arrangement import bias_arrangement, weights_arrangement
from tfldbg.compare.constants.candidates import BIASED, bias_index
from tfldbg.compare.constants.checks import (
    HALF_STEP,
    UNITS,
    BiasCheck,
    WeightCheck,
    block_steps,
    half_spacing,
)
from tfldbg.compare.constants.rounding import is_neighbour, within_range
from tfldbg.compare.constants.weights import SAME
from tfldbg.graph.query import real_constant, stored
from tfldbg.rewrite.emit import is_real

if TYPE_CHECKING:
    from tfldbg.compare.constants.turned import Turn
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_FLOAT32 = 2.0**-20
"""The step of float32 constants, relative: eight units in the last place, for other foldings."""
_TIES = 2.0**-15
"""The share of weights that two quantizers may round to either side: float32 quotients of up to 127
have errors of 2 * 127 * 2**-24, and one in 2**15 is that close to a tie."""


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """A file with the subgraph to compare."""

    graph: Graph
    subgraph: Subgraph


def compare_constants(
    traced: Holder,
    op: Operator,
    reference: Holder,
    other: Operator,
    turns: tuple[Turn | None, Turn | None] = (None, None),
) -> tuple[WeightCheck | None, dict[int, NDArray[np.float32]]]:
    """Compare the constants of two operators.

    Rounding explains half a step of each side.  If both have the same scale and zero point it
    explains only single ties, and these only if one of the files computes in float.

    Args:
        traced: The traced file.
        op: Its operator.
        reference: The reference file.
        other: Its operator.
        turns: The matrices that multiply the activation of either operator, and inversely the
            weights.

    Returns:
        The check of the constant that differs most, with that of the bias, or None if there are no
        constants to compare; and the values to compute with, by tensor of the reference: the
        traced file's, if rounding explains the difference, for an activation before it was
        multiplied.
    """
    worst: WeightCheck | None = None
    bias: BiasCheck | None = None
    rounded: dict[int, NDArray[np.float32]] = {}
    slot = bias_index(traced.subgraph, op) if op.kind in BIASED else None
    pairs = zip(_constants(traced, op), _constants(reference, other), strict=False)
    for (_, one), (read, two) in pairs:
        mine, theirs = real_constant(traced.graph, one), real_constant(reference.graph, two)
        if mine is None or theirs is None or mine.size != theirs.size:
            continue
        of_weights = one.index == _weights_index(traced.subgraph, op)
        turn, turned = turns if of_weights else (None, None)
        plain: NDArray[Any] = theirs.reshape(mine.shape)
        plain = plain if turned is None else turned.plain(plain)
        if turned is not None:
            rounded[read] = plain.astype(np.float32)
        wanted = plain if turn is None else turn.weights(plain)
        fitting = _as_it_fits(op, one, wanted.astype(np.float32)).astype(np.float64)
        fitting, cut = within_range(one, mine, fitting, _scales(traced, one, mine))
        theirs = fitting.astype(np.float32)
        step = np.maximum(_step(traced, one, reference, two, mine), np.finfo(np.float32).tiny)
        steps = np.abs(mine.astype(np.float64) - theirs) / step
        if one.quant is not None and _is_float(traced, op) != _is_float(reference, other):
            steps = _without_ties(steps)
        largest = float(steps.max(initial=0.0))
        if one.index == slot:
            bias = _bias_check(op, one, mine, theirs, step)
        elif worst is None or largest > worst.max_steps:
            worst = replace(_weight_check(op, one, mine, theirs, step, steps), cut=cut)
        if SAME < largest <= HALF_STEP:
            own = mine if turn is None else turn.plain(mine).astype(np.float32)
            rounded[read] = own.reshape(two.shape)
    return (replace(worst, bias=bias) if worst is not None else None), rounded


def _weights_index(subgraph: Subgraph, op: Operator) -> int | None:
    """Return the tensor that holds an operator's weights."""
    held = stored(subgraph, op.inputs[1]) if op.kind in BIASED and len(op.inputs) > 1 else None
    return None if held is None else held.index


def _as_it_fits(op: Operator, tensor: Tensor, wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the reference's constant as near as the traced file's type can represent it.

    No code represents infinity, so the last code is the nearest.  MAXIMUM and MINIMUM, whose inputs
    and output share a scale, return the same for all values beyond the last code.
    """
    affine = tensor.affine
    if affine is None:
        return wanted
    low, high = affine.real_range(tensor.type)
    beyond = op.kind in ("MAXIMUM", "MINIMUM") or np.isinf(wanted)
    fitting: NDArray[np.float32] = np.where(beyond, np.clip(wanted, low, high), wanted)
    return fitting.astype(np.float32, copy=False)


def _constants(holder: Holder, op: Operator) -> list[tuple[int, Tensor]]:
    """Return the constants that an operator reads: the index it reads, and the stored tensor."""
    found = [(i, stored(holder.subgraph, i)) for i in op.inputs]
    return [(i, t) for i, t in found if t is not None and is_real(t)]


def _is_float(holder: Holder, op: Operator) -> bool:
    """Return whether the first output of an operator is float."""
    return holder.subgraph.tensors[op.outputs[0]].type.startswith("FLOAT")


def _without_ties(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return steps in which adjacent codes count as half a step apart, if they are few."""
    next_code = (steps > HALF_STEP) & (steps <= 2 * HALF_STEP)
    if next_code.sum() > _TIES * steps.size:
        return steps
    return np.where(next_code, 0.5, steps)


def _weight_check(
    op: Operator,
    tensor: Tensor,
    mine: NDArray[np.float32],
    theirs: NDArray[np.float32],
    step: NDArray[np.float64],
    steps: NDArray[np.float64],
) -> WeightCheck:
    found, wanted = mine.astype(np.float64), theirs.astype(np.float64)
    axis = 3 if op.kind == "DEPTHWISE_CONV_2D" and mine.ndim == 4 else 0
    others = tuple(i for i in range(steps.ndim) if i != axis)
    channels = np.atleast_1d(steps.max(others, initial=0.0))
    return WeightCheck(
        tensor=op.outputs[0],
        weights=tensor.index,
        max_steps=float(channels.max(initial=0.0)),
        worst_channel=int(channels.argmax()) if channels.size else 0,
        wrong=int((steps > HALF_STEP).sum()),
        total=int(steps.size),
        max_real=float(np.abs(mine - theirs).max(initial=0.0)),
        unit=UNITS.get(tensor.type, "scale"),
        arrangement=weights_arrangement(found, wanted, step, axis),
        neighbours="INT" in tensor.type and is_neighbour(steps),
        largest=float(np.abs(wanted).max(initial=0.0)),
    )


def _bias_check(
    op: Operator,
    tensor: Tensor,
    mine: NDArray[np.float32],
    theirs: NDArray[np.float32],
    step: NDArray[np.float64],
) -> BiasCheck:
    found, wanted = (side.reshape(-1).astype(np.float64) for side in (mine, theirs))
    steps = np.abs(found - wanted) / step.reshape(-1)
    channel = int(steps.argmax()) if steps.size else 0
    return BiasCheck(
        tensor=op.outputs[0],
        bias=tensor.index,
        max_steps=float(steps.max(initial=0.0)),
        worst_channel=channel,
        found=float(found[channel]) if mine.size else 0.0,
        expected=float(wanted[channel]) if mine.size else 0.0,
        wrong=int((steps > HALF_STEP).sum()),
        total=int(steps.size),
        max_real=float(np.abs(mine - theirs).max(initial=0.0)),
        unit=UNITS.get(tensor.type, "scale"),
        arrangement=bias_arrangement(found, wanted, HALF_STEP * step.reshape(-1)),
        largest=float(np.abs(wanted).max(initial=0.0)),
    )


def _step(
    traced: Holder, one: Tensor, reference: Holder, two: Tensor, values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the step of every value, of which rounding explains half."""
    mine, theirs = _scales(traced, one, values), _scales(reference, two, values)
    floats = _FLOAT32 * float(np.abs(values).max(initial=0.0))
    if one.quant is not None and two.quant is not None and np.array_equal(mine, theirs):
        return np.asarray(np.maximum(mine, floats))
    return np.asarray(mine + theirs + floats)


def _scales(holder: Holder, tensor: Tensor, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the spacing of a constant's values, broadcast to its shape."""
    params = tensor.quant
    if tensor.type == "FLOAT16":
        return half_spacing(values)
    blocks = block_steps(holder.graph, holder.subgraph, tensor, values)
    if blocks is not None:
        return blocks
    if params is None or not params.scale.size:
        return np.zeros(values.shape)
    scales = params.scale.astype(np.float64)
    if scales.size > 1 and params.axis < values.ndim and scales.size == values.shape[params.axis]:
        along = [1] * values.ndim
        along[params.axis] = -1
        scales = scales.reshape(along)
    elif scales.size > 1:
        scales = scales.max(keepdims=True)
    if scales.size == 1:
        return np.full(values.shape, scales.reshape(-1)[0])
    return np.broadcast_to(scales, values.shape)
