"""Quantization parameters from data: the scales that this data would give a file.

Two passes are known by experiment (``abagrahari/tf-qat-vs-tflite``).  Post-training quantization
measures the range of every tensor in one *float pass* and quantizes each range separately
(`tfldbg.quant.adjust`).  Observers of quantization-aware training that keep all values measure
each range in a *fake-quantized pass*, in which all tensors before are already rounded with the
ranges measured there (`tfldbg.quant.nudge`).  Both passes run the file's own float copy, and
therefore its rounded weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.graph.lint import FIXED_OUTPUTS
from tfldbg.graph.model import Graph, Operator, QuantParams, Subgraph, Tensor
from tfldbg.graph.query import SAME_SCALE_KINDS, real_constant
from tfldbg.rewrite.twin import is_rounded

FLOAT_PASS, FAKE_QUANT_PASS = "float pass", "fake-quantized pass"
PASSES = (FLOAT_PASS, FAKE_QUANT_PASS)
_ARITHMETIC = {FLOAT_PASS: quant.adjust, FAKE_QUANT_PASS: quant.nudge}
_EMPTY_SCALE = 1.0
"""The scale of a tensor that is always zero, as in the converter (``fakeQuantAttrsToType``)."""


class Extent:
    """The lowest and highest value seen, with zero included as TFLite requires for every range."""

    def __init__(self) -> None:
        self.minimum, self.maximum = 0.0, 0.0

    @property
    def reach(self) -> float:
        """The largest magnitude seen."""
        return max(self.maximum, -self.minimum)

    def see(self, values: NDArray[Any]) -> None:
        """Add values of any shape, real units; values that are not finite are left out."""
        finite = np.isfinite(values)
        self.minimum = float(values.min(initial=self.minimum, where=finite))
        self.maximum = float(values.max(initial=self.maximum, where=finite))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The parameters of one tensor, computed from data."""

    scale: float
    zero_point: int
    """The zero point in codes of the tensor's type."""
    minimum: float
    """The lowest value in the tensors that share the parameters, at most 0, real units."""
    maximum: float


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """The tensors that share a range, and the tensors whose values determine it."""

    group: Mapping[int, int]
    """The first tensor of the group that shares parameters, by calibrated tensor."""
    sources: Mapping[int, int]
    """The group of each tensor whose values count; the others only hold copies of these values."""
    fixed: Mapping[int, tuple[float, int]] = field(default_factory=dict)
    """The scale and zero point that do not depend on data, by group."""
    constants: Mapping[int, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    """The constants among a group's values, real units, by group."""

    @property
    def free(self) -> tuple[int, ...]:
        """The groups whose parameters depend on data, by their first tensor."""
        return tuple(g for g in dict.fromkeys(self.group.values()) if g not in self.fixed)


def share(graph: Graph, subgraph: Subgraph, refused: Iterable[int] = ()) -> Sharing:
    """Return the tensors that are calibrated, and the groups that share a range.

    Operators that must have one scale for input and output join the tensors around them if the
    file gives these one scale.  Operators with a fixed output range, and those without a float
    copy, keep their parameters.

    Args:
        graph: The file.
        subgraph: The subgraph.
        refused: The operators without a float copy.
    """
    tensors, others, kept = subgraph.tensors, subgraph.non_activations, frozenset(refused)
    written = [i for i in subgraph.producers if i not in others]
    wanted = [i for i in dict.fromkeys((*subgraph.inputs, *written)) if is_rounded(tensors[i])]
    group = {i: i for i in wanted}
    copies: set[int] = set()
    constants: dict[int, list[NDArray[np.float32]]] = {}
    fixed: dict[int, tuple[float, int]] = {}
    for op in subgraph.operators:
        outputs = [i for i in op.outputs if i in group]
        if op.kind in SAME_SCALE_KINDS and op.index not in kept:
            given = [i for i in op.inputs if i >= 0 and tensors[i].lsb is not None]
            alike = [i for i in given if outputs and _alike(tensors[i], tensors[outputs[0]])]
            _join(group, [*(i for i in alike if i in group), *outputs])
            if alike and alike == given:
                copies.update(outputs)
            for i in alike:
                real = real_constant(graph, tensors[i]) if tensors[i].has_data else None
                if real is not None:
                    constants.setdefault(outputs[0], []).append(real)
        for i in outputs:
            parameters = _fixed(op, tensors[i], op.index in kept)
            if parameters is not None:
                fixed[i] = parameters
    return Sharing(
        group=group,
        sources={i: g for i, g in group.items() if i not in copies},
        fixed={group[i]: parameters for i, parameters in fixed.items()},
        constants={group[i]: tuple(arrays) for i, arrays in constants.items()},
    )


def _alike(one: Tensor, other: Tensor) -> bool:
    return (one.affine, one.type) == (other.affine, other.type)


def _join(group: dict[int, int], members: list[int]) -> None:
    groups = {group[i] for i in members}
    joined = [i for i, found in group.items() if found in groups]
    group.update(dict.fromkeys(joined, joined[0]) if joined else {})


def _fixed(op: Operator, tensor: Tensor, kept: bool) -> tuple[float, int] | None:
    own = (tensor.lsb or 0.0, tensor.zero_point or 0)
    if kept:
        return own
    if op.kind == "TANH":  # for uint8 the kernel accepts two zero points
        return FIXED_OUTPUTS.get((op.kind, tensor.type), own)
    return FIXED_OUTPUTS.get((op.kind, tensor.type))


def calibrate(
    subgraph: Subgraph, sharing: Sharing, seen: Mapping[int, Extent], source: str
) -> dict[int, Calibrated]:
    """Return the parameters from the range of each tensor.

    Args:
        subgraph: The subgraph of the tensors.
        sharing: The tensors that share a range.
        seen: The values seen in each tensor of ``sharing.sources``.
        source: The pass whose arithmetic is used, one of `PASSES`.
    """
    extents = {g: Extent() for g in sharing.group.values()}
    for group, arrays in sharing.constants.items():
        for array in arrays:
            extents[group].see(array)
    for index, extent in seen.items():
        extents[sharing.sources[index]].see(np.array([extent.minimum, extent.maximum]))
    return {
        i: _calibrated(subgraph.tensors[i].type, extents[g], sharing.fixed.get(g), source)
        for i, g in sharing.group.items()
    }


def _calibrated(
    type_name: str, extent: Extent, fixed: tuple[float, int] | None, source: str
) -> Calibrated:
    scale, zero_point = fixed or of_range(type_name, extent.minimum, extent.maximum, source)
    return Calibrated(scale, zero_point, extent.minimum, extent.maximum)


def of_range(type_name: str, minimum: float, maximum: float, source: str) -> tuple[float, int]:
    """Return the scale and zero point of an activation with a given range.

    Activations of 16 bits are symmetric (TFLite 16x8 quantization: zero point 0).

    Args:
        type_name: The TFLite type, ``"INT8"``, ``"UINT8"`` or ``"INT16"``.
        minimum: The lowest value, real units.
        maximum: The highest value, real units.
        source: The pass whose arithmetic is used, one of `PASSES`.
    """
    low, high = quant.code_range(type_name)
    if type_name == "INT16":
        return max(abs(minimum), abs(maximum)) / high or _EMPTY_SCALE, 0
    found = _ARITHMETIC[source](minimum, maximum)
    return found.scale or _EMPTY_SCALE, found.zero_point + low


def as_parameters(calibrated: Mapping[int, Calibrated]) -> dict[int, QuantParams]:
    """Return calibrated parameters as quantization parameters of tensors."""
    return {
        i: QuantParams(np.array([c.scale], np.float32), np.array([c.zero_point], np.int64))
        for i, c in calibrated.items()
    }
