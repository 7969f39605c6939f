"""Queries on a graph: constants, inputs of an operator, chosen signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.errors import ModelError, UsageError
from tfldbg.graph.model import UNKNOWN, Graph, Operator, QuantParams, Signature, Subgraph, Tensor
from tfldbg.graph.sparse import densify

_NUMPY: dict[str, str] = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "FLOAT64": "float64",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "INT32": "int32",
    "UINT32": "uint32",
    "INT64": "int64",
    "UINT64": "uint64",
    "BOOL": "bool",
    "COMPLEX64": "complex64",
    "COMPLEX128": "complex128",
}

CALLED: Mapping[str, tuple[str, ...]] = {
    "CALL": ("subgraph",),
    "CALL_ONCE": ("initSubgraphIndex",),
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "STABLEHLO_CASE": ("branchSubgraphIndices",),
    "STABLEHLO_COMPOSITE": ("decompositionSubgraphIndex",),
    "STABLEHLO_REDUCE": ("bodySubgraphIndex",),
    "STABLEHLO_REDUCE_WINDOW": ("bodySubgraphIndex",),
    "STABLEHLO_SCATTER": ("updateComputationSubgraphIndex",),
    "STABLEHLO_SORT": ("comparatorSubgraphIndex",),
    "STABLEHLO_WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
}
"""By operator the options that name subgraphs which it runs."""
Role = Literal["cond", "body", "then", "else", "decomposition"]
ROLES: Mapping[str, tuple[Role, ...]] = {
    "IF": ("then", "else"),
    "STABLEHLO_COMPOSITE": ("decomposition",),
    "WHILE": ("cond", "body"),
}
"""The roles of the subgraphs that an operator runs, in the order of `called_subgraphs`, by operator
kind.  Only for operators that compute nothing else."""

LAYOUT_KINDS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
"""Operators whose output holds the values of their first input in the same order."""

CHOOSING = frozenset({"SELECT", "SELECT_V2"})
"""Operators that take each value from one of two inputs."""

WEIGHTED: Mapping[str, tuple[int, int, int, int]] = {
    "CONV_2D": (0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (0, 1, 2, 0),
    "TRANSPOSE_CONV": (2, 1, 3, 0),
}
"""The positions of input, weights and bias among the inputs, and the dimension of the scales."""

SAME_SCALE_KINDS = LAYOUT_KINDS | {
    "AVERAGE_POOL_2D",
    "BATCH_TO_SPACE_ND",
    "CONCATENATION",
    "DEPTH_TO_SPACE",
    "GATHER",
    "MAX_POOL_2D",
    "MAXIMUM",
    "MINIMUM",
    "MIRROR_PAD",
    "PAD",
    "PADV2",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SLICE",
    "SPACE_TO_BATCH_ND",
    "SPACE_TO_DEPTH",
    "SPLIT",
    "STRIDED_SLICE",
    "TILE",
    "TRANSPOSE",
}
"""Operators whose input and output must share scale and zero point (TFLite 8-bit specification)."""


def numpy_type(tensor: Tensor) -> np.dtype[Any] | None:
    """Return the NumPy type of a tensor, or None for strings, handles and sub-byte types."""
    name = _NUMPY.get(tensor.type)
    return np.dtype(name) if name else None


def custom_operators(subgraph: Subgraph) -> tuple[Operator, ...]:
    """Return the operators that are not builtin, including those of TensorFlow (Flex)."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    builtin = vars(BuiltinOperator)
    return tuple(
        op
        for op in subgraph.operators
        if op.kind == "CUSTOM" or not (op.kind in builtin or op.kind.startswith(UNKNOWN))
    )


def activation_inputs(subgraph: Subgraph, op: Operator) -> tuple[Tensor, ...]:
    """Return the inputs of an operator that carry activations.

    Constants, shapes, and the internal state of recurrent operators are not activations.
    """
    others = subgraph.non_activations
    tensors = (subgraph.tensors[i] for i in dict.fromkeys(op.inputs) if i >= 0)
    return tuple(
        t for t in tensors if not t.has_data and not t.is_variable and t.index not in others
    )


def activation_slots(subgraph: Subgraph, op: Operator) -> int:
    """Return the number of activation inputs; a tensor that is read twice counts twice."""
    activations = {t.index for t in activation_inputs(subgraph, op)}
    return sum(i in activations for i in op.inputs)


def stored(subgraph: Subgraph, index: int) -> Tensor | None:
    """Return the constant that a tensor holds, or that operators only unpack into it."""
    while index in subgraph.folded_constants:
        index = subgraph.producers[index].inputs[0]
    return subgraph.tensors[index] if index >= 0 and subgraph.tensors[index].has_data else None


_NIBBLES: dict[str, int] = {"INT4": 4, "UINT4": 4, "INT2": 2}


def constant(graph: Graph, tensor: Tensor) -> NDArray[Any] | None:
    """Return a constant's codes or values in the tensor's shape, or None if there are none.

    Sub-byte codes are unpacked to one per byte, and sparse constants are dense.  The result is also
    None for types without a NumPy type and for constants whose size does not fit the shape.
    """
    if not tensor.has_data:
        return None
    span = graph.buffers[tensor.buffer]
    raw = graph.data[span.start : span.start + span.size]
    if tensor.type in _NIBBLES:
        return _unpacked(raw, tensor)
    dtype = numpy_type(tensor)
    if dtype is None or span.size % dtype.itemsize:
        return None
    values = np.frombuffer(raw, dtype)
    if tensor.sparsity is not None:
        return densify(tensor.sparsity, tensor.shape, values)
    return values.reshape(tensor.shape) if values.size == tensor.elements else None


_BLOCK_BYTES = 16 << 20


def blocks(values: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of the first axis, about 16 MiB each: a constant may fill half the memory."""
    rows = len(values) if values.ndim else 1
    at_once = max(1, rows * _BLOCK_BYTES // max(values.nbytes, 1))
    yield from (slice(start, start + at_once) for start in range(0, rows, at_once))


def _unpacked(raw: memoryview, tensor: Tensor) -> NDArray[Any] | None:
    """Unpack codes of 2 or 4 bits to bytes, the lowest bits first (TFLite, ``UnpackDense``)."""
    bits = _NIBBLES[tensor.type]
    packed = np.frombuffer(raw, np.uint8)
    if packed.size != -(-tensor.elements * bits // 8):
        return None
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((packed[:, None] >> shifts) & (2**bits - 1)).reshape(-1)[: tensor.elements]
    if not tensor.type.startswith("U"):
        codes = ((codes.astype(np.int8) << (8 - bits)).astype(np.int8)) >> (8 - bits)
    unpacked: NDArray[Any] = codes.reshape(tensor.shape)
    return unpacked


def real_constant(graph: Graph, tensor: Tensor) -> NDArray[np.float32] | None:
    """Return a constant in real units (float32), or None if it has no such values."""
    codes = constant(graph, tensor)
    if codes is None or tensor.quant is None or codes.dtype.kind == "f":
        return None if codes is None else codes.astype(np.float32)
    params = tensor.quant
    if params.block_size is not None:
        return _real_blocks(graph, tensor, codes)
    if not _fits(params, tensor):
        return None
    return quant.dequantize(codes, params.scale, params.zero_point, params.axis)


def _fits(params: QuantParams, tensor: Tensor) -> bool:
    """Return whether every slice of the quantized dimension has a scale and a zero point."""
    counts = {params.scale.size, params.zero_point.size} - {1}
    if not counts:
        return True
    rank = len(tensor.shape)
    return 0 <= params.axis < rank and counts == {tensor.shape[params.axis]}


def _real_blocks(graph: Graph, tensor: Tensor, codes: NDArray[Any]) -> NDArray[np.float32] | None:
    """Dequantize a constant that has one scale for each ``block_size`` elements."""
    params = tensor.quant
    owner = next((s for s in graph.subgraphs if tensor in s.tensors), None)
    if params is None or params.block_size is None or params.scale_tensor is None or owner is None:
        return None
    scales = constant(graph, owner.tensors[params.scale_tensor])
    if scales is None or params.block_size < 1 or scales.size * params.block_size != codes.size:
        return None
    blocks = codes.reshape(-1, params.block_size).astype(np.float32)
    blocks *= scales.reshape(-1, 1).astype(np.float32)
    return blocks.reshape(tensor.shape)


def _check_signature(graph: Graph, signature: Signature) -> None:
    """Check that a signature refers to objects that exist; other signatures can still run."""
    count = len(graph.subgraphs)
    if signature.subgraph >= count:
        raise ModelError(
            f"signature '{signature.key}' names subgraph {signature.subgraph}, but the file has "
            f"{count}",
            hint="choose another with --signature NAME",
        )
    tensors = len(graph.subgraphs[signature.subgraph].tensors)
    for name, index in (*signature.inputs.items(), *signature.outputs.items()):
        if index >= tensors:
            raise ModelError(
                f"signature '{signature.key}' refers to tensor {index} '{name}', but subgraph "
                f"{signature.subgraph} has {tensors} tensors",
                hint="choose another with --signature NAME",
            )


def choose_signature(graph: Graph, key: str | None) -> tuple[Subgraph, Signature | None]:
    """Return the chosen subgraph and its signature, if it has one.

    Args:
        graph: The file.
        key: A signature's name, or None for the main subgraph.

    Raises:
        UsageError: There is no signature of that name.
        ModelError: The signature refers to an object that does not exist.
    """
    if key is None:
        main = [s for s in graph.signatures if s.subgraph == 0]
        return graph.main, main[0] if len(main) == 1 else None
    for signature in graph.signatures:
        if signature.key == key:
            _check_signature(graph, signature)
            return graph.subgraphs[signature.subgraph], signature
    names = ", ".join(repr(s.key) for s in graph.signatures) or "none"
    raise UsageError(
        f"the model has no signature '{key}'; it has: {names}",
        hint="choose one with --signature NAME, or leave the option out",
    )


def called_subgraphs(op: Operator) -> tuple[int, ...]:
    """Return the subgraphs that an operator's options name, which it runs."""
    found: list[int] = []
    for option in CALLED.get(op.kind, ()):
        numbers = op.options.get(option, ())
        found += [numbers] if isinstance(numbers, int) else [int(n) for n in numbers or ()]
    return tuple(found)
