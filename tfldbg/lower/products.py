"""Convolutions, matrix products, and what is folded into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.lower.lowering import NotLoweredError, Site

_PADDED = ("SAME", "VALID")


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A convolution whose result may still be scaled, shifted and cut off."""

    site: Site
    """The operation of the convolution."""
    filters: NDArray[np.float64]
    """(H, W, input channels, output channels), or (H, W, channels, multiplier) of a depthwise
    one."""
    bias: NDArray[np.float64]
    """(output channels,)"""
    depthwise: bool
    activation: str = "NONE"

    def scaled(self, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> Convolution:
        """Return the convolution with its result multiplied and then shifted by channel."""
        by_filter = factor.reshape(self.filters.shape[2:]) if self.depthwise else factor
        return replace(self, filters=self.filters * by_filter, bias=self.bias * factor + shift)

    def emit(self, made: Site) -> list[int]:
        """Emit the convolution as the result of an operation."""
        site, schema = self.site, made.schema
        given, padding = _padded(site)
        strides = site.attribute("strides")
        dilations = site.attribute("dilations", (1, 1, 1, 1))
        if self.depthwise:
            options = schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = self.filters.shape[3]
            height, width, *_ = self.filters.shape
            filters = self.filters.reshape(1, height, width, -1)
        else:
            options = schema.Conv2DOptionsT()
            filters = self.filters.transpose(3, 0, 1, 2)
        options.padding = getattr(schema.Padding, padding)
        options.strideH, options.strideW = strides[1:3]
        options.dilationHFactor, options.dilationWFactor = dilations[1:3]
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, self.activation)
        kind = "DEPTHWISE_CONV_2D" if self.depthwise else "CONV_2D"
        return made.emit(kind, [given, made.held(filters), made.held(self.bias)], options)


def _padded(site: Site) -> tuple[int, str]:
    """Return the input and the padding of a convolution; other paddings are made before it."""
    padding, given = site.attribute("padding"), site.given(0)
    if site.attribute("data_format", "NHWC") != "NHWC":
        raise NotLoweredError(f"{site.operation.kind} with channels first")
    if padding in _PADDED:
        return given, padding
    pairs = np.array(site.attribute("explicit_paddings"), np.int32).reshape(-1, 2)
    shape = np.array(site.shape(0)) + pairs.sum(1)
    options = site.schema.PadOptionsT()
    return site.floats("PAD", [given, site.held(pairs, "int32")], shape.tolist(), options), "VALID"


def convolution(site: Site) -> Convolution:
    """Return the convolution of an operation.

    Raises:
        NotLoweredError: Its filters are computed.
    """
    filters = site.constant(1).astype(np.float64)
    depthwise = site.operation.kind == "DepthwiseConv2dNative"
    if filters.ndim != 4:
        raise NotLoweredError(f"{site.operation.kind} with filters of {filters.ndim} dimensions")
    channels = filters.shape[2] * filters.shape[3] if depthwise else filters.shape[3]
    return Convolution(site, filters, np.zeros(channels), depthwise)


def lower_convolution(site: Site) -> Sequence[int]:
    """Lower Conv2D and DepthwiseConv2dNative."""
    return convolution(site).emit(site)


def _folded(site: Site) -> Convolution | None:
    """Return what an operation makes of the convolution that it alone reads, or None."""
    operation = site.operation
    before = site.context.absorbed(operation.inputs[0])
    if before is None:
        return None
    inner = Site(before, site.context)
    if before.kind in ("Conv2D", "DepthwiseConv2dNative"):
        found: Convolution | None = convolution(inner)
    else:
        found = _folded(inner) if before.kind in _FOLDING else None
    if found is None or found.activation != "NONE":
        return None
    return _FOLDING[operation.kind](site, found)


def _with_bias(site: Site, found: Convolution) -> Convolution | None:
    if not site.is_constant(1) or site.constant(1).size != found.bias.size:
        return None
    bias = site.constant(1).astype(np.float64).reshape(-1)
    return found.scaled(np.ones_like(bias), bias)


def _with_norm(site: Site, found: Convolution) -> Convolution | None:
    factor, shift = batch_norm(site)
    return found.scaled(factor, shift) if factor.size == found.bias.size else None


def _with_relu(site: Site, found: Convolution) -> Convolution:
    return replace(found, activation=site.operation.kind.upper())


_FOLDING: dict[str, Callable[[Site, Convolution], Convolution | None]] = {
    "BiasAdd": _with_bias,
    "FusedBatchNorm": _with_norm,
    "FusedBatchNormV2": _with_norm,
    "FusedBatchNormV3": _with_norm,
    "Relu": _with_relu,
    "Relu6": _with_relu,
}
"""What each operation makes of a convolution before it."""


def batch_norm(site: Site) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the factor and the shift of a batch norm by channel.

    Raises:
        NotLoweredError: It is in training, or its parameters are computed or not finite.
    """
    if site.attribute("is_training", False) or site.attribute("data_format", "NHWC") != "NHWC":
        raise NotLoweredError(f"{site.operation.kind} in training or with channels first")
    scale, offset, mean, variance = (site.constant(n).astype(np.float64) for n in range(1, 5))
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + site.attribute("epsilon"))
    shift = offset - mean * factor
    if not np.isfinite([factor, shift]).all():
        raise NotLoweredError(f"{site.operation.kind} that is not finite")
    return factor, shift


def lower_batch_norm(site: Site) -> Sequence[int]:
    """Lower FusedBatchNorm, into the convolution before it if it can be."""
    if site.attribute("is_training", False):
        return _normalized(site)
    folded = _folded(site)
    if folded is not None:
        return folded.emit(site)
    factor, shift = batch_norm(site)
    schema = site.schema
    scaled = site.floats("MUL", [site.given(0), site.held(factor)], site.made, schema.MulOptionsT())
    return site.emit("ADD", [scaled, site.held(shift)], schema.AddOptionsT())


def _normalized(site: Site) -> Sequence[int]:
    """Lower FusedBatchNorm that normalizes by the sample, as Keras' LayerNormalization uses it.

    Raises:
        NotLoweredError: Its channels come last, so that samples are normalized together.
    """
    if site.attribute("data_format", "NHWC") != "NCHW":
        raise NotLoweredError(f"{site.operation.kind} in training")
    schema, given, shape = site.schema, site.given(0), site.made
    by_channel = (1, shape[1], 1, 1)
    axes, reducing = site.held([0, 2, 3], "int32"), schema.ReducerOptionsT()
    reducing.keepDims = True
    scale, offset = (site.constant(n).reshape(by_channel) for n in (1, 2))
    mean = site.floats("MEAN", [given, axes], by_channel, reducing)
    centered = site.floats("SUB", [given, mean], shape, schema.SubOptionsT())
    squares = site.floats("MUL", [centered, centered], shape, schema.MulOptionsT())
    variance = site.floats("MEAN", [squares, axes], by_channel, reducing)
    epsilon = site.held([site.attribute("epsilon")])
    raised = site.floats("ADD", [variance, epsilon], by_channel, schema.AddOptionsT())
    factor = site.floats("RSQRT", [raised], by_channel)
    steep = site.floats("MUL", [factor, site.held(scale)], by_channel, schema.MulOptionsT())
    scaled = site.floats("MUL", [centered, steep], shape, schema.MulOptionsT())
    return site.emit("ADD", [scaled, site.held(offset)], schema.AddOptionsT())


def lower_bias(site: Site) -> Sequence[int]:
    """Lower BiasAdd, into the convolution or product before it if it can be.

    Raises:
        NotLoweredError: Its channels come first.
    """
    if site.attribute("data_format", "NHWC") != "NHWC":
        raise NotLoweredError("BiasAdd with channels first")
    folded = _folded(site)
    if folded is not None:
        return folded.emit(site)
    before = site.context.absorbed(site.operation.inputs[0])
    if before is not None and before.kind == "MatMul" and site.is_constant(1):
        inner = Site(before, site.context)
        if inner.is_constant(1):
            return _fully_connected(inner, site, site.constant(1))
    return site.emit("ADD", [site.given(0), site.given(1)], site.schema.AddOptionsT())


def lower_relu(site: Site) -> Sequence[int]:
    """Lower Relu and Relu6, into the convolution before them if it can be."""
    folded = _folded(site)
    if folded is not None:
        return folded.emit(site)
    return site.emit(site.operation.kind.upper(), [site.given(0)])


def _fully_connected(site: Site, made: Site, bias: NDArray[Any] | None = None) -> list[int]:
    """Emit a product with a constant matrix as the result of an operation."""
    if site.attribute("transpose_a", False):
        raise NotLoweredError("MatMul with a transposed first input")
    matrix = site.constant(1)
    weights = matrix if site.attribute("transpose_b", False) else matrix.T
    shift = np.zeros(len(weights)) if bias is None else bias
    options = site.schema.FullyConnectedOptionsT()
    inputs = [site.given(0), made.held(np.ascontiguousarray(weights)), made.held(shift)]
    return made.emit("FULLY_CONNECTED", inputs, options)


def lower_product(site: Site) -> Sequence[int]:
    """Lower MatMul."""
    if site.is_constant(1) and not site.is_constant(0):
        return _fully_connected(site, site)
    options = site.schema.BatchMatMulOptionsT()
    options.adjX = site.attribute("transpose_a", False)
    options.adjY = site.attribute("transpose_b", False)
    return site.emit("BATCH_MATMUL", [site.given(0), site.given(1)], options)


def lower_batched_product(site: Site) -> Sequence[int]:
    """Lower BatchMatMulV2."""
    options = site.schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = (site.attribute(n, False) for n in ("adj_x", "adj_y"))
    return site.emit("BATCH_MATMUL", [site.given(0), site.given(1)], options)


def lower_transposed_convolution(site: Site) -> Sequence[int]:
    """Lower Conv2DBackpropInput."""
    if site.attribute("padding") not in _PADDED:
        raise NotLoweredError("Conv2DBackpropInput with explicit padding")
    if set(site.attribute("dilations", (1,))) != {1}:
        raise NotLoweredError("Conv2DBackpropInput with a dilation")
    if site.attribute("data_format", "NHWC") != "NHWC":
        raise NotLoweredError("Conv2DBackpropInput with channels first")
    options = site.schema.TransposeConvOptionsT()
    options.padding = getattr(site.schema.Padding, site.attribute("padding"))
    options.strideH, options.strideW = site.attribute("strides")[1:3]
    weights = np.ascontiguousarray(site.constant(1).transpose(2, 0, 1, 3))
    size = site.held(site.made, "int32")
    return site.emit("TRANSPOSE_CONV", [size, site.held(weights), site.given(2)], options)


def lower_einsum(site: Site) -> Sequence[int]:
    """Lower an Einsum of two tensors, which is a matrix product between transpositions.

    Raises:
        NotLoweredError: It has another form.
    """
    equation = site.attribute("equation").replace(" ", "")
    terms, _, result = equation.partition("->")
    sides = terms.split(",")
    if len(sides) != 2 or "." in equation or any(len(set(t)) < len(t) for t in (*sides, result)):
        raise NotLoweredError(f"Einsum {equation}")
    one, other = sides
    sizes = {
        **dict(zip(one, site.shape(0), strict=True)),
        **dict(zip(other, site.shape(1), strict=True)),
    }
    batch = [c for c in one if c in other and c in result]
    summed = [c for c in one if c in other and c not in result]
    left, right = ([c for c in side if c not in batch + summed] for side in sides)
    if not set(left + right) <= set(result):
        raise NotLoweredError(f"Einsum {equation}")
    matrices = [
        _arranged(site, 0, one, (batch, left, summed), sizes),
        _arranged(site, 1, other, (batch, summed, right), sizes),
    ]
    shape = [_size(part, sizes) for part in (batch, left, right)]
    options = site.schema.BatchMatMulOptionsT()
    product = site.floats("BATCH_MATMUL", matrices, shape, options)
    spread = [*batch, *left, *right]
    whole = _reshaped(site, product, [sizes[c] for c in spread])
    order = [spread.index(c) for c in result]
    return site.emit(
        "TRANSPOSE", [whole, site.held(order, "int32")], site.schema.TransposeOptionsT()
    )


def _size(labels: Sequence[str], sizes: dict[str, int]) -> int:
    return int(np.prod([sizes[c] for c in labels], dtype=np.int64))


def _arranged(
    site: Site, number: int, labels: str, parts: Sequence[Sequence[str]], sizes: dict[str, int]
) -> int:
    """Return an input as a batch of matrices (batch, rows, columns)."""
    order = [labels.index(c) for part in parts for c in part]
    shape = [_size(part, sizes) for part in parts]
    if site.is_constant(number):
        return site.held(
            np.ascontiguousarray(site.constant(number).transpose(order)).reshape(shape)
        )
    moved = site.floats(
        "TRANSPOSE",
        [site.given(number), site.held(order, "int32")],
        [sizes[labels[n]] for n in order],
        site.schema.TransposeOptionsT(),
    )
    return _reshaped(site, moved, shape)


def _reshaped(site: Site, tensor: int, shape: Sequence[int]) -> int:
    return site.floats("RESHAPE", [tensor, site.held(shape, "int32")], shape)
