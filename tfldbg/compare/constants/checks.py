"""Measure the difference between a constant of the file and the reference's, in steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.constants.rounding import HALF_STEP, Doubles, is_neighbour, within_range
from tfldbg.graph.query import constant

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, QuantParams, Subgraph, Tensor

__all__ = [
    "HALF_STEP",
    "TINY",
    "UNITS",
    "BiasCheck",
    "Doubles",
    "Floats",
    "Unit",
    "WeightCheck",
    "block_steps",
    "broadcast_along",
    "difference",
    "step_sizes",
]

Floats = NDArray[np.float32]
TINY = float(np.finfo(np.float32).tiny)
Unit = Literal["scale", "float16", "float32"]
UNITS: Mapping[str, Unit] = {"FLOAT16": "float16", "FLOAT32": "float32"}


@dataclass(frozen=True, slots=True)
class BiasCheck:
    """The difference between an operator's bias and the reference's with folded batch norm."""

    tensor: int
    """The operator's output tensor."""
    bias: int
    """The tensor that holds the bias, or -1 if the operator has none."""
    max_steps: float
    """The difference on ``worst_channel`` in steps, see ``unit``."""
    worst_channel: int
    """The output channel with the largest difference beyond rounding."""
    found: float
    """The file's bias on that channel, real units; 0 if there is none."""
    expected: float
    """The reference's bias on that channel, real units."""
    wrong: int
    """The number of channels that differ by more than rounding."""
    total: int
    """All channels."""
    max_real: float
    """Largest difference of any channel, real units."""
    unit: Unit = "scale"
    """The meaning of a step: one of the bias's ``scale``, the spacing of ``float16`` numbers, or
    for ``float32`` twice the rounding of the folding."""
    misfolded: str | None = None
    """The mistake in folding one term that explains every channel's difference, or None."""
    arrangement: str | None = None
    """The change to the reference's bias that explains every difference, or None."""
    largest: float = 0.0
    """The largest magnitude of the reference's bias, real units."""

    @property
    def differ(self) -> bool:
        """Return whether rounding cannot explain the difference."""
        return self.wrong > 0


@dataclass(frozen=True, slots=True)
class WeightCheck:
    """The difference between an operator's weights and the reference's."""

    tensor: int
    """The operator's output tensor."""
    weights: int
    """The tensor that holds the weights."""
    max_steps: float
    """The largest difference in steps, see ``unit``."""
    worst_channel: int
    """The output channel of that difference."""
    wrong: int
    """The number of weights that differ by more than half a step."""
    total: int
    """All weights."""
    max_real: float = 0.0
    """Largest difference in real units."""
    unit: Unit = "scale"
    """The meaning of a step: one of the weight's ``scale``, the spacing of ``float16`` numbers, or
    for ``float32`` twice the rounding of the folding."""
    bias: BiasCheck | None = None
    """The bias of the same operator, or None for kinds of operators without one."""
    misfolded: str | None = None
    """The mistake in folding the factor of a batch norm that explains the weights, or None."""
    arrangement: str | None = None
    """The change to the reference's weights that explains every difference, or None."""
    largest: float = 0.0
    """The largest magnitude of the reference's weights, real units."""
    cut: int = 0
    """The number of values that a smaller scale cuts off, if that costs less than larger steps;
    they do not count as wrong."""
    neighbours: bool = False
    """True if every code is the rounded one or one next to it."""

    @property
    def differ(self) -> bool:
        """Return whether rounding cannot explain the difference of the weights."""
        return self.max_steps > HALF_STEP


def broadcast_along(values: NDArray[Any], axis: int, dimensions: int) -> NDArray[Any]:
    """Reshape one value per channel to broadcast along ``axis``; also works for a single value."""
    shape = [1] * dimensions
    shape[axis] = values.size
    return values.reshape(shape)


def half_spacing(values: NDArray[np.floating]) -> Doubles:
    """Return the distance of float16 numbers from the next ones, real units.

    It is 2**-10 of the power of two below the value, and at least 2**-24 (IEEE 754).

    Args:
        values: Real units, any shape.
    """
    halves = np.minimum(np.abs(values), 65000.0).astype(np.float16)
    spacing: Doubles = np.spacing(halves).astype(np.float64)
    return spacing


def step_sizes(
    tensor: Tensor, wanted: Doubles, rounding: Doubles, axis: int, blocks: Doubles | None = None
) -> Doubles | None:
    """Return the size of a step of a constant's values, broadcastable to ``wanted``, real units.

    Args:
        tensor: The tensor that holds the constant.
        wanted: The reference's values, real units.
        rounding: The largest change by float32 rounding, real units.
        axis: The axis of the channels.
        blocks: The steps for blockwise quantization, see `block_steps`.
    """
    params = tensor.quant
    if blocks is not None:
        return blocks
    if params is not None and params.scale.size and "INT" in tensor.type:
        return _scales(params, wanted, axis)
    if tensor.type == "FLOAT16":
        return half_spacing(wanted)
    if tensor.type == "FLOAT32":
        return np.maximum(2 * rounding, TINY)
    return None


def block_steps(
    graph: Graph, subgraph: Subgraph, tensor: Tensor, values: NDArray[Any]
) -> Doubles | None:
    """Return the step of each value of a constant with blockwise quantization.

    A scale that is stored as float16 moves a value by up to 2**-11 of itself, which is half of the
    amount that is added here.

    Args:
        graph: The file.
        subgraph: The subgraph.
        tensor: The tensor that holds the constant.
        values: Its values, real units.

    Returns:
        The steps in real units in the shape of ``values``, or None if the constant has no blocks.
    """
    params = tensor.quant
    if params is None or params.block_size is None or params.scale_tensor is None:
        return None
    held = subgraph.tensors[params.scale_tensor]
    scales = constant(graph, held)
    if scales is None or scales.size * params.block_size != values.size:
        return None
    each = np.repeat(scales.reshape(-1).astype(np.float64), params.block_size)
    steps: Doubles = each.reshape(values.shape)
    return steps if held.type != "FLOAT16" else steps + 2.0**-10 * np.abs(values)


def _scales(params: QuantParams, wanted: Doubles, axis: int) -> Doubles | None:
    # The converter gives a channel of zeros the scale 0.
    scales = np.maximum(params.scale.astype(np.float64), TINY)
    if params.block_size is not None or scales.size not in (1, wanted.shape[axis]):
        return None
    return broadcast_along(scales, axis if scales.size > 1 else 0, wanted.ndim)


def difference(
    output: int,
    tensor: Tensor,
    wanted: Doubles,
    rounding: Doubles,
    found: Floats,
    axis: int,
    blocks: Doubles | None = None,
) -> WeightCheck | None:
    """Compare the values of a constant; None if the layout differs or they cannot be read.

    Args:
        output: The operator's output tensor.
        tensor: The tensor that holds the constant.
        wanted: The reference's values in the file's layout, real units.
        rounding: The largest change by float32 rounding; same shape, real units.
        found: The file's values, real units.
        axis: The axis of the output channels.
        blocks: As for `step_sizes`.
    """
    step = step_sizes(tensor, wanted, rounding, axis, blocks)
    if step is None or wanted.shape != found.shape or not wanted.size:
        return None
    wanted, cut = within_range(tensor, found, wanted, np.broadcast_to(step, wanted.shape))
    off = np.abs(found - wanted)
    steps, unit = off / step, UNITS.get(tensor.type, "scale")
    others = tuple(i for i in range(steps.ndim) if i != axis)
    # A step of a float constant shrinks with the value, so the largest count says little.
    per_channel = (steps if unit == "scale" else off).max(others)
    return WeightCheck(
        tensor=output,
        weights=tensor.index,
        max_steps=float(steps.max()),
        worst_channel=int(per_channel.argmax()),
        wrong=int((steps > HALF_STEP).sum()),
        total=int(steps.size),
        max_real=float(off.max()),
        unit=unit,
        largest=float(np.abs(wanted).max()),
        cut=cut,
        neighbours=unit == "scale" and is_neighbour(steps),
    )
