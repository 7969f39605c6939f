"""Comparisons of quantized values that are too close for a kernel to distinguish.

The integer kernels bring both sides to one scale before they compare them: to multiples of 1/256 in
real units (TFLite, ``comparisons.cc``: ``left_shift = 8``, with the scales as multipliers).  The
result for two values that are closer than that says nothing about the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.query import real_constant

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.graph.model import Graph, Subgraph, Tensor
    from tfldbg.reference.evaluate import Floats

_COMPARING = frozenset({"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"})
_RESOLUTION = 2.0**-8


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """An operator that compares two quantized tensors of different scales."""

    output: int
    sides: tuple[int | NDArray[Any], int | NDArray[Any]]
    """The tensors, or the values of constants in real units."""
    within: float
    """The distance up to which the kernel may take them for equal, real units."""

    def settle(self, batch: Batch, wanted: Floats) -> Floats:
        """Return the expected output: the operator's own where the kernel cannot decide.

        Args:
            batch: TFLite's values.
            wanted: The reference's results (n, ...) on the same inputs.
        """
        one, other = (batch.real[s] if isinstance(s, int) else s for s in self.sides)
        own = batch.real[self.output]
        near = np.broadcast_to(np.abs(one - other) <= self.within, own.shape)
        return np.where(near, own, wanted.reshape(own.shape))


def comparisons(graph: Graph, subgraph: Subgraph) -> tuple[Comparison, ...]:
    """Return the operators of a file that compare quantized values.

    Args:
        graph: The file.
        subgraph: Its subgraph.
    """
    found = []
    for op in subgraph.operators:
        tensors = [subgraph.tensors[i] for i in op.inputs if i >= 0]
        if op.kind not in _COMPARING or not all(t.lsb is not None for t in tensors):
            continue
        sides = [real_constant(graph, t) if t.has_data else t.index for t in tensors]
        rounded = sum(0.5 * (t.lsb or 0.0) for t in tensors if t.has_data)
        within = rounded + (0.0 if _alike(tensors) else _RESOLUTION)
        known = [s for s in sides if s is not None]
        if within and len(known) == len(op.inputs):
            found.append(Comparison(op.outputs[0], (known[0], known[1]), within))
    return tuple(found)


def _alike(tensors: Sequence[Tensor]) -> bool:
    return len({t.affine for t in tensors}) == 1
