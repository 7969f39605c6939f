"""Operations that move elements, choose them, or reduce them along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfldbg.lower.lowering import Lower, NotLoweredError, Site
from tfldbg.lower.operations import ints


def lower_reshape(site: Site) -> Sequence[int]:
    """Lower Reshape, Squeeze, ExpandDims and the like to the shape that one sample has."""
    return site.emit("RESHAPE", [site.given(0), site.held(site.made, "int32")])


def lower_transpose(site: Site) -> Sequence[int]:
    """Lower Transpose."""
    order = site.held(site.constant(1), "int32")
    return site.emit("TRANSPOSE", [site.given(0), order], site.schema.TransposeOptionsT())


def lower_concat(site: Site) -> Sequence[int]:
    """Lower ConcatV2."""
    options = site.schema.ConcatenationOptionsT()
    options.axis = int(site.constant(len(site.operation.inputs) - 1).reshape(()))
    count = len(site.operation.inputs) - 1
    return site.emit("CONCATENATION", [site.given(n) for n in range(count)], options)


def lower_pack(site: Site) -> Sequence[int]:
    """Lower Pack."""
    options = site.schema.PackOptionsT()
    options.axis = site.attribute("axis", 0)
    options.valuesCount = len(site.operation.inputs)
    return site.emit("PACK", [site.given(n) for n in range(options.valuesCount)], options)


def lower_unpack(site: Site) -> Sequence[int]:
    """Lower Unpack."""
    options = site.schema.UnpackOptionsT()
    options.axis, options.num = site.attribute("axis", 0), site.attribute("num")
    outputs = site.outputs(options.num)
    site.context.operator("UNPACK", [site.given(0)], outputs, options)
    return outputs


def lower_split(site: Site) -> Sequence[int]:
    """Lower Split."""
    options = site.schema.SplitOptionsT()
    options.numSplits = site.attribute("num_split")
    outputs = site.outputs(options.numSplits)
    given = [site.held(site.constant(0), "int32"), site.given(1)]
    site.context.operator("SPLIT", given, outputs, options)
    return outputs


def lower_split_by_sizes(site: Site) -> Sequence[int]:
    """Lower SplitV."""
    options = site.schema.SplitVOptionsT()
    options.numSplits = site.attribute("num_split")
    outputs = site.outputs(options.numSplits)
    sizes, axis = (site.held(site.constant(n), "int32") for n in (1, 2))
    site.context.operator("SPLIT_V", [site.given(0), sizes, axis], outputs, options)
    return outputs


def lower_strided_slice(site: Site) -> Sequence[int]:
    """Lower StridedSlice."""
    options = site.schema.StridedSliceOptionsT()
    names = ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask")
    theirs = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    for name, their in zip(names, theirs, strict=True):
        setattr(options, name, site.attribute(their, 0))
    given = [site.held(site.constant(n), "int32") for n in (1, 2, 3)]
    return site.emit("STRIDED_SLICE", [site.given(0), *given], options)


def lower_slice(site: Site) -> Sequence[int]:
    """Lower Slice."""
    given = [site.held(site.constant(n), "int32") for n in (1, 2)]
    return site.emit("SLICE", [site.given(0), *given], site.schema.SliceOptionsT())


def lower_gather(site: Site) -> Sequence[int]:
    """Lower GatherV2."""
    options = site.schema.GatherOptionsT()
    options.axis = int(site.constant(2).reshape(()))
    options.batchDims = site.attribute("batch_dims", 0)
    return site.emit("GATHER", [site.given(0), site.given(1)], options)


def lower_pad(site: Site) -> Sequence[int]:
    """Lower Pad and PadV2."""
    pairs = site.held(site.constant(1), "int32")
    if site.operation.kind == "Pad":
        return site.emit("PAD", [site.given(0), pairs], site.schema.PadOptionsT())
    return site.emit("PADV2", [site.given(0), pairs, site.given(2)], site.schema.PadV2OptionsT())


def lower_mirror_pad(site: Site) -> Sequence[int]:
    """Lower MirrorPad."""
    options = site.schema.MirrorPadOptionsT()
    options.mode = getattr(site.schema.MirrorPadMode, site.attribute("mode"))
    pairs = site.held(site.constant(1), "int32")
    return site.emit("MIRROR_PAD", [site.given(0), pairs], options)


def lower_tile(site: Site) -> Sequence[int]:
    """Lower Tile."""
    times = site.held(site.constant(1), "int32")
    return site.emit("TILE", [site.given(0), times], site.schema.TileOptionsT())


def lower_reverse(site: Site) -> Sequence[int]:
    """Lower ReverseV2."""
    axes = site.held(site.constant(1), "int32")
    return site.emit("REVERSE_V2", [site.given(0), axes], site.schema.ReverseV2OptionsT())


def lower_cumsum(site: Site) -> Sequence[int]:
    """Lower Cumsum."""
    options = site.schema.CumsumOptionsT()
    options.exclusive, options.reverse = (
        site.attribute(n, False) for n in ("exclusive", "reverse")
    )
    axis = site.held(site.constant(1), "int32")
    return site.emit("CUMSUM", [site.given(0), axis], options)


def lower_space_to_batch(site: Site) -> Sequence[int]:
    """Lower SpaceToBatchND and BatchToSpaceND."""
    to_batch = site.operation.kind == "SpaceToBatchND"
    kind = "SPACE_TO_BATCH_ND" if to_batch else "BATCH_TO_SPACE_ND"
    options = site.schema.SpaceToBatchNDOptionsT if to_batch else site.schema.BatchToSpaceNDOptionsT
    given = [site.held(site.constant(n), "int32") for n in (1, 2)]
    return site.emit(kind, [site.given(0), *given], options())


REDUCING = {"Max": "REDUCE_MAX", "Mean": "MEAN", "Min": "REDUCE_MIN", "Prod": "REDUCE_PROD"} | {
    "Sum": "SUM"
}
"""The operators of operations that reduce along axes."""


def reducing(kind: str) -> Lower:
    """Return the lowering of an operation that reduces along axes."""

    def lower(site: Site) -> Sequence[int]:
        options = site.schema.ReducerOptionsT()
        options.keepDims = site.attribute("keep_dims", False)
        axes = site.held(np.atleast_1d(site.constant(1)), "int32")
        return site.emit(kind, [site.given(0), axes], options)

    return lower


def pooling(kind: str) -> Lower:
    """Return the lowering of MaxPool and AvgPool."""

    def lower(site: Site) -> Sequence[int]:
        size, strides = ints(site.attribute("ksize")), ints(site.attribute("strides"))
        padding = site.attribute("padding")
        channels_first = site.attribute("data_format", "NHWC") != "NHWC"
        if padding not in ("SAME", "VALID") or channels_first or size[0] != 1 or size[3] != 1:
            raise NotLoweredError(f"{site.operation.kind} of another form")
        options = site.schema.Pool2DOptionsT()
        options.padding = getattr(site.schema.Padding, padding)
        options.filterHeight, options.filterWidth = size[1:3]
        options.strideH, options.strideW = strides[1:3]
        return site.emit(kind, [site.given(0)], options)

    return lower


def lower_resize(site: Site) -> Sequence[int]:
    """Lower ResizeBilinear and ResizeNearestNeighbor."""
    bilinear = site.operation.kind == "ResizeBilinear"
    schema = site.schema
    options: Any = (
        schema.ResizeBilinearOptionsT() if bilinear else schema.ResizeNearestNeighborOptionsT()
    )
    options.alignCorners = site.attribute("align_corners", False)
    options.halfPixelCenters = site.attribute("half_pixel_centers", False)
    kind = "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR"
    size = site.held(site.constant(1), "int32")
    return site.emit(kind, [site.given(0), size], options)
