"""Hand-made files of shapes that converters seldom or never write."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from tests.loop_file import File, Subgraph


def signature(file: File, key: str, number: int, inputs: list[int], outputs: list[int]) -> None:
    """Name a subgraph."""
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key.encode(), number
    made.inputs, made.outputs = [], []
    for kind, indices, entries in (("in", inputs, made.inputs), ("out", outputs, made.outputs)):
        for place, index in enumerate(indices):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"{kind}{place}".encode(), index
            entries.append(entry)
    file.model.signatureDefs = [*(file.model.signatureDefs or []), made]


def two_signatures() -> bytes:
    """``relu`` in the main subgraph, ``tanh`` and two inputs in the other."""
    file = File()
    main, other = file.subgraph(), file.subgraph()
    x, y = main.tensor("FLOAT32", [1, 4]), main.tensor("FLOAT32", [1, 4])
    main.operator("RELU", [x], [y])
    main.ends([x], [y])
    a, b = other.tensor("FLOAT32", [1, 4]), other.tensor("FLOAT32", [1, 4])
    total, out = other.tensor("FLOAT32", [1, 4]), other.tensor("FLOAT32", [1, 4])
    other.operator("ADD", [a, b], [total], schema.AddOptionsT())
    other.operator("TANH", [total], [out])
    other.ends([a, b], [out])
    signature(file, "relu", 0, [x], [y])
    signature(file, "tanh", 1, [a, b], [out])
    return file.save()


def branches() -> bytes:
    """An IF between ADD and MUL."""
    file = File()
    main = file.subgraph()
    condition, x, y = main.tensor("BOOL", []), *_floats(main, 2)
    out, last = _floats(main, 2)
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    main.operator("IF", [condition, x, y], [out], options)
    main.operator("TANH", [out], [last])
    main.ends([condition, x, y], [last])
    for kind, chosen in (("ADD", schema.AddOptionsT()), ("MUL", schema.MulOptionsT())):
        branch = file.subgraph()
        a, b, made = _floats(branch, 3)
        branch.operator(kind, [a, b], [made], chosen)
        branch.ends([a, b], [made])
    return file.save()


def call_once() -> bytes:
    """A resource that CALL_ONCE fills and the main subgraph adds to its input."""
    file = File()
    main, filling = file.subgraph(), file.subgraph()
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    main.operator("CALL_ONCE", [], [], once)
    x, held, out = _floats(main, 3)
    handle = _handle(main)
    main.operator("READ_VARIABLE", [handle], [held], schema.ReadVariableOptionsT())
    main.operator("ADD", [x, held], [out], schema.AddOptionsT())
    main.ends([x], [out])
    values = filling.tensor("FLOAT32", [1, 4], np.arange(4, dtype=np.float32).reshape(1, 4))
    filling.operator(
        "ASSIGN_VARIABLE", [_handle(filling), values], [], schema.AssignVariableOptionsT()
    )
    filling.ends([], [])
    return file.save()


def _handle(subgraph: Subgraph) -> int:
    handle = subgraph.tensor("RESOURCE", [])
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = b"", b"held"
    subgraph.operator("VAR_HANDLE", [], [handle], options)
    return handle


def strings() -> bytes:
    """Picks strings by index, and reshapes them: ``words`` (3,), ``which`` (2,) to (1, 2)."""
    file = File()
    main = file.subgraph()
    words, which = main.tensor("STRING", [3]), main.tensor("INT32", [2])
    picked, shaped = main.tensor("STRING", [2]), main.tensor("STRING", [1, 2])
    doubled = main.tensor("INT32", [2])
    shape = main.tensor("INT32", [2], np.array([1, 2], np.int32))
    main.operator("GATHER", [words, which], [picked], schema.GatherOptionsT())
    main.operator("RESHAPE", [picked, shape], [shaped], schema.ReshapeOptionsT())
    main.operator("ADD", [which, which], [doubled], schema.AddOptionsT())
    main.made.tensors[words].name, main.made.tensors[which].name = "words", "which"
    main.ends([words, which], [shaped, doubled])
    return file.save()


def ends() -> bytes:
    """Outputs: an input, a constant, a computed tensor twice; empty names and equal ones."""
    file = File()
    main = file.subgraph()
    x, y, z = _floats(main, 3)
    held = main.tensor("FLOAT32", [1, 4], np.ones((1, 4), np.float32))
    main.operator("ADD", [x, held], [y], schema.AddOptionsT())
    main.operator("TANH", [y], [z])
    for tensor, name in zip(main.made.tensors, ["", "same", "same", ""], strict=True):
        tensor.name = name
    main.ends([x], [x, z, held, z])
    return file.save()


def found() -> bytes:
    """WHERE, whose output has as many rows as its input true values, beside a TANH."""
    file = File()
    main = file.subgraph()
    x, positive = main.tensor("FLOAT32", [4]), main.tensor("BOOL", [4])
    zero = main.tensor("FLOAT32", [4], np.zeros(4, np.float32))
    places, total, out = (
        main.tensor("INT64", [4, 1]),
        main.tensor("INT64", [1]),
        main.tensor("FLOAT32", [4]),
    )
    main.made.tensors[places].shapeSignature = [-1, 1]
    axis = main.tensor("INT32", [1], np.zeros(1, np.int32))
    main.operator("GREATER", [x, zero], [positive], schema.GreaterOptionsT())
    main.operator("WHERE", [positive], [places], schema.WhereOptionsT())
    main.operator("SUM", [places, axis], [total], schema.ReducerOptionsT())
    main.operator("TANH", [x], [out])
    main.ends([x], [places, total, out])
    return file.save()


def empty_sizes() -> bytes:
    """A tensor without elements beside one with, and an input of open shape (?, ?, 3)."""
    file = File()
    main = file.subgraph()
    x = main.tensor("FLOAT32", [1, 1, 3])
    main.made.tensors[x].shapeSignature = [-1, -1, 3]
    nothing = main.tensor("FLOAT32", [0, 3])
    also, out, last = main.tensor("FLOAT32", [0, 3]), *(main.tensor("FLOAT32", [1, 1, 3]),) * 2
    main.operator("ABS", [nothing], [also], schema.AbsOptionsT())
    main.operator("TANH", [x], [out])
    main.ends([x, nothing], [also, last])
    return file.save()


def no_bias() -> bytes:
    """A FULLY_CONNECTED whose bias is left out (-1)."""
    file = File()
    main = file.subgraph()
    x, out = _floats(main, 2)
    weights = main.tensor("FLOAT32", [4, 4], np.eye(4, dtype=np.float32))
    main.operator("FULLY_CONNECTED", [x, weights, -1], [out], schema.FullyConnectedOptionsT())
    main.ends([x], [out])
    return file.save()


def reshaped(*, before: bool, shift: float = 0.0) -> bytes:
    """RELU and FULLY_CONNECTED, where wanted with a RESHAPE that changes nothing before each."""
    file = File()
    main = file.subgraph()
    given = x = main.tensor("FLOAT32", [1, 4])
    weights = main.tensor("FLOAT32", [4, 4], np.arange(16, dtype=np.float32).reshape(4, 4))
    bias = main.tensor("FLOAT32", [4], np.float32([1, 2, 3, 4 + shift]))
    for kind, constants in (("RELU", []), ("FULLY_CONNECTED", [weights, bias])):
        if before:
            shape = [1, 1, 4] if kind == "RELU" else [1, 4]
            size = main.tensor("INT32", [len(shape)], np.array(shape, np.int32))
            flat = main.tensor("FLOAT32", shape)
            main.operator("RESHAPE", [x, size], [flat], schema.ReshapeOptionsT())
            x = flat
        out = main.tensor("FLOAT32", main.made.tensors[x].shape)
        options = schema.FullyConnectedOptionsT() if constants else None
        main.operator(kind, [x, *constants], [out], options)
        x = out
    main.ends([given], [x])
    return file.save()


def half(kind: str) -> bytes:
    """CAST from a 16-bit float input to float32 and back, an ADD between."""
    file = File()
    main = file.subgraph()
    x, wide = main.tensor(kind, [1, 4]), main.tensor("FLOAT32", [1, 4])
    total, narrow = main.tensor("FLOAT32", [1, 4]), main.tensor(kind, [1, 4])
    main.operator("CAST", [x], [wide], schema.CastOptionsT())
    main.operator("ADD", [wide, wide], [total], schema.AddOptionsT())
    main.operator("CAST", [total], [narrow], schema.CastOptionsT())
    main.ends([x], [narrow])
    return file.save()


def requantized_constant() -> bytes:
    """A constant that QUANTIZE brings to the scale of the CONCATENATION that reads it."""
    file = File()
    main = file.subgraph()
    codes = np.arange(-4, 4, dtype=np.int8).reshape(1, 8)
    x, made, out = (main.tensor("INT8", [1, n], None, 0.05, 3) for n in (8, 8, 16))
    held = main.tensor("INT8", [1, 8], codes, 0.03, -1)
    main.operator("QUANTIZE", [held], [made], schema.QuantizeOptionsT())
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    main.operator("CONCATENATION", [x, made], [out], options)
    main.ends([x], [out])
    return file.save()


def between(kind: str) -> bytes:
    """CAST from float32 to a type and back."""
    file = File()
    main = file.subgraph()
    x, narrow, out = (main.tensor(k, [1, 4]) for k in ("FLOAT32", kind, "FLOAT32"))
    main.operator("CAST", [x], [narrow], schema.CastOptionsT())
    main.operator("CAST", [narrow], [out], schema.CastOptionsT())
    main.ends([x], [out])
    return file.save()


def packed(kind: str, bits: int) -> bytes:
    """A hybrid FULLY_CONNECTED with weights of 2 or 4 bits."""
    file = File()
    main = file.subgraph()
    x, out = main.tensor("FLOAT32", [1, 8]), main.tensor("FLOAT32", [1, 8])
    low = -(2 ** (bits - 1)) + 1
    codes = np.random.default_rng(0).integers(low, -low + 1, 64).astype(np.int8)
    per_byte = 8 // bits
    lanes = codes.reshape(-1, per_byte).astype(np.uint8) & (2**bits - 1)
    raw = np.bitwise_or.reduce(lanes << (np.arange(per_byte, dtype=np.uint8) * bits), axis=1)
    weights = main.tensor(kind, [8, 8], raw.astype(np.uint8), 0.1)
    main.operator("FULLY_CONNECTED", [x, weights, -1], [out], schema.FullyConnectedOptionsT())
    main.ends([x], [out])
    return file.save()


def chain(count: int) -> bytes:
    """So many operators one after the other."""
    file = File()
    main = file.subgraph()
    first = last = main.tensor("FLOAT32", [1, 8])
    one = main.tensor("FLOAT32", [1, 8], np.full((1, 8), 0.01, np.float32))
    for number in range(count):
        following = main.tensor("FLOAT32", [1, 8])
        if number % 2:
            main.operator("TANH", [last], [following])
        else:
            main.operator("ADD", [last, one], [following], schema.AddOptionsT())
        last = following
    main.ends([first], [last])
    return file.save()


def wide(count: int) -> bytes:
    """So many inputs, summed."""
    file = File()
    main = file.subgraph()
    inputs = [main.tensor("FLOAT32", [1, 4]) for _ in range(count)]
    total, out = _floats(main, 2)
    main.operator("ADD_N", inputs, [total], schema.AddNOptionsT())
    main.operator("TANH", [total], [out])
    main.ends(inputs, [out])
    return file.save()


def composite() -> bytes:
    """A STABLEHLO_COMPOSITE of ADD and TANH, behind a RELU."""
    file = File()
    main, inner = file.subgraph(), file.subgraph()
    x, y, out = _floats(main, 3)
    main.operator("RELU", [x], [y])
    options = schema.StableHLOCompositeOptionsT()
    options.name, options.decompositionSubgraphIndex = b"my.composite", 1
    options.compositeAttributes = list(flexbuffers.Dumps({}))
    main.operator("STABLEHLO_COMPOSITE", [y], [out])
    made = main.made.operators[-1]
    made.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
    made.builtinOptions2 = options
    main.ends([x], [out])
    a, b, c = _floats(inner, 3)
    inner.operator("ADD", [a, a], [b], schema.AddOptionsT())
    inner.operator("TANH", [b], [c])
    inner.ends([a], [c])
    return file.save()


def custom(kinds: list[str]) -> bytes:
    """A RELU and then custom operators."""
    file = File()
    main = file.subgraph()
    x, last = _floats(main, 2)
    main.operator("RELU", [x], [last])
    for kind in kinds:
        following = main.tensor("FLOAT32", [1, 4])
        main.operator("CUSTOM", [last], [following])
        file.model.operatorCodes[-1].customCode = kind.encode()
        last = following
    main.ends([x], [last])
    return file.save()


def bias_of_dimension(stated: int, count: int = 4) -> bytes:
    """An int8 FULLY_CONNECTED whose bias states that quantized dimension, with so many scales."""
    return _dense(count, bias=stated)


def weights_of_dimension(stated: int) -> bytes:
    """The same with the weights, whose shape has two dimensions."""
    return _dense(4, weights=stated)


def _dense(count: int, **stated: int) -> bytes:
    file = File()
    main = file.subgraph()
    x, out = main.tensor("INT8", [1, 4], scale=0.05), main.tensor("INT8", [1, 4], scale=0.1)
    weights = main.tensor("INT8", [4, 4], np.eye(4, dtype=np.int8) * 100, 0.01)
    bias = main.tensor("INT32", [4], np.array([10, -20, 30, 40], np.int32), 0.0005)
    for index in (weights, bias):
        about = main.made.tensors[index].quantization
        about.scale = np.repeat(about.scale, count)
        about.zeroPoint = np.repeat(about.zeroPoint, count)
    for name, index in (("weights", weights), ("bias", bias)):
        main.made.tensors[index].quantization.quantizedDimension = stated.get(name, 0)
    main.operator("FULLY_CONNECTED", [x, weights, bias], [out], schema.FullyConnectedOptionsT())
    main.ends([x], [out])
    return file.save()


def _floats(subgraph: Subgraph, count: int) -> list[int]:
    return [subgraph.tensor("FLOAT32", [1, 4]) for _ in range(count)]
