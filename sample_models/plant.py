"""Plant one known fault in a .tflite file: what the tests and the broken samples are made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

NUMPY = {
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.FLOAT32: np.float32,
}


class File:
    """A .tflite file that can be changed; every changed constant gets a buffer of its own."""

    def __init__(self, data: bytes) -> None:
        self.model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        self.subgraph = self.model.subgraphs[0]

    def op(self, index: int) -> Any:
        return self.subgraph.operators[index]

    def tensor(self, index: int) -> Any:
        return self.subgraph.tensors[index]

    def output(self, op: int) -> Any:
        return self.tensor(self.op(op).outputs[0])

    def kind(self, op: int) -> str:
        return flatbuffer_utils.opcode_to_name(self.model, self.op(op).opcodeIndex)

    def is_quantized(self, op: int) -> bool:
        params = self.output(op).quantization
        return params is not None and params.scale is not None

    def is_constant(self, op: int, number: int) -> bool:
        inputs = self.op(op).inputs
        if number >= len(inputs) or inputs[number] < 0:
            return False
        return self.model.buffers[self.tensor(inputs[number]).buffer].data is not None

    def values(self, op: int, number: int) -> np.ndarray:
        tensor = self.tensor(self.op(op).inputs[number])
        raw = bytes(self.model.buffers[tensor.buffer].data)
        return np.frombuffer(raw, NUMPY[tensor.type]).reshape(tensor.shape).copy()

    def set_values(self, op: int, number: int, values: np.ndarray) -> None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.tensor(self.op(op).inputs[number]).buffer = len(self.model.buffers) - 1

    def save(self) -> bytes:
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


Change = Callable[[File, int], None]


def zero_bias(file: File, op: int) -> None:
    file.set_values(op, 2, np.zeros_like(file.values(op, 2)))


def negate_constant(file: File, op: int) -> None:
    file.set_values(op, 1, -file.values(op, 1))


def negate_channel(channel: int) -> Change:
    def change(file: File, op: int) -> None:
        weights = file.values(op, 1)
        index = (..., channel) if file.kind(op) == "DEPTHWISE_CONV_2D" else (channel,)
        weights[index] = -weights[index]
        file.set_values(op, 1, weights)

    return change


def scale_output(factor: float) -> Change:
    def change(file: File, op: int) -> None:
        params = file.output(op).quantization
        params.scale = np.asarray(params.scale) * np.float32(factor)

    return change


def shift_zero_point(steps: int) -> Change:
    def change(file: File, op: int) -> None:
        params = file.output(op).quantization
        params.zeroPoint = np.asarray(params.zeroPoint) + steps

    return change


def drop_activation(file: File, op: int) -> None:
    file.op(op).builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE


def swap_inputs(file: File, op: int) -> None:
    inputs = list(file.op(op).inputs)
    inputs[0], inputs[1] = inputs[1], inputs[0]
    file.op(op).inputs = inputs


@dataclass(frozen=True)
class Fault:
    """One planted fault."""

    name: str
    op: int
    detail: str
    change: Change


CNN_FAULTS = (
    Fault("zeroed_bias", 8, "the bias of the head convolution is all zero", zero_bias),
    Fault("negated_channel", 5, "channel 5 of the right branch is negated", negate_channel(5)),
    Fault("wrong_scale", 3, "the output scale of the residual add is 1.5 times", scale_output(1.5)),
    Fault("dropped_activation", 4, "the left branch has lost its ReLU6", drop_activation),
    Fault("swapped_concat", 6, "the inputs of the concatenation are swapped", swap_inputs),
)


def apply(good: bytes, fault: Fault) -> bytes:
    """Return ``good`` with ``fault`` planted."""
    file = File(good)
    fault.change(file, fault.op)
    return file.save()
