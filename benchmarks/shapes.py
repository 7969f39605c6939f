"""What another padding of one operator makes of the shapes behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from sample_models.plant import Change, File

Size = tuple[int, int]
"""Height and width of a tensor."""
Sizes = dict[int, Size]
"""By tensor its new height and width."""

POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", *POOLS)
ELEMENTWISE = (
    "ADD",
    "CONCATENATION",
    "LEAKY_RELU",
    "LOGISTIC",
    "MUL",
    "QUANTIZE",
    "DEQUANTIZE",
    "RELU",
    "RELU6",
    "SUB",
)
REDUCTIONS = ("MEAN", "REDUCE_MAX")


def exchange_padding(file: File, op: int) -> tuple[str, Change] | None:
    """Exchange SAME and VALID, where every operator behind takes the new shape.

    For a convolution or a pool the two give one shape only where SAME pads nothing:
    out = ceil(n / s) = ceil((n - k + 1) / s) implies (out - 1) s + k <= n.  So the fault has an
    effect only if the shape changes; that is possible up to a reduction over height and width.

    Returns:
        What changes and the change, None where it is not possible or without effect.
    """
    if file.kind(op) not in WINDOWED or file.output(op).shape is None:
        return None
    old = file.op(op).builtinOptions.padding
    new = schema.Padding.VALID if old == schema.Padding.SAME else schema.Padding.SAME
    sizes = _propagated(file, op, new)
    if not sizes:
        return None

    def change(changed: File, number: int) -> None:
        changed.op(number).builtinOptions.padding = new
        for index, size in sizes.items():
            _resize(changed.tensor(index), size)

    before, after = _size(file, file.op(op).outputs[0]), sizes[int(file.op(op).outputs[0])]
    names = ("VALID", "SAME") if new == schema.Padding.SAME else ("SAME", "VALID")
    return f"{names[0]} to {names[1]}, {before} to {after}", change


def _propagated(file: File, op: int, padding: int) -> Sizes | None:
    """Sizes of the tensors that change; None if nothing does or an operator cannot take it."""
    written = int(file.op(op).outputs[0])
    size = _window(file, op, _size(file, file.op(op).inputs[0]), padding)
    if size == _size(file, written) or min(size) < 1:
        return None
    sizes = {written: size}
    for reader in range(op + 1, file.count):
        reads = [int(i) for i in file.op(reader).inputs if int(i) in sizes]
        if not reads or _reduces_space(file, reader):
            continue
        after = _size_after(file, reader, sizes)
        if after is None or min(after) < 1:
            return None
        sizes[int(file.op(reader).outputs[0])] = after
    return None if set(sizes) & {int(i) for i in file.subgraph.outputs} else sizes


def _size_after(file: File, op: int, sizes: Sizes) -> Size | None:
    kind = file.kind(op)
    first = int(file.op(op).inputs[0])
    if kind in WINDOWED and first in sizes:
        return _window(file, op, sizes[first], file.op(op).builtinOptions.padding)
    if kind not in ELEMENTWISE:
        return None
    variable = [n for n in range(len(file.op(op).inputs)) if file.holder(op, n) is None]
    found = {_any_size(file, int(file.op(op).inputs[n]), sizes) for n in variable}
    return found.pop() if len(found) == 1 else None


def _any_size(file: File, index: int, sizes: Sizes) -> Size | None:
    return sizes.get(index) or _size(file, index)


def _size(file: File, index: int) -> Size:
    shape = [int(d) for d in file.tensor(index).shape]
    return (shape[1], shape[2]) if len(shape) == 4 else (0, 0)


def _window(file: File, op: int, size: Size, padding: int) -> Size:
    """Height and width behind a window (TensorFlow, ``GetWindowedOutputSize``)."""
    options = file.op(op).builtinOptions
    kernel = _kernel(file, op, options)
    strides = (options.strideH, options.strideW)
    if padding == schema.Padding.SAME:
        found = [-(-n // s) for n, s in zip(size, strides, strict=True)]
    else:
        found = [-(-(n - k + 1) // s) for n, k, s in zip(size, kernel, strides, strict=True)]
    return found[0], found[1]


def _kernel(file: File, op: int, options: Any) -> Size:
    if file.kind(op) in POOLS:
        return options.filterHeight, options.filterWidth
    height, width = (int(d) for d in file.input(op, 1).shape[1:3])
    return (height - 1) * options.dilationHFactor + 1, (width - 1) * options.dilationWFactor + 1


def _reduces_space(file: File, op: int) -> bool:
    if file.kind(op) not in REDUCTIONS or not file.is_constant(op, 1):
        return False
    return set(np.atleast_1d(file.values(op, 1)).tolist()) == {1, 2}


def _resize(tensor: Any, size: Size) -> None:
    shape = np.array(tensor.shape, np.int32)
    shape[1:3] = size
    tensor.shape = shape
    if tensor.shapeSignature is not None:
        signature = np.array(tensor.shapeSignature, np.int32)
        signature[1:3] = size
        tensor.shapeSignature = signature
