"""Activations that a quantizer multiplies by a constant matrix, and weights by its inverse.

A rotation (Hadamard) spreads outliers over all channels before weights are rounded, a scale for
each channel (SmoothQuant, OSCAR) evens them out.  The product stays what it was:
``x W.T = (x A) (W inv(A).T).T``.  The constants are then compared behind the same matrix, and the
operators in front are checked together with the one that reads what they yield.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.query import consumers, producers, real_constant, stored

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph

Doubles = NDArray[np.float64]
_CUSTOM = "aeq.hadamard_rotation"
HIDDEN = "it multiplies an activation by a constant that the weights behind it are divided by"
"""Why what a turning operator writes has no counterpart."""
_ORTHOGONAL = 1e-5
"""How far float32 entries of a Hadamard matrix may be from their size: 2**-24 of it, and room."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What the activation of one operator is multiplied by."""

    ops: tuple[int, ...]
    """The operators that do it, in execution order."""
    tensor: int
    """The activation before."""
    matrices: tuple[Doubles, ...]
    """One after the other: (n, n) for every n values of the last dimension, or (d,) for each."""

    def weights(self, plain: NDArray[Any]) -> Doubles:
        """Return (units, d) weights as they have to be for the turned activation."""
        return reduce(_times, map(_inverse, self.matrices), plain.astype(np.float64))

    def spread(self, sizes: NDArray[Any]) -> Doubles:
        """Return by how much rounding may move (units, d) turned weights.

        Args:
            sizes: (units, d) by how much it may move them as they were.
        """
        matrices = (np.abs(_inverse(m)) for m in self.matrices)
        return reduce(_times, matrices, sizes.astype(np.float64))

    def plain(self, weights: NDArray[Any]) -> Doubles:
        """Return (units, d) weights for the activation as it was."""
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
    """The same, but that operators with weights read the activations as they were before; the
    operators that turn them count as copies."""
    turns: Mapping[int, Turn] = field(default_factory=dict)
    """By operator that reads a turned activation."""
    hidden: frozenset[int] = frozenset()
    """What the turning operators write."""


def without_turns(graph: Graph, subgraph: Subgraph, *, scaled: bool = False) -> Turned:
    """Look through rotations, and through scales as well if asked.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        scaled: Whether products with a constant for each channel are looked through.
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
    """Return the turns whose results nobody else reads, so that they can be looked through."""
    readers = consumers(subgraph)
    kept = dict(turns)
    while True:
        turning = {number for turn in kept.values() for number in turn.ops}
        allowed = turning | kept.keys()

        left = {}
        for number, turn in kept.items():
            made = {subgraph.operators[op].outputs[0] for op in turn.ops}
            read = {op.index for index in made for op in readers.get(index, ())}
            if read <= allowed and made.isdisjoint(subgraph.outputs):
                left[number] = turn
        if len(left) == len(kept):
            return kept
        kept = left


class _Finder:
    def __init__(self, graph: Graph, subgraph: Subgraph, *, scaled: bool) -> None:
        self._graph, self._subgraph, self._scaled = graph, subgraph, scaled
        self._writers = producers(subgraph)

    def turn(self, op: Operator) -> Turn | None:
        """Return what the activation of an operator is multiplied by, None for nothing."""
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
        while (op := self._writers.get(index)) is not None:
            if op.kind != "RESHAPE" and not self._multiplies(op):
                return
            yield op
            index = self.source(op)

    def source(self, op: Operator) -> int:
        """Return the activation that an operator reads: the one input that is no constant."""
        live = (i for i in op.inputs if i >= 0 and stored(self._subgraph, i) is None)
        return next(live, op.inputs[0])

    def _multiplies(self, op: Operator) -> bool:
        if op.kind == _CUSTOM or self._hadamard(op) is not None:
            return True
        return self._scaled and op.kind == "MUL" and self._factors(op) is not None

    def _matrix(self, op: Operator, size: int) -> Doubles | None:
        """Return what an operator multiplies each ``n`` values by; None for none that fits."""
        if op.kind == "RESHAPE":
            return None
        matrix = self._custom(op) if op.kind == _CUSTOM else self._hadamard(op)
        if matrix is None and op.kind == "MUL":
            factors = self._factors(op)
            if factors is not None and factors.size in (1, size):
                matrix = np.broadcast_to(factors, (size,))
        return matrix

    def _factors(self, op: Operator) -> Doubles | None:
        """Return the constant of a MUL, (d,) or (1,), none of it zero."""
        held = [t for i in op.inputs if (t := stored(self._subgraph, i)) is not None]
        values = real_constant(self._graph, held[0]) if len(held) == 1 else None
        shape = self._subgraph.tensors[op.outputs[0]].shape
        if values is None or values.size not in (1, *shape[-1:]) or not np.all(values):
            return None
        plain = op.options.get("fusedActivationFunction", "NONE") == "NONE"
        return values.astype(np.float64).reshape(-1) if plain else None

    def _hadamard(self, op: Operator) -> Doubles | None:
        """Return the matrix by which a FULLY_CONNECTED rotates: all its entries are of one size."""
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
