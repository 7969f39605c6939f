"""Hand-made files whose weights are stored sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.loop_file import File
from tfldbg.graph.sparse import Level, Sparsity

DENSE, CSR = "dense", "csr"
Layout = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[str, ...]]
"""Traversal order, block map, block sizes, formats."""


def encode(
    values: np.ndarray,
    order: tuple[int, ...],
    block_map: tuple[int, ...],
    sizes: tuple[int, ...],
    formats: tuple[str, ...],
) -> tuple[Sparsity, np.ndarray]:
    """Store an array sparse, one node after the other."""
    block = [1] * values.ndim
    for dimension, size in zip(block_map, sizes, strict=True):
        block[dimension] = size
    shape = [n // b for n, b in zip(values.shape, block, strict=True)] + list(sizes)
    split: list[int] = []
    axes: list[int] = []
    for n, b in zip(values.shape, block, strict=True):
        axes.append(len(split))
        split += [n // b, b]
    whole = values.reshape(split).transpose(
        [*axes, *(axes[d] + 1 for d in block_map), *(a + 1 for a in axes if split[a + 1] == 1)]
    )
    walked = whole.reshape(shape).transpose(order)
    nodes, levels = [walked], []
    for depth, kind in enumerate(formats):
        count = walked.shape[depth]
        if kind == DENSE:
            levels.append(Level(count))
            nodes = [child for node in nodes for child in node]
            continue
        kept = [[i for i in range(count) if np.any(node[i])] for node in nodes]
        segments = np.cumsum([0, *map(len, kept)])
        indices = np.array([i for some in kept for i in some], np.int64)
        levels.append(Level(0, segments, indices))
        nodes = [node[i] for node, some in zip(nodes, kept, strict=True) for i in some]
    return Sparsity(order, block_map, tuple(levels)), np.array(nodes, values.dtype)


def _packed(sparsity: Sparsity) -> Any:
    made = schema.SparsityParametersT()
    made.traversalOrder = np.array(sparsity.order, np.int32)
    made.blockMap = np.array(sparsity.blocks, np.int32)
    made.dimMetadata = []
    for place, level in enumerate(sparsity.levels):
        entry = schema.DimensionMetadataT()
        if level.segments is None or level.indices is None:
            entry.format, entry.denseSize = schema.DimensionType.DENSE, level.size
        else:
            entry.format = schema.DimensionType.SPARSE_CSR
            width = ("Uint8", "Uint16", "Int32")[place % 3]  # as narrow as a converter makes them
            numbers = {"Uint8": np.uint8, "Uint16": np.uint16, "Int32": np.int32}[width]
            for name, values in (("Segments", level.segments), ("Indices", level.indices)):
                vector = getattr(schema, f"{width}VectorT")()
                vector.values = values.astype(numbers)
                kind = getattr(schema.SparseIndexVector, f"{width}Vector")
                setattr(entry, f"array{name}", vector)
                setattr(entry, f"array{name}Type", kind)
        made.dimMetadata.append(entry)
    return made


def sparse_file(weights: np.ndarray, layout: Layout, *, scale: float = 0.01) -> bytes:
    """FULLY_CONNECTED without a bias behind DENSIFY, and DEQUANTIZE where weights are float16.

    Args:
        weights: (units, inputs) float32, float16 or int8; int8 activations with int8.
        layout: As for `encode`.
        scale: Of int8 weights.
    """
    file = File()
    main = file.subgraph()
    sparsity, values = encode(weights, *layout)
    kind = weights.dtype.name.upper()
    quantized = kind == "INT8"
    of_weights = {"scale": scale} if quantized else {}
    units, inputs = weights.shape
    packed = main.tensor(kind, [units, inputs], values, **of_weights)
    main.made.tensors[packed].sparsity = _packed(sparsity)
    read = main.tensor(kind, [units, inputs], **of_weights)
    main.operator("DENSIFY", [packed], [read], schema.DensifyOptionsT())
    if kind == "FLOAT16":
        half, read = read, main.tensor("FLOAT32", [units, inputs])
        main.operator("DEQUANTIZE", [half], [read], schema.DequantizeOptionsT())
    activation = ("INT8", {"scale": 0.05, "zero_point": 3}) if quantized else ("FLOAT32", {})
    x = main.tensor(activation[0], [1, inputs], **activation[1])
    y = main.tensor(activation[0], [1, units], **activation[1])
    out = main.tensor(activation[0], [1, units], **activation[1])
    main.operator("FULLY_CONNECTED", [x, read, -1], [y], schema.FullyConnectedOptionsT())
    main.operator("RELU", [y], [out])
    main.ends([x], [out])
    return file.save()
