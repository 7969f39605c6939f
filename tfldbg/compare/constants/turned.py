"""Activations that a quantizer multiplies by a constant matrix, and weights by its inverse.

A rotation (Hadamard) spreads outliers over all channels before weights are rounded, a scale for
each channel (SmoothQuant, OSCAR) evens them out.  The product does not change:
``x W.T = (x A) (W inv(A).T).T``.  The constants are then compared after the same matrix, and the
operators that multiply are checked together with the one that reads their output.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.query import real_constant, stored

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph

Doubles = NDArray[np.float64]
_CUSTOM = "aeq.hadamard_rotation"
HIDDEN = "it multiplies an activation by a constant that the weights after it are divided by"
"""The reason why the output of a turning operator has no counterpart."""
_ORTHOGONAL = 1e-5
"""The largest relative deviation of float32 entries of a Hadamard matrix: 2**-24 and a margin."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """The matrices that multiply the activation of one operator."""

    ops: tuple[int, ...]
    """The operators that multiply, in execution order."""
    tensor: int
    """The activation before the multiplication."""
    matrices: tuple[Doubles, ...]
    """The consecutive matrices: (n, n) for blocks of the last dimension, or (d,) factors."""

    def weights(self, plain: NDArray[Any]) -> Doubles:
        """Return (units, d) weights in the form for the turned activation."""
        return reduce(_times, map(_inverse, self.matrices), plain.astype(np.float64))

    def spread(self, sizes: NDArray[Any]) -> Doubles:
        """Return the largest change of (units, d) turned weights by rounding.

        Args:
            sizes: (units, d) the largest change of the original weights.
        """
        matrices = (np.abs(_inverse(m)) for m in self.matrices)
        return reduce(_times, matrices, sizes.astype(np.float64))

    def plain(self, weights: NDArray[Any]) -> Doubles:
        """Return (units, d) weights in the form for the original activation."""
        return reduce(_times, (m.T for m in reversed(self.matrices)), weights.astype(np.float64))


def _times(rows: Doubles, matrix: Doubles) -> Doubles:
    """Multiply (k, d) rows by a matrix, block by block."""
    if matrix.ndim == 1:
        return np.asarray(rows * matrix)
    return np.asarray((rows.reshape(-1, len(matrix)) @ matrix).reshape(rows.shape))


def _inverse(matrix: Doubles) -> Doubles:
    """Return the transposed inverse."""
    return np.asarray(1 / matrix if matrix.ndim == 1 else np.linalg.inv(matrix).T)


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """A subgraph without the operators that turn activations."""

    view: Subgraph
    """The subgraph in which operators with weights read the original activations, and the operators
    that turn them count as copies."""
    turns: Mapping[int, Turn] = field(default_factory=dict)
    """The turn of each operator that reads a turned activation."""
    hidden: frozenset[int] = frozenset()
    """The outputs of the turning operators."""


def without_turns(graph: Graph, subgraph: Subgraph, *, scaled: bool = False) -> Turned:
    """Return a view of the subgraph without rotations, and without scales if asked.

    Args:
        graph: The file.
        subgraph: The subgraph.
        scaled: True to also remove products with a constant per channel.
    """
    finder = _Finder(graph, subgraph, scaled=scaled)
    found = {op.index: t for op in subgraph.operators if (t := finder.turn(op)) is not None}
    kept = _read_by_them_alone(subgraph, found)
    if not kept:
        return Turned(subgraph)
    turning = {number for turn in kept.values() for number in turn.ops}
    operators = []
    for op in subgraph.operators:
        if op.index in kept:
            op = replace(op, inputs=(kept[op.index].tensor, *op.inputs[1:]))
        elif op.index in turning:
            op = replace(op, kind="DEQUANTIZE", inputs=(finder.source(op),))
        operators.append(op)
    hidden = frozenset(subgraph.operators[number].outputs[0] for number in turning)
    return Turned(replace(subgraph, operators=tuple(operators)), kept, hidden)


def _read_by_them_alone(subgraph: Subgraph, turns: Mapping[int, Turn]) -> dict[int, Turn]:
    """Return the turns whose results no other operator reads, which can be removed."""
    kept = dict(turns)
    while True:
        turning = {number for turn in kept.values() for number in turn.ops}
        allowed = turning | kept.keys()

        left = {}
        for number, turn in kept.items():
            made = {subgraph.operators[op].outputs[0] for op in turn.ops}
            read = {op.index for index in made for op in subgraph.consumers.get(index, ())}
            if read <= allowed and made.isdisjoint(subgraph.outputs):
                left[number] = turn
        if len(left) == len(kept):
            return kept
        kept = left


class _Finder:
    def __init__(self, graph: Graph, subgraph: Subgraph, *, scaled: bool) -> None:
        self._graph, self._subgraph, self._scaled = graph, subgraph, scaled

    def turn(self, op: Operator) -> Turn | None:
        """Return the matrices that multiply the activation of an operator, or None."""
        weights = stored(self._subgraph, op.inputs[1]) if self._weighted(op) else None
        if weights is None or self._hadamard(op) is not None:
            return None
        size, tensors = weights.shape[-1], self._subgraph.tensors
        ops: list[int] = []
        matrices: list[Doubles] = []
        found: Turn | None = None
        for before in self._chain(op.inputs[0]):
            ops.insert(0, before.index)
            matrix = self._matrix(before, size)
            if matrix is not None:
                matrices.insert(0, matrix)
            start, end = tensors[self.source(before)], tensors[op.inputs[0]]
            if matrices and start.shape == end.shape and end.shape[-1:] == (size,):
                found = Turn(tuple(ops), start.index, tuple(matrices))
        return found

    def _weighted(self, op: Operator) -> bool:
        return op.kind == "FULLY_CONNECTED" and len(op.inputs) > 1 and op.inputs[0] >= 0

    def _chain(self, index: int) -> Iterator[Operator]:
        """Yield the operators before a tensor, the last first, as long as each is linear."""
        while (op := self._subgraph.producers.get(index)) is not None:
            if op.kind != "RESHAPE" and not self._multiplies(op):
                return
            yield op
            index = self.source(op)

    def source(self, op: Operator) -> int:
        """Return the activation that an operator reads: the one input that is not constant."""
        live = (i for i in op.inputs if i >= 0 and stored(self._subgraph, i) is None)
        return next(live, op.inputs[0])

    def _multiplies(self, op: Operator) -> bool:
        if op.kind == _CUSTOM or self._hadamard(op) is not None:
            return True
        return self._scaled and op.kind == "MUL" and self._factors(op) is not None

    def _matrix(self, op: Operator, size: int) -> Doubles | None:
        """Return the matrix that an operator multiplies blocks by, or None if it does not fit."""
        if op.kind == "RESHAPE":
            return None
        matrix = self._custom(op) if op.kind == _CUSTOM else self._hadamard(op)
        if matrix is None and op.kind == "MUL":
            factors = self._factors(op)
            if factors is not None and factors.size in (1, size):
                matrix = np.broadcast_to(factors, (size,))
        return matrix

    def _factors(self, op: Operator) -> Doubles | None:
        """Return the constant of a MUL, (d,) or (1,), if no value is zero."""
        held = [t for i in op.inputs if (t := stored(self._subgraph, i)) is not None]
        values = real_constant(self._graph, held[0]) if len(held) == 1 else None
        shape = self._subgraph.tensors[op.outputs[0]].shape
        if values is None or values.size not in (1, *shape[-1:]) or not np.all(values):
            return None
        plain = op.options.get("fusedActivationFunction", "NONE") == "NONE"
        return values.astype(np.float64).reshape(-1) if plain else None

    def _hadamard(self, op: Operator) -> Doubles | None:
        """Return the rotation of a FULLY_CONNECTED whose weights all have the same magnitude."""
        if not self._weighted(op) or any(i >= 0 for i in op.inputs[2:]):
            return None
        held = stored(self._subgraph, op.inputs[1])
        square = held is not None and len(held.shape) == 2 and held.shape[0] == held.shape[1] > 1
        if held is None or not square or not held.type.startswith("FLOAT"):
            return None
        values = real_constant(self._graph, held)
        plain = op.options.get("fusedActivationFunction", "NONE") == "NONE"
        if values is None or not plain:
            return None
        wide, size = values.astype(np.float64), len(values)
        even = np.abs(np.abs(wide) * np.sqrt(size) - 1).max() <= _ORTHOGONAL
        if not even or np.abs(wide @ wide.T - np.eye(size)).max() > size * _ORTHOGONAL:
            return None
        return wide.T

    def _custom(self, op: Operator) -> Doubles | None:
        """Return the matrix of the custom operator, Sylvester's construction of its size."""
        from ai_edge_litert import schema_py_generated as schema
        from flatbuffers import flexbuffers

        packed = schema.Model.GetRootAs(self._graph.data, 0).Subgraphs(self._subgraph.index)
        options = packed.Operators(op.index)
        try:
            content = flexbuffers.Loads(bytes(options.CustomOptionsAsNumpy()))
            size = int(content["hadamard_size"])
        except (struct.error, LookupError, ValueError, TypeError, RecursionError):
            return None  # a damaged file
        shape = self._subgraph.tensors[op.outputs[0]].shape
        if size < 1 or size & (size - 1) or not shape or shape[-1] % size:
            return None
        matrix = np.ones((1, 1))
        while len(matrix) < size:
            matrix = np.block([[matrix, matrix], [matrix, -matrix]])
        return np.asarray(matrix / np.sqrt(size))
