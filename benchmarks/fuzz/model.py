"""Damage to a .tflite file that leaves it a whole flatbuffer: what the tables say is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_WHOLE = (0, 1, -1, 2, 3, 127, 1000, 65536, 2**20, 2**31 - 1, -(2**31))
_FLOATS = (0.0, -1.0, 1e-45, 1e-30, 1e30, 3e38, float("inf"), float("-inf"), float("nan"), 0.5)
_NAMES = (b"", b"\xff\xfe\x80", b"a" * 70_000, b"\x1b[2J\x00x", b"=1+1", b"<script>", b"../../x")


def _index(rng: random.Random, count: int) -> int:
    """Mostly an index that exists, so that the damage reaches further."""
    return rng.randrange(count) if count and rng.random() < 0.7 else rng.choice((*_WHOLE, count))


def _changed(rng: random.Random, values: Any, draw: Callable[[], Any], dtype: str) -> Any:
    """Change, leave out, add or drop one entry of a vector, or all of it."""
    kept = [] if values is None else list(values)
    what = rng.random()
    if kept and what < 0.5:
        kept[rng.randrange(len(kept))] = draw()
    elif kept and what < 0.65:
        kept.pop(rng.randrange(len(kept)))
    elif what < 0.85:
        kept.insert(rng.randint(0, len(kept)), draw())
    elif what < 0.9:
        kept = kept * 3
    else:
        kept = []
    return np.asarray(kept, dtype)


def _wired(model: Any, rng: random.Random) -> None:
    """Other inputs or outputs of an operator."""
    graph = rng.choice(model.subgraphs)
    op = rng.choice(graph.operators)
    side = rng.choice(("inputs", "inputs", "outputs"))
    values = _changed(rng, getattr(op, side), lambda: _index(rng, len(graph.tensors)), "int32")
    setattr(op, side, values)


def _ends(model: Any, rng: random.Random) -> None:
    """Other inputs or outputs of a subgraph."""
    graph = rng.choice(model.subgraphs)
    side = rng.choice(("inputs", "outputs"))
    values = _changed(rng, getattr(graph, side), lambda: _index(rng, len(graph.tensors)), "int32")
    setattr(graph, side, values)


def _shape(model: Any, rng: random.Random) -> None:
    """Another shape or shape signature of a tensor."""
    tensor = _tensor(model, rng)
    if rng.random() < 0.2:
        tensor.shape = np.asarray(_tensor(model, rng).shape, "int32")
    elif rng.random() < 0.2:
        tensor.shapeSignature = _changed(
            rng, tensor.shapeSignature, lambda: rng.choice(_WHOLE), "int32"
        )
    elif rng.random() < 0.1:
        tensor.shape = np.asarray([2**30, 2**30, 4][: rng.randint(1, 3)], "int32")
    else:
        tensor.shape = _changed(rng, tensor.shape, lambda: rng.choice(_WHOLE), "int32")


def _kind(model: Any, rng: random.Random) -> None:
    """Another type of a tensor, a variable, no rank."""
    tensor = _tensor(model, rng)
    what = rng.random()
    if what < 0.8:
        tensor.type = rng.choice((*range(25), 77, 127, -1))
    elif what < 0.9:
        tensor.isVariable = not tensor.isVariable
    else:
        tensor.hasRank = not tensor.hasRank


def _buffer(model: Any, rng: random.Random) -> None:
    """Another buffer of a tensor, or other bytes, an offset or a size of a buffer."""
    buffer = rng.choice(model.buffers)
    what = rng.random()
    if what < 0.4:
        _tensor(model, rng).buffer = max(0, _index(rng, len(model.buffers)))
    elif what < 0.8:
        data = np.asarray([] if buffer.data is None else buffer.data, "uint8")
        buffer.data = rng.choice((data[:-1], data[:1], np.tile(data, 2), data[:0], data[::-1]))
    else:
        buffer.offset = rng.choice((0, 1, 2, 100, 2**31, 2**60, 2**64 - 1))
        buffer.size = rng.choice((0, 1, 100, 2**31, 2**60, 2**64 - 1))


def _parameters(model: Any, rng: random.Random) -> None:
    """Other scales, zero points, quantized dimension, or blocks."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = _tensor(model, rng)
    if tensor.quantization is None or rng.random() < 0.1:
        tensor.quantization = schema.QuantizationParametersT()
    params = tensor.quantization
    what = rng.random()
    if what < 0.35:
        params.scale = _changed(rng, params.scale, lambda: rng.choice(_FLOATS), "float32")
    elif what < 0.65:
        wide = (*_WHOLE, 2**60, -(2**63), 2**63 - 1)
        params.zeroPoint = _changed(rng, params.zeroPoint, lambda: rng.choice(wide), "int64")
    elif what < 0.85:
        params.quantizedDimension = rng.choice(_WHOLE)
    else:
        blocks = schema.BlockwiseQuantizationT()
        count = len(model.subgraphs[0].tensors)
        blocks.scales, blocks.zeroPoints = _index(rng, count), _index(rng, count)
        blocks.blockSize = rng.choice(_WHOLE)
        params.details = blocks
        params.detailsType = schema.QuantizationDetails.BlockwiseQuantization


def _code(model: Any, rng: random.Random) -> None:
    """Another code, version or custom name of an operator."""
    what = rng.random()
    code = rng.choice(model.operatorCodes)
    if what < 0.4:
        op = rng.choice(rng.choice(model.subgraphs).operators)
        op.opcodeIndex = max(0, _index(rng, len(model.operatorCodes)))
    elif what < 0.8:
        code.builtinCode = rng.choice((*range(210), 500, 2**31 - 1, -1))
        code.deprecatedBuiltinCode = max(-128, min(code.builtinCode, 127))
    elif what < 0.9:
        code.version = rng.choice(_WHOLE)
    else:
        code.customCode, code.builtinCode = rng.choice(_NAMES), 32
        code.deprecatedBuiltinCode = 32


def _options(model: Any, rng: random.Random) -> None:
    """Other options of an operator: one field, none, or those of another operator."""
    op = rng.choice(rng.choice(model.subgraphs).operators)
    other = rng.choice(rng.choice(model.subgraphs).operators)
    if op.builtinOptions is None or rng.random() < 0.2:
        op.builtinOptions, op.builtinOptionsType = other.builtinOptions, other.builtinOptionsType
        return
    if rng.random() < 0.1:
        op.builtinOptions, op.builtinOptionsType = None, 0
        return
    names = list(vars(op.builtinOptions))
    if names:
        name = rng.choice(names)
        found = getattr(op.builtinOptions, name)
        if isinstance(found, float):
            setattr(op.builtinOptions, name, rng.choice(_FLOATS))
        elif isinstance(found, (int, bool)):
            setattr(op.builtinOptions, name, rng.choice((*_WHOLE, len(model.subgraphs))))
        elif isinstance(found, (list, np.ndarray)):
            dtype = getattr(found, "dtype", np.dtype("int32"))
            values = _changed(rng, found, lambda: rng.choice(_WHOLE), "int64")
            setattr(op.builtinOptions, name, values.astype(dtype))


def _order(model: Any, rng: random.Random) -> None:
    """Operators, tensors or subgraphs swapped, doubled or left out."""
    graph = rng.choice(model.subgraphs)
    items = rng.choice((graph.operators, graph.operators, graph.tensors, model.subgraphs))
    one, other = rng.randrange(len(items)), rng.randrange(len(items))
    what = rng.random()
    if what < 0.5:
        items[one], items[other] = items[other], items[one]
    elif what < 0.75:
        items.insert(other, items[one])
    else:
        items.pop(one)


def _signature(model: Any, rng: random.Random) -> None:
    """Another key, subgraph, or argument of a signature, or a metadata entry."""
    from ai_edge_litert import schema_py_generated as schema

    if not model.signatureDefs:
        model.signatureDefs = [schema.SignatureDefT()]
        model.signatureDefs[0].inputs, model.signatureDefs[0].outputs = [], []
    found = rng.choice(model.signatureDefs)
    what = rng.random()
    if what < 0.2:
        found.signatureKey = rng.choice(_NAMES)
    elif what < 0.4:
        found.subgraphIndex = max(0, _index(rng, len(model.subgraphs)))
    elif what < 0.6:
        model.metadata = [schema.MetadataT()]
        model.metadata[0].name = rng.choice(_NAMES)
        model.metadata[0].buffer = max(0, _index(rng, len(model.buffers)))
    else:
        entry = schema.TensorMapT()
        entry.name = rng.choice((b"x", *_NAMES))
        entry.tensorIndex = max(0, _index(rng, len(model.subgraphs[0].tensors)))
        rng.choice((found.inputs, found.outputs)).append(entry)


def _name(model: Any, rng: random.Random) -> None:
    """Another name of a tensor or subgraph."""
    named = rng.choice((_tensor(model, rng), rng.choice(model.subgraphs)))
    named.name = rng.choice((*_NAMES, _tensor(model, rng).name))


def _sparsity(model: Any, rng: random.Random) -> None:
    """A layout of sparse values, whatever the tensor holds."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = _tensor(model, rng)
    sparsity = schema.SparsityParametersT()
    count = rng.randint(0, 4)
    sparsity.traversalOrder = np.asarray([rng.choice(_WHOLE) for _ in range(count)], "int32")
    sparsity.blockMap = np.asarray([rng.choice(_WHOLE) for _ in range(count // 2)], "int32")
    sparsity.dimMetadata = []
    for _ in range(count):
        dimension = schema.DimensionMetadataT()
        dimension.denseSize = rng.choice(_WHOLE)
        dimension.format = rng.choice((0, 1))
        if dimension.format:
            values = schema.Int32VectorT()
            values.values = np.asarray([rng.choice(_WHOLE)], "int32")
            dimension.arraySegmentsType = dimension.arrayIndicesType = 1
            dimension.arraySegments = dimension.arrayIndices = values
        sparsity.dimMetadata.append(dimension)
    tensor.sparsity = sparsity


def _tensor(model: Any, rng: random.Random) -> Any:
    return rng.choice(rng.choice(model.subgraphs).tensors)


TABLES: Mapping[str, Callable[[Any, random.Random], None]] = {
    "wiring": _wired,
    "subgraph ends": _ends,
    "shapes": _shape,
    "types": _kind,
    "buffers": _buffer,
    "quantization": _parameters,
    "operator codes": _code,
    "options": _options,
    "order": _order,
    "signatures": _signature,
    "names": _name,
    "sparsity": _sparsity,
}


def damage_tables(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return the kind of damage, and a .tflite file that says something wrong."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    kind = rng.choice(tuple(TABLES))
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            TABLES[kind](model, rng)
        return kind, bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    except Exception:  # there is nothing of that kind to damage, or no flatbuffer can say it
        return kind, data
