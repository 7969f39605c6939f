"""The graph operations that a TFLite operator can represent."""

from __future__ import annotations

from collections.abc import Mapping

REFERENCE_OPS: Mapping[str, frozenset[str]] = {
    "ABS": frozenset({"Abs"}),
    "ADD": frozenset({"Add", "AddV2", "BiasAdd"}),
    "ADD_N": frozenset({"AddN"}),
    "ARG_MAX": frozenset({"ArgMax"}),
    "ARG_MIN": frozenset({"ArgMin"}),
    "AVERAGE_POOL_2D": frozenset({"AvgPool", "Mean"}),
    "BATCH_MATMUL": frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"}),
    "BATCH_TO_SPACE_ND": frozenset({"BatchToSpaceND", "Conv2D", "DepthwiseConv2dNative"}),
    "BROADCAST_TO": frozenset({"BroadcastTo"}),
    "CEIL": frozenset({"Ceil"}),
    "CONCATENATION": frozenset({"ConcatV2", "Concat"}),
    # Keras calls a compiled function for a grouped convolution.
    "CONV_2D": frozenset({"Conv2D", "PartitionedCall", "StatefulPartitionedCall"}),
    "CONV_3D": frozenset({"Conv3D"}),
    "CONV_3D_TRANSPOSE": frozenset({"Conv3DBackpropInputV2"}),
    "COS": frozenset({"Cos"}),
    "CUMSUM": frozenset({"Cumsum"}),
    "DEPTHWISE_CONV_2D": frozenset({"DepthwiseConv2dNative", "Conv2D"}),
    "DEPTH_TO_SPACE": frozenset({"DepthToSpace"}),
    "DIV": frozenset({"RealDiv", "Div"}),
    "ELU": frozenset({"Elu"}),
    "EQUAL": frozenset({"Equal"}),
    "EXP": frozenset({"Exp"}),
    "EXPAND_DIMS": frozenset({"ExpandDims", "Reshape"}),
    "FILL": frozenset({"Fill"}),
    "FLOOR": frozenset({"Floor"}),
    "FLOOR_DIV": frozenset({"FloorDiv"}),
    "FLOOR_MOD": frozenset({"FloorMod"}),
    "FULLY_CONNECTED": frozenset({"MatMul", "BatchMatMulV2"}),
    "GATHER": frozenset({"GatherV2", "Gather", "ResourceGather"}),
    "GATHER_ND": frozenset({"GatherNd"}),
    "GREATER": frozenset({"Greater"}),
    "GREATER_EQUAL": frozenset({"GreaterEqual"}),
    "LEAKY_RELU": frozenset({"LeakyRelu"}),
    "LESS": frozenset({"Less"}),
    "LESS_EQUAL": frozenset({"LessEqual"}),
    "LOCAL_RESPONSE_NORMALIZATION": frozenset({"LRN"}),
    "LOG": frozenset({"Log"}),
    "LOGICAL_AND": frozenset({"LogicalAnd"}),
    "LOGICAL_NOT": frozenset({"LogicalNot"}),
    "LOGICAL_OR": frozenset({"LogicalOr"}),
    "LOGISTIC": frozenset({"Sigmoid"}),
    "LOG_SOFTMAX": frozenset({"LogSoftmax"}),
    "MATRIX_DIAG": frozenset({"MatrixDiag"}),
    "MAXIMUM": frozenset({"Maximum"}),
    "MAX_POOL_2D": frozenset({"MaxPool", "Max"}),
    "MEAN": frozenset({"Mean"}),
    "MINIMUM": frozenset({"Minimum"}),
    "MIRROR_PAD": frozenset({"MirrorPad"}),
    "MUL": frozenset({"Mul"}),
    "NEG": frozenset({"Neg"}),
    "NOT_EQUAL": frozenset({"NotEqual"}),
    "ONE_HOT": frozenset({"OneHot"}),
    "PACK": frozenset({"Pack"}),
    "PAD": frozenset({"Pad", "PadV2"}),
    "PADV2": frozenset({"PadV2"}),
    "POW": frozenset({"Pow"}),
    "RANGE": frozenset({"Range"}),
    "REDUCE_ALL": frozenset({"All"}),
    "REDUCE_ANY": frozenset({"Any"}),
    "REDUCE_MAX": frozenset({"Max"}),
    "REDUCE_MIN": frozenset({"Min"}),
    "REDUCE_PROD": frozenset({"Prod"}),
    "RELU": frozenset({"Relu"}),
    "RELU6": frozenset({"Relu6"}),
    "RESHAPE": frozenset({"Reshape", "Squeeze", "ExpandDims"}),
    "RESIZE_BILINEAR": frozenset({"ResizeBilinear"}),
    "RESIZE_NEAREST_NEIGHBOR": frozenset({"ResizeNearestNeighbor"}),
    "REVERSE_V2": frozenset({"ReverseV2"}),
    "ROUND": frozenset({"Round"}),
    "RSQRT": frozenset({"Rsqrt"}),
    "SCATTER_ND": frozenset({"ScatterNd"}),
    "SELECT": frozenset({"Select", "SelectV2"}),
    "SELECT_V2": frozenset({"Select", "SelectV2"}),
    "SIGN": frozenset({"Sign"}),
    "SIN": frozenset({"Sin"}),
    "SLICE": frozenset({"Slice"}),
    "SOFTMAX": frozenset({"Softmax"}),
    "SPACE_TO_BATCH_ND": frozenset({"SpaceToBatchND"}),
    "SPACE_TO_DEPTH": frozenset({"SpaceToDepth"}),
    "SPLIT": frozenset({"Split"}),
    "SPLIT_V": frozenset({"SplitV"}),
    "SQRT": frozenset({"Sqrt"}),
    "SQUARE": frozenset({"Square"}),
    "SQUARED_DIFFERENCE": frozenset({"SquaredDifference"}),
    "SQUEEZE": frozenset({"Squeeze", "Reshape"}),
    "STRIDED_SLICE": frozenset({"StridedSlice"}),
    "SUB": frozenset({"Sub"}),
    "SUM": frozenset({"Sum"}),
    "TANH": frozenset({"Tanh"}),
    "TILE": frozenset({"Tile"}),
    "TOPK_V2": frozenset({"TopKV2"}),
    "TRANSPOSE": frozenset({"Transpose"}),
    "TRANSPOSE_CONV": frozenset({"Conv2DBackpropInput"}),
    "UNPACK": frozenset({"Unpack"}),
    "WHERE": frozenset({"Where"}),
    "ZEROS_LIKE": frozenset({"ZerosLike"}),
}
"""The TensorFlow operations whose value a TFLite operator can compute, by operator kind."""

MAIN_OPS = frozenset(
    {
        "AvgPool",
        "BatchMatMulV2",
        "ConcatV2",
        "Conv2D",
        "Conv2DBackpropInput",
        "DepthwiseConv2dNative",
        "MatMul",
        "MaxPool",
    }
)
"""Operations that one TFLite operator computes and that are not folded into another."""

PASSED_THROUGH = frozenset({"Identity", "Pad", "PadV2", "SpaceToBatchND", "Reshape", "Squeeze"})
"""Operations that the converter may fold into the operator after them."""

HANDED_ON = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST"})
"""Operators whose output holds the values of their input in the same order."""

MOVING = HANDED_ON | {
    *("BATCH_TO_SPACE_ND", "BROADCAST_TO", "CONCATENATION", "DEPTH_TO_SPACE", "GATHER"),
    *("GATHER_ND", "MIRROR_PAD", "PACK", "PAD", "PADV2", "REVERSE_V2", "SLICE", "SPLIT", "SPLIT_V"),
    *("SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK"),
}
"""Operators that move values and compute none; some of them may leave all values in place."""

COMPUTING = frozenset(REFERENCE_OPS.keys() - MOVING)
"""Operators whose output is a new value."""

REQUANTIZING = frozenset({"QUANTIZE", "DEQUANTIZE"})
"""Operators that change how values are stored and that have no node in the reference."""

SEVERAL_OUTPUTS = frozenset({"Split", "SplitV", "Unpack", "TopKV2"})
"""Operations with more than one output, in the order of the TFLite operator's outputs."""

DIVIDING = frozenset({"SPLIT", "SPLIT_V", "UNPACK"})
"""Operators whose outputs are parts of their input, all of the same kind."""

CARRIED = "carried"
"""The rule of a match that is passed on through an operator of `HANDED_ON`."""

LOOKALIKE = "lookalike"
"""The rule of a match with an operation of another kind."""

LOOKALIKES = (
    frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU"}),
    frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D"}),
    frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"}),
    frozenset({"MAXIMUM", "MINIMUM"}),
    frozenset({"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}),
    frozenset({"ADD", "SUB"}),
)
"""Kinds that a converter or an editor may have confused."""
