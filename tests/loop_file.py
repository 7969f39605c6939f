"""Hand-made files of operators that run subgraphs, which no converter quantizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import flexbuffers

STEPS = 5
LOOP = 1
"""The WHILE's number in the main subgraph."""
_VERSIONS = {"FULLY_CONNECTED": 4, "RELU": 2}
"""Those that take int8."""
_SCALE, _ZERO_POINT, _WEIGHT_SCALE = 0.05, 3, 0.004


class Subgraph:
    """One subgraph under construction."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.made = schema.SubGraphT()
        self.made.tensors, self.made.operators = [], []

    def tensor(
        self,
        kind: str,
        shape: list[int],
        values: np.ndarray | None = None,
        scale: float | None = None,
        zero_point: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = f"t{len(self.made.tensors)}"
        tensor.type, tensor.shape = getattr(schema.TensorType, kind), shape
        tensor.hasRank = True
        tensor.buffer = 0 if values is None else self.file.buffer(values)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([scale], np.float32)
            tensor.quantization.zeroPoint = np.array([zero_point], np.int64)
        self.made.tensors.append(tensor)
        return len(self.made.tensors) - 1

    def operator(
        self, kind: str, inputs: list[int], outputs: list[int], options: Any = None
    ) -> None:
        made = schema.OperatorT()
        made.opcodeIndex = self.file.code(kind)
        made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            if hasattr(schema.BuiltinOptions, name):
                made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
                made.builtinOptions = options
            else:
                made.builtinOptions2Type = getattr(schema.BuiltinOptions2, name)
                made.builtinOptions2 = options
        self.made.operators.append(made)

    def ends(self, inputs: list[int], outputs: list[int]) -> None:
        self.made.inputs = np.array(inputs, np.int32)
        self.made.outputs = np.array(outputs, np.int32)


class File:
    """The file under construction."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes, self.model.subgraphs = [], []

    def buffer(self, values: np.ndarray) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def code(self, kind: str) -> int:
        made = schema.OperatorCodeT()
        made.builtinCode = getattr(schema.BuiltinOperator, kind)
        made.deprecatedBuiltinCode = min(made.builtinCode, 127)
        made.version = _VERSIONS.get(kind, 1)
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1

    def subgraph(self) -> Subgraph:
        made = Subgraph(self)
        self.model.subgraphs.append(made.made)
        return made

    def save(self) -> bytes:
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


def loop_file(
    *,
    quantized: bool = True,
    bias_factor: float = 1.0,
    weight: float = 0.0,
    nested: bool = False,
    steps: int = STEPS,
) -> bytes:
    """``for i in range(5): x = W x + b``, behind a RELU that reads the input.

    Args:
        quantized: Whether the values of the loop are int8.
        bias_factor: On the scale of the bias, which breaks a rule where it is not 1.
        weight: Added to one float weight, NaN for example.
        steps: How many times the loop runs.
        nested: Whether the body holds a WHILE of its own.
    """
    file = File()
    main, condition, body = file.subgraph(), file.subgraph(), file.subgraph()
    value = _value(quantized)
    x, positive = value(main), value(main)
    main.operator("RELU", [x], [positive])
    start = main.tensor("INT32", [], np.zeros((), np.int32))
    count, out = main.tensor("INT32", []), value(main)
    loop = schema.WhileOptionsT()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 2
    main.operator("WHILE", [start, positive], [count, out], loop)
    main.ends([x], [out])
    _condition(condition, value, steps)
    _body(body, value, quantized, bias_factor, weight)
    if nested:
        inner = schema.WhileOptionsT()
        inner.condSubgraphIndex, inner.bodySubgraphIndex = 4, 3
        made = body.made
        last, again = int(made.outputs[1]), value(body)
        body.operator(
            "WHILE", [int(made.inputs[0]), last], [body.tensor("INT32", []), again], inner
        )
        body.ends(list(made.inputs), [int(made.outputs[0]), again])
        _body(file.subgraph(), value, quantized, 1.0, 0.0)
        _condition(file.subgraph(), value, STEPS)
    return file.save()


def branch_file(*, bias_factors: tuple[float, float] = (1.0, 1.0), nested: bool = False) -> bytes:
    """``W x + b`` if the first input says so, else its RELU; int8.

    Args:
        bias_factors: On the scale of the bias of either branch.
        nested: Whether the first branch holds an IF of its own.
    """
    file = File()
    main, branches = file.subgraph(), (file.subgraph(), file.subgraph())
    value = _value(quantized=True)
    chosen, x, out = main.tensor("BOOL", [1]), value(main), value(main)
    main.operator("IF", [chosen, x], [out], _if_options())
    main.ends([chosen, x], [out])
    for relu, (branch, factor) in enumerate(zip(branches, bias_factors, strict=True)):
        _dense(branch, value, factor, relu=bool(relu))
    if nested:
        then, again = branches[0], value(branches[0])
        always = then.tensor("BOOL", [1], np.ones(1, np.bool_))
        options = _if_options()
        options.thenSubgraphIndex = options.elseSubgraphIndex = 3
        then.operator("IF", [always, int(then.made.outputs[0])], [again], options)
        then.ends(list(then.made.inputs), [again])
        _dense(file.subgraph(), value, 1.0, relu=False)
    return file.save()


def composite_file(*, bias_factor: float = 1.0, count: int = 1) -> bytes:
    """A composite whose decomposition is ``W x + b``, in int8.

    Args:
        bias_factor: On the scale of the bias.
        count: How many of them, one behind the other.
    """
    file = File()
    main, value = file.subgraph(), _value(quantized=True)
    x = last = value(main)
    for number in range(count):
        options = schema.StableHLOCompositeOptionsT()
        options.name, options.decompositionSubgraphIndex = "test.dense", number + 1
        options.compositeAttributes = list(flexbuffers.Dumps({}))
        made = value(main)
        main.operator("STABLEHLO_COMPOSITE", [last], [made], options)
        _dense(file.subgraph(), value, bias_factor, relu=False)
        last = made
    main.ends([x], [last])
    return file.save()


def _if_options() -> Any:
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    return options


def _value(quantized: bool) -> Callable[[Subgraph], int]:
    """Return what adds a tensor of four values to a subgraph."""
    about = {"scale": _SCALE, "zero_point": _ZERO_POINT} if quantized else {}
    kind = "INT8" if quantized else "FLOAT32"
    return lambda subgraph: subgraph.tensor(kind, [1, 4], **about)  # type: ignore[arg-type]


def _dense(subgraph: Subgraph, value: Any, bias_factor: float, *, relu: bool) -> None:
    x = value(subgraph)
    made = _product(subgraph, value, x, True, bias_factor, 0.0)
    if relu:
        positive = value(subgraph)
        subgraph.operator("RELU", [made], [positive])
        made = positive
    subgraph.ends([x], [made])


def _condition(condition: Subgraph, value: Any, steps: int) -> None:
    i, x = condition.tensor("INT32", []), value(condition)
    limit = condition.tensor("INT32", [], np.array(steps, np.int32))
    going = condition.tensor("BOOL", [])
    condition.operator("LESS", [i, limit], [going], schema.LessOptionsT())
    condition.ends([i, x], [going])


def _body(body: Subgraph, value: Any, quantized: bool, bias_factor: float, weight: float) -> None:
    i, x = body.tensor("INT32", []), value(body)
    one = body.tensor("INT32", [], np.ones((), np.int32))
    following = body.tensor("INT32", [])
    body.operator("ADD", [i, one], [following], schema.AddOptionsT())
    made = _product(body, value, x, quantized, bias_factor, weight)
    body.ends([i, x], [following, made])


def _product(
    subgraph: Subgraph, value: Any, x: int, quantized: bool, bias_factor: float, weight: float
) -> int:
    """Add ``W x + b``; return its tensor."""
    made, codes = value(subgraph), np.random.default_rng(1).integers(-127, 128, (4, 4))
    if quantized:
        weights = subgraph.tensor("INT8", [4, 4], codes.astype(np.int8), _WEIGHT_SCALE)
        step = _SCALE * _WEIGHT_SCALE * bias_factor
        bias = subgraph.tensor("INT32", [4], np.array([900, -700, 500, 300], np.int32), step)
    else:
        real = (codes * _WEIGHT_SCALE).astype(np.float32)
        real[1, 2] += weight
        weights = subgraph.tensor("FLOAT32", [4, 4], real)
        bias = subgraph.tensor("FLOAT32", [4], np.array([0.2, -0.1, 0.1, 0.1], np.float32))
    options = schema.FullyConnectedOptionsT()
    subgraph.operator("FULLY_CONNECTED", [x, weights, bias], [made], options)
    return int(made)
