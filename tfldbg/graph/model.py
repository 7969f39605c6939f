"""The types of a .tflite file.  All are immutable; all indices are the file's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tfldbg.graph.sparse import Sparsity

UNKNOWN = "UNKNOWN_"
"""The prefix of the number of an operator or type that the schema does not name."""


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
    def lsb(self) -> float | None:
        """One step of the scale in real units; None for tensors without a single scale."""
        return float(self.quant.scale[0]) if self.has_codes and self.quant is not None else None

    @property
    def zero_point(self) -> int | None:
        """The zero point of a tensor that has a single one."""
        if self.has_codes and self.quant is not None:
            return int(self.quant.zero_point[0])
        return None


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


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    """One subgraph: its tensors and operators."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


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
