"""A .tflite file under construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.rewrite.flatbuffer import place_constants
from tfldbg.rewrite.pieces import ComputedBytes, Piece, Pieces

if TYPE_CHECKING:
    from tfldbg.graph.model import QuantParams

_SCHEMA_VERSION = 3
_OUTSIDE = 1 << 16
"""The size in bytes from which a constant is stored after the flatbuffer, as in large files: it
need not be copied then, and a flatbuffer ends at 2 GiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """How the values of a constant are stored."""

    sparsity: Any = None
    """The object form of the layout of sparse values; None if they are dense."""
    block_scales: int | None = None
    """The tensor of the draft that holds the scales of blockwise quantization, if it is that."""


class Draft:
    """One subgraph, built tensor by tensor and operator by operator."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        self._model = schema.ModelT()
        self._model.version = _SCHEMA_VERSION
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]
        self._codes: dict[tuple[int, bytes | None, int], int] = {}
        self._outside: dict[int, Piece] = {}

    def tensor(
        self,
        type_name: str,
        shape: Sequence[int] | None,
        *,
        quant: QuantParams | None = None,
        values: NDArray[Any] | ComputedBytes | None = None,
        variable: bool = False,
        storage: Storage | None = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor and return its index.

        Args:
            type_name: TFLite type name, e.g. ``"FLOAT32"``.
            shape: The shape, or None if the runtime has to find it.
            quant: The scale and zero point.
            values: The bytes that make it a constant.
            variable: True to keep its value from one invoke to the next.
            storage: How the values are stored, if not dense and with the scales of ``quant``.
            signature: The shape with -1 for each dynamic dimension, which some kernels read.
        """
        tensor = self._schema.TensorT()
        tensor.name = f"t{len(self._graph.tensors)}"
        tensor.type = getattr(self._schema.TensorType, type_name)
        tensor.shape = list(shape or ())
        tensor.hasRank = shape is not None
        if signature is not None and -1 in signature:
            tensor.shapeSignature = list(signature)
        tensor.isVariable = variable
        storage = storage or Storage()
        tensor.sparsity = storage.sparsity
        tensor.buffer = 0 if values is None else self._buffer(values)
        if quant is not None:
            tensor.quantization = self._schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(quant.scale, np.float32)
            tensor.quantization.zeroPoint = np.asarray(quant.zero_point, np.int64)
            tensor.quantization.quantizedDimension = quant.axis
            if storage.block_scales is not None:
                self._set_blocks(tensor.quantization, quant, storage.block_scales)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _set_blocks(self, quantization: Any, quant: QuantParams, scales: int) -> None:
        details = self._schema.BlockwiseQuantizationT()
        details.scales, details.blockSize = scales, quant.block_size
        details.zeroPoints = -1
        quantization.scale = quantization.zeroPoint = None
        quantization.details = details
        quantization.detailsType = self._schema.QuantizationDetails.BlockwiseQuantization

    def _buffer(self, values: NDArray[Any] | ComputedBytes) -> int:
        buffer, number = self._schema.BufferT(), len(self._model.buffers)
        self._model.buffers.append(buffer)
        if isinstance(values, ComputedBytes):
            piece: Piece = values
        else:
            flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            if flat.nbytes < _OUTSIDE:
                buffer.data = flat
                return number
            piece = flat.data
        self._outside[number] = piece
        buffer.size = len(Pieces((piece,)))
        buffer.offset = 2  # a placeholder for the actual offset
        return number

    def constant(self, values: NDArray[Any]) -> int:
        """Add a float32 or int32 constant and return its tensor."""
        return self.tensor(values.dtype.name.upper(), values.shape, values=values)

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, Any] | None = None,
    ) -> None:
        """Add a builtin operator.

        Args:
            kind: The name of the builtin operator.
            inputs: The input tensors.
            outputs: The output tensors.
            options: The name of the member of the union ``BuiltinOptions``, and its object form.
        """
        operator = self._schema.OperatorT()
        if options is not None:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options[0])
            operator.builtinOptions = options[1]
        self.copy(operator, getattr(self._schema.BuiltinOperator, kind), None, 1, inputs, outputs)

    def copy(
        self,
        operator: Any,
        builtin: int,
        custom: bytes | None,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        """Add the object form of an operator of another file.

        Args:
            operator: An ``OperatorT``, updated in place.
            builtin: The builtin code.
            custom: The custom code, or None for builtin operators.
            version: The version.
            inputs: The input tensors in this draft.
            outputs: The output tensors in this draft.
        """
        operator.opcodeIndex = self._code(builtin, custom, version)
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray(outputs, np.int32)
        self._graph.operators.append(operator)

    def _code(self, builtin: int, custom: bytes | None, version: int) -> int:
        key = (builtin, custom, version)
        if key not in self._codes:
            code = self._schema.OperatorCodeT()
            code.builtinCode = builtin
            code.deprecatedBuiltinCode = min(builtin, 127)
            code.customCode = custom
            code.version = version
            self._codes[key] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[key]

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> Pieces:
        """Return the file."""
        from ai_edge_litert.tools import flatbuffer_utils

        self._graph.inputs = np.asarray(inputs, np.int32)
        self._graph.outputs = np.asarray(outputs, np.int32)
        packed = bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))
        return place_constants(packed, self._outside)
