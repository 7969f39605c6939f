"""Random samples that fit the range of each input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import guard, quant
from tfldbg.errors import DataError
from tfldbg.graph.query import LAYOUT_KINDS, numpy_type
from tfldbg.run.samples import InputSpec, Samples

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor

_PASSING = LAYOUT_KINDS | {"CAST"}
"""Operators that pass indices on; Keras gives an Embedding float values, which it casts."""


def random_samples(
    subgraph: Subgraph, specs: tuple[InputSpec, ...], *, count: int, seed: int
) -> Samples:
    """Return seeded random samples that fit each input's range.

    Quantized inputs get codes over their whole range.  Float inputs that are quantized first get
    the range of that QUANTIZE operator, other float inputs a standard normal distribution.  Values
    that index a table are valid indices, also in float inputs; other integers are 0 or 1.  Strings
    are a few words.
    """
    generator = np.random.default_rng(seed)
    arrays = tuple(_random(subgraph, s.tensor, count, generator) for s in specs)
    return Samples(specs, arrays, "random")


def _random(
    subgraph: Subgraph, tensor: Tensor, count: int, generator: np.random.Generator
) -> NDArray[Any]:
    dtype = numpy_type(tensor)
    stated = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    shape = (count, *(1 if size < 0 else size for size in stated))
    _check_room(tensor, shape)
    if tensor.type == "STRING":
        return _words(shape, generator)
    if dtype is None:
        raise DataError(
            f"input '{tensor.name}' is {tensor.type}: it accepts neither numbers nor words",
            hint="trace another signature with --signature NAME",
        )
    rows = _table_rows(subgraph, tensor)
    if dtype.kind == "f" and rows:
        return generator.integers(0, rows, shape).astype(np.float32)
    if dtype.kind == "f":
        low, high = float_range(subgraph, tensor)
        drawn = generator.normal(size=shape) if low == high else generator.uniform(low, high, shape)
        return drawn.astype(np.float32)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    low_code, high_code = (0, (2 if rows is None else rows) - 1)
    if tensor.has_codes:
        low_code, high_code = quant.code_range(tensor.type)
    if low_code > high_code:
        raise DataError(
            f"input '{tensor.name}' indexes a table without rows: no number fits it",
            hint="give the data with --data",
        )
    drawn = generator.integers(low_code, high_code, shape, _widest(dtype), endpoint=True)
    return drawn.astype(dtype)


def _widest(dtype: np.dtype[Any]) -> type[np.integer[Any]]:
    return np.uint64 if dtype == np.uint64 else np.int64


def _check_room(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Check that the samples fit into this machine's memory."""
    if min(shape) < 0 or math.prod(shape) * np.dtype(np.float64).itemsize > guard.memory_limit():
        raise DataError(
            f"input '{tensor.name}' has shape {list(tensor.shape)}: no {shape[0]} random samples "
            "of that fit into memory",
            hint="draw fewer with --samples, or give the data with --data",
        )


def _words(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
    """Return strings of one to six words of lower-case letters."""
    drawn = np.empty(int(np.prod(shape)), object)
    for number in range(drawn.size):
        letters = [generator.integers(97, 123, size) for size in generator.integers(1, 9, 6)]
        words = [bytes(word.tolist()) for word in letters[: generator.integers(1, 7)]]
        drawn[number] = b" ".join(words)
    return drawn.reshape(shape)


def float_range(subgraph: Subgraph, tensor: Tensor) -> tuple[float, float]:
    """Return the range that a float input is quantized to, with equal ends if it is not."""
    for op in subgraph.consumers.get(tensor.index, ()):
        if op.kind != "QUANTIZE":
            continue
        out = subgraph.tensors[op.outputs[0]]
        if out.affine is not None:
            return out.affine.real_range(out.type)
    return 0.0, 0.0


def _table_rows(subgraph: Subgraph, tensor: Tensor) -> int | None:
    """Return the number of entries of the table that a tensor indexes, or None if it has none."""
    depth = tensor.shape[-1] if tensor.shape else 0  # a damaged file may state a scalar
    for op in subgraph.consumers.get(tensor.index, ()):
        if op.kind == "GATHER" and op.inputs[1] == tensor.index:
            return _size(subgraph.tensors[op.inputs[0]], int(op.options.get("axis", 0)))
        if op.kind == "EMBEDDING_LOOKUP" and op.inputs[0] == tensor.index:
            return _size(subgraph.tensors[op.inputs[1]], 0)
        # Rows of these indices give a position along several dimensions.
        if op.kind == "GATHER_ND" and op.inputs[1] == tensor.index:
            return min(subgraph.tensors[op.inputs[0]].shape[:depth], default=1)
        if op.kind == "SCATTER_ND" and op.inputs[0] == tensor.index:
            return min(subgraph.tensors[op.outputs[0]].shape[:depth], default=1)
        if op.kind in _PASSING and op.inputs[0] == tensor.index:
            found = _table_rows(subgraph, subgraph.tensors[op.outputs[0]])
            if found is not None:
                return found
    return None


def _size(table: Tensor, axis: int) -> int:
    """Return the number of entries of a table along an axis, 0 if there is no such axis."""
    return table.shape[axis] if -len(table.shape) <= axis < len(table.shape) else 0
