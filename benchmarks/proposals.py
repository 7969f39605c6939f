"""Which faults can be planted in a file: every kind, wherever an operator allows it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from benchmarks import shapes
from sample_models import plant
from sample_models.plant import Fault, File
from tfldbg.graph.query import SAME_SCALE_KINDS

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
WEIGHTED = (*CONVOLUTIONS, "TRANSPOSE_CONV", "FULLY_CONNECTED")
BIASED = (*WEIGHTED, plant.LSTM)
POOL_KINDS = {
    "AVERAGE_POOL_2D": "MAX_POOL_2D",
    "MAX_POOL_2D": "AVERAGE_POOL_2D",
    "MEAN": "REDUCE_MAX",
    "REDUCE_MAX": "MEAN",
}
ORDERED = ("CONCATENATION", "SUB", "DIV")
"""Operators that give another result when their inputs are swapped."""
WITH_CONSTANT = ("ADD", "SUB", "MUL", "DIV")
FIXED_RANGE = ("SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX", "L2_NORMALIZATION")
"""Operators whose output parameters the 8-bit specification fixes."""
BIAS_SHIFT_LSB = 8.0
ZERO_POINT_SHIFT = 5
ACTIVATIONS = {v: k for k, v in vars(schema.ActivationFunctionType).items() if k.isupper()}
SAME = schema.Padding.SAME

BETRAYED = (
    "bias scale x 1.5",
    "copied scale x 1.5",
    "fixed output scale x 1.5",
    "NaN in constant",
    "output scale x 1.1",
    "output scale x 1.5",
    "weight scale channel x 1.5",
    "weight scale x 1.2",
    "weights zero point +3",
)
"""Kinds that break a rule of the specification: a file can betray them without a reference."""

Proposal = tuple[str, str, plant.Change]
"""Kind of fault, detail, and the change."""


def faults_for(file: File, betas: Mapping[str, np.ndarray] | None = None) -> list[Fault]:
    """Propose every fault that the file allows, by operator, always in the same order.

    Args:
        file: A sound file.
        betas: By batch norm layer of the Keras model its beta (channels,); see `read_betas`.
    """
    folded = betas or {}
    return [
        Fault(kind, op, detail, change, alone=True)
        for op in range(file.count)
        if file.writes(op)
        for propose in (*_PROPOSERS, functools.partial(_beta, betas=folded))
        for kind, detail, change in propose(file, op)
    ]


def read_betas(keras: Path) -> dict[str, np.ndarray]:
    """Read the betas of a Keras .h5 file, layer name to (channels,) float32; of others none."""
    import h5py

    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if name.endswith("/beta:0"):
            found[name.split("/")[0]] = np.asarray(item)

    if keras.suffix in (".h5", ".hdf5"):
        with h5py.File(keras, "r") as archive:
            archive["model_weights"].visititems(visit)
    return found


def spread(faults: list[Fault], most: int) -> list[Fault]:
    """Keep at most so many operators of each kind, spread over the depth of the network."""
    kept: list[Fault] = []
    for kind in dict.fromkeys(f.name for f in faults):
        same = [f for f in faults if f.name == kind]
        places = np.unique(np.linspace(0, len(same) - 1, min(most, len(same))).round().astype(int))
        kept += [same[i] for i in places]
    return kept


def _biases(file: File, op: int) -> Iterator[Proposal]:
    kind = file.kind(op)
    number = plant.bias_number(kind)
    holder = file.holder(op, number) if kind in BIASED else None
    if holder is None or (file.kind(op) in WEIGHTED and file.holder(op, 1) is None):
        return
    bias = file.values(op, number)
    if np.any(bias):
        yield "bias zeroed", "", plant.zero_bias
        if np.count_nonzero(bias) > 1:
            yield "bias channel zeroed", "the largest", plant.zero_bias_channel
    if kind == plant.LSTM:
        return
    amount = f"{BIAS_SHIFT_LSB:g} LSB" if file.is_quantized(op) else "8 % of the largest"
    yield "bias shifted", amount, plant.shift_bias(BIAS_SHIFT_LSB, one_channel=False)
    if len(bias) > 1:
        yield "bias channel shifted", amount, plant.shift_bias(BIAS_SHIFT_LSB, one_channel=True)
    if plant.scales(holder) is not None:
        yield "bias scale x 1.5", "its codes stay", plant.scale_bias(1.5)


def _weights(file: File, op: int) -> Iterator[Proposal]:
    kind = file.kind(op)
    if kind not in WEIGHTED or file.holder(op, 1) is None:
        return
    weights = file.values(op, 1)
    channels = weights.shape[plant.channel_axis(kind)]
    if weights.dtype.kind == "f":
        yield "NaN in constant", "the first weight", plant.make_nan(1)
    yield "weight channel negated", "the strongest", plant.negate_strongest_channel
    if channels > 1:
        yield "weights permuted", "channels rolled by one", plant.permute_channels
    square = weights.shape[1:3] if weights.ndim == 4 else weights.shape
    if square[0] == square[1] > 1:
        yield "weights transposed", "", plant.transpose_weights
    yield "weights clipped", "to half of the range", plant.clip_weights
    given = plant.scales(file.holder(op, 1))
    if given is not None:
        yield "weight scale x 1.2", "", plant.scale_weights(1.2, one_channel=False)
        if weights.dtype == np.int8:
            yield "weights zero point +3", "", plant.shift_weights_zero_point(3)
        if len(given) > 1:
            yield "weight scale channel x 1.5", "", plant.scale_weights(1.5, one_channel=True)


def _flattened(file: File, op: int) -> Iterator[Proposal]:
    if file.kind(op) != "FULLY_CONNECTED" or file.holder(op, 1) is None:
        return
    writer = file.writer(file.op(op).inputs[0])
    if writer is None or file.kind(writer) != "RESHAPE":
        return
    shape = list(file.input(writer, 0).shape)
    inner = int(np.prod(shape[1:]))
    flat = file.values(op, 1).shape[1] == inner
    if len(shape) == 4 and flat and shape[3] > 1 and shape[1] * shape[2] > 1:
        yield "reshape order", "channels first", plant.flatten_channels_first


def _beta(file: File, op: int, betas: Mapping[str, np.ndarray]) -> Iterator[Proposal]:
    """A bias without the beta of the one batch norm that the bias tensor's name mentions."""
    kind = file.kind(op)
    number = plant.bias_number(kind)
    if kind not in WEIGHTED or file.holder(op, number) is None:
        return
    parts = set(file.input(op, number).name.decode().replace(";", "/").split("/"))
    named = [name for name in betas if name in parts]
    if len(named) == 1 and betas[named[0]].shape == file.values(op, number).shape:
        yield "batch norm without beta", named[0], plant.drop_beta(betas[named[0]])


def _parameters(file: File, op: int) -> Iterator[Proposal]:
    output = file.output(op)
    if plant.scales(output) is None or output.type not in plant.NUMPY:
        return
    limits = np.iinfo(plant.NUMPY[output.type])
    zero = int(output.quantization.zeroPoint[0])
    if file.kind(op) in FIXED_RANGE:
        yield "fixed output scale x 1.5", "", plant.scale_output(1.5)
        return
    if file.kind(op) in SAME_SCALE_KINDS:
        # The kernel copies codes: a scale of its own misreads them, or is refused.
        yield "copied scale x 1.5", "", plant.scale_output(1.5)
        return
    yield "output scale x 1.1", "", plant.scale_output(1.1)
    yield "output scale x 1.5", "", plant.scale_output(1.5)
    if limits.bits > 8:
        return
    for steps in (ZERO_POINT_SHIFT, -ZERO_POINT_SHIFT):
        if limits.min <= zero + steps <= limits.max:
            yield f"zero point {steps:+d}", "", plant.shift_zero_point(steps)


def _activations(file: File, op: int) -> Iterator[Proposal]:
    kind = file.kind(op)
    if kind in ("RELU", "RELU6"):
        other = "RELU6" if kind == "RELU" else "RELU"
        yield "activation changed", f"{kind} to {other}", plant.set_kind(other)
        return
    code = getattr(file.op(op).builtinOptions, "fusedActivationFunction", None)
    if code is None or kind == plant.LSTM:
        return
    name = ACTIVATIONS[code]
    if name == "NONE":
        if kind in (*WEIGHTED, "ADD", "SUB", "MUL"):
            yield "activation added", "RELU", plant.set_activation("RELU")
        return
    yield "activation dropped", name, plant.drop_activation
    other = "RELU6" if name == "RELU" else "RELU"
    yield "activation changed", f"{name} to {other}", plant.set_activation(other)
    yield "activation changed", f"{name} to RELU_N1_TO_1", plant.set_activation("RELU_N1_TO_1")


def _padding(file: File, op: int) -> Iterator[Proposal]:
    kind = file.kind(op)
    if kind == "TRANSPOSE_CONV":
        # It is told the shape of its output, so both paddings are possible.
        other = schema.Padding.VALID if file.op(op).builtinOptions.padding == SAME else SAME
        yield "padding", "SAME and VALID exchanged", plant.set_option("padding", other)
    exchanged = shapes.exchange_padding(file, op)
    if exchanged is not None:
        yield "padding", *exchanged
    if kind in ("PAD", "PADV2") and file.is_constant(op, 1) and np.any(file.values(op, 1)):
        yield "asymmetric padding", "moved to the other side", plant.shift_padding


def _dilation(file: File, op: int) -> Iterator[Proposal]:
    if file.kind(op) not in CONVOLUTIONS or file.holder(op, 1) is None:
        return
    options = file.op(op).builtinOptions
    height, width = file.values(op, 1).shape[1:3]
    if options.padding == SAME and max(height, width) > 1:
        factor = 1 if options.dilationHFactor > 1 else 2
        yield "dilation", f"to {factor}", plant.set_dilation(factor, factor)


def _order(file: File, op: int) -> Iterator[Proposal]:
    kind = file.kind(op)
    if kind in ORDERED and len(file.op(op).inputs) > 1:
        first, second = (int(i) for i in list(file.op(op).inputs)[:2])
        variable = not (file.is_constant(op, 0) or file.is_constant(op, 1))
        same = file.shape(first) == file.shape(second)
        if first != second and variable and same:
            yield "inputs swapped", "", plant.swap_inputs
    if kind == "BATCH_MATMUL":
        *_, rows, columns = file.input(op, 0).shape
        if rows == columns:
            flag = not file.op(op).builtinOptions.adjX
            yield "operand transposed", "the first", plant.set_option("adjX", flag)
    if kind == "TRANSPOSE" and file.is_constant(op, 1):
        yield from _permutation(file, op)
    if kind == plant.LSTM and file.is_constant(op, 2) and file.is_constant(op, 3):
        yield "gates swapped", "forget and cell", plant.swap_inputs_at(2, 3)


def _permutation(file: File, op: int) -> Iterator[Proposal]:
    """Exchange two axes of one size, so that the output's shape stays."""
    shape = list(file.output(op).shape)
    for first in range(len(shape)):
        for second in range(first + 1, len(shape)):
            if shape[first] == shape[second] > 1:
                axes = f"axes {first} and {second}"
                yield "reshape order", axes, plant.swap_permutation(first, second)
                return


def _options(file: File, op: int) -> Iterator[Proposal]:
    kind, options = file.kind(op), file.op(op).builtinOptions
    if kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        half = bool(options.halfPixelCenters)
        toggled = plant.set_resize(align_corners=False, half_pixel_centers=not half)
        yield "half_pixel_centers toggled", f"was {half}", toggled
        corners = bool(options.alignCorners)
        toggled = plant.set_resize(align_corners=not corners, half_pixel_centers=False)
        yield "align_corners toggled", f"was {corners}", toggled
    if kind == "LEAKY_RELU":
        yield "leaky alpha", "doubled", plant.set_option("alpha", 2 * options.alpha)
    if kind == "SOFTMAX":
        yield "softmax beta", "x 1.5", plant.set_option("beta", 1.5 * options.beta)
    if kind in POOL_KINDS:
        yield "pool kind", POOL_KINDS[kind], plant.set_kind(POOL_KINDS[kind])


def _constants(file: File, op: int) -> Iterator[Proposal]:
    output = file.output(op)
    numeric = plant.scales(output) is not None or output.type == schema.TensorType.FLOAT32
    if file.kind(op) not in WITH_CONSTANT or not numeric:
        return
    for number in (0, 1):
        if file.holder(op, number) is not None and np.any(file.values(op, number)):
            yield "constant negated", "", plant.negate_constant_input(number)


_PROPOSERS = (
    _biases,
    _weights,
    _flattened,
    _parameters,
    _activations,
    _padding,
    _dilation,
    _order,
    _options,
    _constants,
)
