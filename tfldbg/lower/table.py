"""The lowering of each kind of operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.lower import elementwise, layout, products

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tfldbg.lower.lowering import Lower

LOWERINGS: Mapping[str, Lower] = {
    **{op: elementwise.of_one(kind) for op, kind in elementwise.SAME_KIND.items()},
    **{op: elementwise.of_two(*kind) for op, kind in elementwise.OF_TWO.items()},
    **{op: layout.reducing(kind) for op, kind in layout.REDUCING.items()},
    "AddN": elementwise.lower_add_n,
    "AvgPool": layout.pooling("AVERAGE_POOL_2D"),
    "BatchMatMul": products.lower_batched_product,
    "BatchMatMulV2": products.lower_batched_product,
    "BatchToSpaceND": layout.lower_space_to_batch,
    "BiasAdd": products.lower_bias,
    "Cast": elementwise.lower_cast,
    "ConcatV2": layout.lower_concat,
    "Conv2D": products.lower_convolution,
    "Conv2DBackpropInput": products.lower_transposed_convolution,
    "Cumsum": layout.lower_cumsum,
    "DepthwiseConv2dNative": products.lower_convolution,
    "Einsum": products.lower_einsum,
    "ExpandDims": layout.lower_reshape,
    "FakeQuantWithMinMaxArgs": elementwise.fake_quant(elementwise.ends_stated),
    "FakeQuantWithMinMaxVars": elementwise.fake_quant(elementwise.ends_given),
    "FakeQuantWithMinMaxVarsPerChannel": elementwise.fake_quant(elementwise.ends_given),
    "FusedBatchNorm": products.lower_batch_norm,
    "FusedBatchNormV2": products.lower_batch_norm,
    "FusedBatchNormV3": products.lower_batch_norm,
    "GatherV2": layout.lower_gather,
    "LeakyRelu": elementwise.lower_leaky_relu,
    "MatMul": products.lower_product,
    "MaxPool": layout.pooling("MAX_POOL_2D"),
    "MirrorPad": layout.lower_mirror_pad,
    "Pack": layout.lower_pack,
    "Pad": layout.lower_pad,
    "PadV2": layout.lower_pad,
    "Relu": products.lower_relu,
    "Relu6": products.lower_relu,
    "Reshape": layout.lower_reshape,
    "ResizeBilinear": layout.lower_resize,
    "ResizeNearestNeighbor": layout.lower_resize,
    "ReverseV2": layout.lower_reverse,
    "Select": elementwise.lower_select,
    "SelectV2": elementwise.lower_select,
    "Selu": elementwise.lower_selu,
    "Slice": layout.lower_slice,
    "Softmax": elementwise.lower_softmax,
    "Softsign": elementwise.lower_softsign,
    "SpaceToBatchND": layout.lower_space_to_batch,
    "Split": layout.lower_split,
    "SplitV": layout.lower_split_by_sizes,
    "Squeeze": layout.lower_reshape,
    "StridedSlice": layout.lower_strided_slice,
    "Tile": layout.lower_tile,
    "Transpose": layout.lower_transpose,
    "Unpack": layout.lower_unpack,
}
"""The lowering by kind of operation; what is not here stays with the framework."""
