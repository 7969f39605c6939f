"""Plant one known fault in a .tflite file: what tests, benchmarks and the broken samples use."""

from __future__ import annotations

import copy
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
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.FLOAT32: np.float32,
}


class File:
    """A .tflite file that can be changed; every changed constant gets a buffer of its own."""

    def __init__(self, data: bytes) -> None:
        self.model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        self.subgraph = self.model.subgraphs[0]

    @property
    def count(self) -> int:
        """How many operators the main subgraph has."""
        return len(self.subgraph.operators)

    def op(self, index: int) -> Any:
        return self.subgraph.operators[index]

    def tensor(self, index: int) -> Any:
        return self.subgraph.tensors[index]

    def shape(self, index: int) -> list[int]:
        """Shape of a tensor; a scalar's, which files may leave out, is empty."""
        found = self.tensor(index).shape
        return [] if found is None else [int(d) for d in found]

    def writes(self, op: int) -> bool:
        """Whether an operator has an output; what assigns a variable has none."""
        outputs = self.op(op).outputs
        return outputs is not None and len(outputs) > 0

    def output(self, op: int) -> Any:
        return self.tensor(self.op(op).outputs[0])

    def kind(self, op: int) -> str:
        return flatbuffer_utils.opcode_to_name(self.model, self.op(op).opcodeIndex)

    def set_kind(self, op: int, kind: str) -> None:
        """Make an operator another builtin that takes the same options."""
        code = copy.deepcopy(self.model.operatorCodes[self.op(op).opcodeIndex])
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        self.op(op).opcodeIndex = len(self.model.operatorCodes) - 1

    def is_quantized(self, op: int) -> bool:
        params = self.output(op).quantization
        return params is not None and params.scale is not None

    def has_input(self, op: int, number: int) -> bool:
        inputs = self.op(op).inputs
        return number < len(inputs) and inputs[number] >= 0

    def input(self, op: int, number: int) -> Any:
        return self.tensor(self.op(op).inputs[number])

    def is_constant(self, op: int, number: int) -> bool:
        return self.has_input(op, number) and self._has_data(self.input(op, number))

    def _has_data(self, tensor: Any) -> bool:
        return self.model.buffers[tensor.buffer].data is not None

    def writer(self, tensor_index: int) -> int | None:
        """Number of the operator that writes a tensor, None for inputs and constants."""
        for number, operator in enumerate(self.subgraph.operators):
            if tensor_index in list(operator.outputs):
                return number
        return None

    def holder(self, op: int, number: int) -> Any | None:
        """The tensor whose buffer holds a constant input, None when it is no constant.

        Float16 files keep their constants behind a DEQUANTIZE.
        """
        if not self.has_input(op, number):
            return None
        tensor = self.input(op, number)
        if self._has_data(tensor):
            return tensor
        writer = self.writer(self.op(op).inputs[number])
        if writer is not None and self.kind(writer) == "DEQUANTIZE":
            return self.input(writer, 0) if self.is_constant(writer, 0) else None
        return None

    def values(self, op: int, number: int) -> np.ndarray:
        tensor = self.holder(op, number)
        raw = bytes(self.model.buffers[tensor.buffer].data)
        return np.frombuffer(raw, NUMPY[tensor.type]).reshape(tensor.shape).copy()

    def set_values(self, op: int, number: int, values: np.ndarray) -> None:
        self._fill(self.holder(op, number), values)

    def _fill(self, tensor: Any, values: np.ndarray) -> None:
        """Give a tensor a buffer of its own."""
        buffer = schema.BufferT()
        own = np.ascontiguousarray(values, NUMPY[tensor.type])
        buffer.data = np.frombuffer(own.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer = len(self.model.buffers) - 1

    def separate(self, op: int) -> None:
        """Give an operator copies of the constants that other operators read too."""
        others = [i for n, o in enumerate(self.subgraph.operators) if n != op for i in o.inputs]
        inputs = [int(i) for i in self.op(op).inputs]
        for number, index in enumerate(inputs):
            holder = self.holder(op, number) if index in others else None
            if holder is None:
                continue
            own = copy.deepcopy(self.tensor(index))
            if holder is not self.tensor(index):  # the copy is unpacked: no operator is added
                self._fill(own, self.values(op, number))
            self.subgraph.tensors.append(own)
            inputs[number] = len(self.subgraph.tensors) - 1
        self.op(op).inputs = inputs

    def save(self) -> bytes:
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


Change = Callable[[File, int], None]
LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
LSTM_FORGET_BIAS = 13


def bias_number(kind: str) -> int:
    """Which input of an operator is its bias."""
    return {"TRANSPOSE_CONV": 3, LSTM: LSTM_FORGET_BIAS}.get(kind, 2)


def channel_axis(kind: str) -> int:
    """Which axis of a weight tensor counts the output channels."""
    return -1 if kind == "DEPTHWISE_CONV_2D" else 0


def scales(tensor: Any) -> np.ndarray | None:
    """The scales of a tensor, float32 (1,) or (channels,), None when it has none."""
    params = tensor.quantization
    if params is None or params.scale is None or not len(params.scale):
        return None
    return np.asarray(params.scale, np.float32)


def strongest_channel(file: File, op: int) -> int:
    """The output channel with the largest weights, so that a fault in it has an effect."""
    weights = np.moveaxis(file.values(op, 1), channel_axis(file.kind(op)), 0).astype(np.float64)
    given = scales(file.holder(op, 1))
    sums = np.abs(weights).reshape(len(weights), -1).sum(axis=1)
    return int(np.argmax(sums * given if given is not None else sums))


def _negated(tensor: Any, values: np.ndarray) -> np.ndarray:
    """Negate in real units: codes are mirrored at the zero point and clipped to their type."""
    if values.dtype.kind == "f":
        return -values
    params = tensor.quantization
    zero = int(params.zeroPoint[0]) if params is not None and params.zeroPoint is not None else 0
    limits = np.iinfo(values.dtype)
    return np.clip(2 * zero - values.astype(np.int64), limits.min, limits.max)


def zero_bias(file: File, op: int) -> None:
    number = bias_number(file.kind(op))
    file.set_values(op, number, np.zeros_like(file.values(op, number)))


def zero_bias_channel(file: File, op: int) -> None:
    """Zero the largest element of a bias."""
    number = bias_number(file.kind(op))
    bias = file.values(op, number)
    given = scales(file.holder(op, number))
    real = bias * given if given is not None else bias
    bias[np.argmax(np.abs(real))] = 0
    file.set_values(op, number, bias)


def _subtract_from_bias(file: File, op: int, real: np.ndarray) -> None:
    """Subtract (channels,) real units from a bias."""
    number = bias_number(file.kind(op))
    bias = file.values(op, number)
    given = scales(file.holder(op, number))
    if given is None:
        file.set_values(op, number, bias - real.astype(bias.dtype))
        return
    limits = np.iinfo(bias.dtype)
    codes = bias.astype(np.float64) - np.round(real / given)
    file.set_values(op, number, np.clip(codes, limits.min, limits.max))


def shift_bias(lsb: float, one_channel: bool) -> Change:
    """Add so many steps of the output to a bias; a float bias moves by that many hundredths."""

    def change(file: File, op: int) -> None:
        bias = file.values(op, bias_number(file.kind(op)))
        step = scales(file.output(op))
        size = lsb * float(step[0] if step is not None else 0.01 * (np.abs(bias).max() or 1.0))
        shift = np.full(bias.shape, -size)
        if one_channel:
            shift[np.arange(len(bias)) != strongest_channel(file, op)] = 0
        _subtract_from_bias(file, op, shift)

    return change


def drop_beta(beta: np.ndarray) -> Change:
    """Fold a batch norm without its beta (channels,), which is a summand of the folded bias."""

    def change(file: File, op: int) -> None:
        _subtract_from_bias(file, op, beta)

    return change


def scale_bias(factor: float) -> Change:
    def change(file: File, op: int) -> None:
        params = file.input(op, bias_number(file.kind(op))).quantization
        params.scale = np.asarray(params.scale) * np.float32(factor)

    return change


def negate_constant_input(number: int) -> Change:
    def change(file: File, op: int) -> None:
        holder, values = file.holder(op, number), file.values(op, number)
        file.set_values(op, number, _negated(holder, values))

    return change


negate_constant = negate_constant_input(1)


def negate_channel(channel: int) -> Change:
    def change(file: File, op: int) -> None:
        weights = file.values(op, 1)
        index = (..., channel) if file.kind(op) == "DEPTHWISE_CONV_2D" else (channel,)
        weights[index] = _negated(file.holder(op, 1), weights[index])
        file.set_values(op, 1, weights)

    return change


def negate_strongest_channel(file: File, op: int) -> None:
    negate_channel(strongest_channel(file, op))(file, op)


def permute_channels(file: File, op: int) -> None:
    """Roll the output channels by one."""
    file.set_values(op, 1, np.roll(file.values(op, 1), 1, channel_axis(file.kind(op))))


def transpose_weights(file: File, op: int) -> None:
    """Swap height and width of a kernel, or the two axes of a square matrix."""
    weights = file.values(op, 1)
    file.set_values(op, 1, weights.swapaxes(1, 2) if weights.ndim == 4 else weights.T)


def clip_weights(file: File, op: int) -> None:
    """Clip the weights to half of their largest magnitude."""
    weights = file.values(op, 1)
    zero = 128 if weights.dtype == np.uint8 else 0
    real = weights.astype(np.float64) - zero
    limit = np.abs(real).max() / 2
    limit = limit if weights.dtype.kind == "f" else np.floor(limit)
    file.set_values(op, 1, np.clip(real, -limit, limit) + zero)


def scale_weights(factor: float, one_channel: bool) -> Change:
    """Multiply the scale of the weights and leave their codes."""

    def change(file: File, op: int) -> None:
        given = np.array(scales(file.holder(op, 1)))
        chosen = strongest_channel(file, op) if one_channel else slice(None)
        given[chosen] *= np.float32(factor)
        file.holder(op, 1).quantization.scale = given

    return change


def shift_weights_zero_point(steps: int) -> Change:
    def change(file: File, op: int) -> None:
        params = file.holder(op, 1).quantization
        params.zeroPoint = np.asarray(params.zeroPoint) + steps

    return change


def make_nan(number: int) -> Change:
    """Make the first element of a float constant NaN."""

    def change(file: File, op: int) -> None:
        values = file.values(op, number)
        values.flat[0] = np.nan
        file.set_values(op, number, values)

    return change


def flatten_channels_first(file: File, op: int) -> None:
    """Order the weights behind a Flatten as if it had put the channels first."""
    writer = file.writer(file.op(op).inputs[0])
    assert writer is not None
    _, height, width, channels = file.input(writer, 0).shape
    weights = file.values(op, 1)
    blocks = weights.reshape(len(weights), height, width, channels).transpose(0, 3, 1, 2)
    file.set_values(op, 1, blocks.reshape(weights.shape))


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


def set_activation(name: str) -> Change:
    """Give an operator another fused activation (a name of the schema)."""

    def change(file: File, op: int) -> None:
        chosen = getattr(schema.ActivationFunctionType, name)
        file.op(op).builtinOptions.fusedActivationFunction = chosen

    return change


drop_activation = set_activation("NONE")


def set_kind(kind: str) -> Change:
    def change(file: File, op: int) -> None:
        file.set_kind(op, kind)

    return change


def swap_inputs_at(first: int, second: int) -> Change:
    def change(file: File, op: int) -> None:
        inputs = list(file.op(op).inputs)
        inputs[first], inputs[second] = inputs[second], inputs[first]
        file.op(op).inputs = inputs

    return change


swap_inputs = swap_inputs_at(0, 1)


def set_option(name: str, value: Any) -> Change:
    """Set an attribute of an operator's options."""

    def change(file: File, op: int) -> None:
        setattr(file.op(op).builtinOptions, name, value)

    return change


def set_resize(align_corners: bool, half_pixel_centers: bool) -> Change:
    def change(file: File, op: int) -> None:
        options = file.op(op).builtinOptions
        options.alignCorners, options.halfPixelCenters = align_corners, half_pixel_centers

    return change


def set_dilation(height: int, width: int) -> Change:
    def change(file: File, op: int) -> None:
        options = file.op(op).builtinOptions
        options.dilationHFactor, options.dilationWFactor = height, width

    return change


def shift_padding(file: File, op: int) -> None:
    """Move explicit padding to the other side: (0, 1) becomes (1, 0), (1, 1) becomes (0, 2)."""
    paddings = file.values(op, 1)
    for row in paddings:
        before, after = row
        row[:] = (after, before) if before != after else (before - min(before, 1), after + 1)
        if before == after == 0:
            row[:] = 0
    file.set_values(op, 1, paddings)


def swap_permutation(first: int, second: int) -> Change:
    """Exchange two axes in the permutation of a TRANSPOSE."""

    def change(file: File, op: int) -> None:
        order = file.values(op, 1)
        order[[first, second]] = order[[second, first]]
        file.set_values(op, 1, order)

    return change


@dataclass(frozen=True)
class Fault:
    """One planted fault."""

    name: str
    op: int
    detail: str
    change: Change
    alone: bool = False
    """Constants that other operators read too are copied first, so that only this one changes."""


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
    if fault.alone:
        file.separate(fault.op)
    fault.change(file, fault.op)
    return file.save()
