"""The types of a .tflite file.  All are immutable; all indices are the file's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.quant import Affine

if TYPE_CHECKING:
    from tfldbg.graph.sparse import Sparsity

UNKNOWN = "UNKNOWN_"
"""The prefix of the number of an operator or type that the schema does not name."""

HANDLE_TYPES = frozenset({"RESOURCE", "VARIANT"})
"""The types of tensors that refer to values and hold none."""

FOLDED_KINDS = frozenset({"DEQUANTIZE", "DENSIFY"})
"""Operators that the runtime folds when their inputs are constant."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantParams:
    """The parameters that turn codes of a tensor into real values."""

    scale: NDArray[np.float32]
    """One scale per tensor, one per channel along ``axis``, or one per block."""
    zero_point: NDArray[np.int64]
    """As many zero points as scales, or one for all."""
    axis: int = 0
    """The quantized dimension; it only matters if there is more than one scale."""
    block_size: int | None = None
    """The number of elements along ``axis`` that share a scale in blockwise quantization."""
    scale_tensor: int | None = None
    """The tensor that holds the scales in blockwise quantization; ``scale`` is then empty."""
    stated_axis: int | None = None
    """The dimension that the file states, if it lies outside the shape and ``axis`` replaces it."""

    @property
    def per_tensor(self) -> bool:
        """Return whether the whole tensor has one scale and one zero point."""
        return self.scale.size == 1 and self.block_size is None


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a subgraph."""

    index: int
    name: str
    type: str
    """TFLite type name, e.g. ``"INT8"``."""
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    """The shape, with -1 for each dynamic dimension."""
    quant: QuantParams | None
    buffer: int
    is_variable: bool
    has_data: bool
    """True if the file holds the tensor's values, that is, for a constant."""
    sparsity: Sparsity | None = None
    """The layout of the values, if they are stored sparse."""

    @property
    def elements(self) -> int:
        """The number of elements of ``shape``; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def has_one_scale(self) -> bool:
        """Return whether this is an integer tensor with one scale of any value."""
        return self.quant is not None and self.quant.per_tensor and "INT" in self.type

    @property
    def has_codes(self) -> bool:
        """Return whether the tensor holds integers with one scale that is positive and finite."""
        if self.quant is None or not self.has_one_scale:
            return False
        return 0.0 < float(self.quant.scale[0]) < math.inf

    @property
    def affine(self) -> Affine | None:
        """The scale and zero point of a tensor that has one of each; None for any other."""
        if self.quant is None or not self.has_codes:
            return None
        return Affine(float(self.quant.scale[0]), int(self.quant.zero_point[0]))

    @property
    def lsb(self) -> float | None:
        """One step of the scale in real units; None for tensors without a single scale."""
        affine = self.affine
        return None if affine is None else affine.scale

    @property
    def zero_point(self) -> int | None:
        """The zero point of a tensor that has a single one."""
        affine = self.affine
        return None if affine is None else affine.zero_point


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator of a subgraph, in execution order."""

    index: int
    kind: str
    """Builtin operator name, e.g. ``"CONV_2D"``; the custom code for custom operators."""
    inputs: tuple[int, ...]
    """The tensor indices; -1 where an optional input is left out."""
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)  # without slots, which would leave cached_property no room
class Subgraph:
    """One subgraph: its tensors and operators, and the facts that follow from them alone.

    A fact is computed when it is first asked for, and kept.  Tensors are given by their index.
    """

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    """In execution order."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields to pickle; another process computes the facts again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def producers(self) -> Mapping[int, Operator]:
        """The operator that writes each tensor; inputs and constants have none."""
        return {out: op for op in self.operators for out in op.outputs if out >= 0}

    @cached_property
    def consumers(self) -> Mapping[int, tuple[Operator, ...]]:
        """The operators that read each tensor, in execution order; a tensor may have none."""
        found: dict[int, list[Operator]] = {}
        for op in self.operators:
            for index in dict.fromkeys(op.inputs):
                if index >= 0:
                    found.setdefault(index, []).append(op)
        return {index: tuple(ops) for index, ops in found.items()}

    @cached_property
    def live(self) -> frozenset[int]:
        """The tensors whose values differ from run to run: inputs and outputs of operators."""
        return frozenset((*self.inputs, *self.producers))

    @cached_property
    def states(self) -> tuple[int, ...]:
        """The variables that operators keep from run to run, as SVDF does."""
        return tuple(i for i in self.consumers if self.tensors[i].is_variable)

    @cached_property
    def folded_constants(self) -> frozenset[int]:
        """The tensors that only unpack a constant, such as float16 or sparse weights."""
        found: set[int] = set()
        for op in self.operators:
            given = [i for i in op.inputs if i >= 0]
            constant_inputs = all(self.tensors[i].has_data or i in found for i in given)
            if op.kind in FOLDED_KINDS and constant_inputs:
                found.update(i for i in op.outputs if i >= 0 and not self.tensors[i].has_data)
        return frozenset(found)

    @cached_property
    def empty_constants(self) -> frozenset[int]:
        """The constants without elements, such as the shape of a scalar, which have no bytes."""
        empty = (t.index for t in self.tensors if not t.elements and not t.is_variable)
        return frozenset(i for i in empty if i not in self.live)

    @cached_property
    def shape_tensors(self) -> frozenset[int]:
        """The tensors that hold shapes, counters, and integers computed from them alone.

        A counter, such as the seed of a random generator, is an integer in a resource variable.
        """
        found: set[int] = set()
        for op in self.operators:
            known = [i for i in op.inputs if i >= 0 and i not in self.empty_constants]
            computed = [i for i in known if not self.tensors[i].has_data]
            from_shapes = bool(computed) and all(i in found for i in computed)
            for out in (i for i in op.outputs if i >= 0):
                integer = self.tensors[out].type in ("INT32", "INT64")
                if integer and (op.kind in ("READ_VARIABLE", "SHAPE") or from_shapes):
                    found.add(out)
        return frozenset(found)

    @cached_property
    def non_activations(self) -> frozenset[int]:
        """The tensors that are not activations: shapes, unpacked or empty constants, handles."""
        handles = frozenset(t.index for t in self.tensors if t.type in HANDLE_TYPES)
        return self.shape_tensors | self.folded_constants | self.empty_constants | handles


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """A named way to call the file."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    """The tensor index of each argument name."""
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class BufferSpan:
    """The position of a buffer's bytes in the file."""

    start: int
    size: int
    external: bool
    """True if the bytes lie after the flatbuffer (``Buffer.offset``) instead of inside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A whole .tflite file."""

    data: memoryview
    """The file's bytes, read-only."""
    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    buffers: tuple[BufferSpan, ...]
    metadata: tuple[str, ...]
    """The names of the metadata entries."""
    beside: tuple[str, ...] = ()
    """The names of other files that hold constants of this one (``external_buffer_groups``)."""

    @property
    def main(self) -> Subgraph:
        """The subgraph that runs when no signature is chosen."""
        return self.subgraphs[0]

    @property
    def keeps_resources(self) -> bool:
        """Return whether a run depends on earlier runs, through a resource that it writes to."""
        return any(op.kind == "ASSIGN_VARIABLE" for s in self.subgraphs for op in s.operators)

    @property
    def keeps_state(self) -> bool:
        """Return whether a run depends on earlier runs, through variables or resources."""
        return self.keeps_resources or any(s.states for s in self.subgraphs)
