"""Operations that compute each element for itself, fake-quant and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfldbg import quant
from tfldbg.graph.model import QuantParams
from tfldbg.lower.lowering import Lower, Site
from tfldbg.reference.graphdef import IDENTITY_OPS, node_of

SAME_KIND = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Elu": "ELU",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "Log": "LOG",
    "LogSoftmax": "LOG_SOFTMAX",
    "LogicalNot": "LOGICAL_NOT",
    "Neg": "NEG",
    "Round": "ROUND",
    "Rsqrt": "RSQRT",
    "Sigmoid": "LOGISTIC",
    "Sin": "SIN",
    "Sqrt": "SQRT",
    "Square": "SQUARE",
    "Tanh": "TANH",
}
"""The operators of operations with one input and no options."""
OF_TWO = {
    "Add": ("ADD", "AddOptionsT"),
    "AddV2": ("ADD", "AddOptionsT"),
    "Equal": ("EQUAL", "EqualOptionsT"),
    "FloorDiv": ("FLOOR_DIV", "FloorDivOptionsT"),
    "FloorMod": ("FLOOR_MOD", "FloorModOptionsT"),
    "Greater": ("GREATER", "GreaterOptionsT"),
    "GreaterEqual": ("GREATER_EQUAL", "GreaterEqualOptionsT"),
    "Less": ("LESS", "LessOptionsT"),
    "LessEqual": ("LESS_EQUAL", "LessEqualOptionsT"),
    "LogicalAnd": ("LOGICAL_AND", "LogicalAndOptionsT"),
    "LogicalOr": ("LOGICAL_OR", "LogicalOrOptionsT"),
    "Maximum": ("MAXIMUM", "MaximumMinimumOptionsT"),
    "Minimum": ("MINIMUM", "MaximumMinimumOptionsT"),
    "Mul": ("MUL", "MulOptionsT"),
    "NotEqual": ("NOT_EQUAL", "NotEqualOptionsT"),
    "Pow": ("POW", "PowOptionsT"),
    "RealDiv": ("DIV", "DivOptionsT"),
    "SquaredDifference": ("SQUARED_DIFFERENCE", "SquaredDifferenceOptionsT"),
    "Sub": ("SUB", "SubOptionsT"),
}
"""The operators of operations with two inputs, and their options."""
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""G. Klambauer et al., Self-Normalizing Neural Networks, 2017."""


def of_one(kind: str) -> Lower:
    """Return the lowering of an operation with one input and no options."""
    return lambda site: site.emit(kind, [site.given(0)])


def of_two(kind: str, options: str) -> Lower:
    """Return the lowering of an operation with two inputs that broadcast."""

    def lower(site: Site) -> Sequence[int]:
        given = [site.given(0), site.given(1)]
        return site.emit(kind, given, getattr(site.schema, options)())

    return lower


def lower_leaky_relu(site: Site) -> Sequence[int]:
    """Lower LeakyRelu."""
    options = site.schema.LeakyReluOptionsT()
    options.alpha = site.attribute("alpha", 0.2)
    return site.emit("LEAKY_RELU", [site.given(0)], options)


def lower_selu(site: Site) -> Sequence[int]:
    """Lower Selu: ``scale * (max(x, 0) + alpha * (exp(min(x, 0)) - 1))``."""
    schema, given, shape = site.schema, site.given(0), site.made
    zero = site.held([0.0])
    above = site.floats("RELU", [given], shape)
    below = site.floats("MINIMUM", [given, zero], shape, schema.MaximumMinimumOptionsT())
    curved = site.floats("ELU", [below], shape)
    steep = site.floats("MUL", [curved, site.held([_SELU_ALPHA])], shape, schema.MulOptionsT())
    whole = site.floats("ADD", [above, steep], shape, schema.AddOptionsT())
    return site.emit("MUL", [whole, site.held([_SELU_SCALE])], schema.MulOptionsT())


def lower_softsign(site: Site) -> Sequence[int]:
    """Lower Softsign: ``x / (abs(x) + 1)``."""
    schema, given, shape = site.schema, site.given(0), site.made
    size = site.floats("ABS", [given], shape)
    more = site.floats("ADD", [size, site.held([1.0])], shape, schema.AddOptionsT())
    return site.emit("DIV", [given, more], schema.DivOptionsT())


def lower_softmax(site: Site) -> Sequence[int]:
    """Lower Softmax."""
    options = site.schema.SoftmaxOptionsT()
    options.beta = 1.0
    return site.emit("SOFTMAX", [site.given(0)], options)


def lower_cast(site: Site) -> Sequence[int]:
    """Lower Cast."""
    return site.emit("CAST", [site.given(0)], site.schema.CastOptionsT())


def lower_select(site: Site) -> Sequence[int]:
    """Lower Select and SelectV2."""
    given = [site.given(n) for n in range(3)]
    return site.emit("SELECT_V2", given, site.schema.SelectV2OptionsT())


def lower_add_n(site: Site) -> Sequence[int]:
    """Lower AddN, from the first input to the last."""
    count, schema = len(site.operation.inputs), site.schema
    if count == 1:
        return [site.given(0)]
    total = site.given(0)
    for number in range(1, count - 1):
        total = site.floats("ADD", [total, site.given(number)], site.made, schema.AddOptionsT())
    return site.emit("ADD", [total, site.given(count - 1)], schema.AddOptionsT())


_LIFT = 2.0**-14
"""The part of a step by which halves are lifted: float32 holds it beside 255 steps."""
_SUMS = frozenset(
    {"BiasAdd", "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "MatMul"}
    | {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
)
_PASSING = frozenset({"Relu", "Relu6", "Reshape", "Squeeze", "ExpandDims"} | IDENTITY_OPS)

Ends = Callable[[Site], tuple[Sequence[float], Sequence[float]]]
"""A function that returns the lower and the upper ends of the ranges of a fake-quant: one, or one
per channel."""


def fake_quant(ends: Ends) -> Lower:
    """Return the lowering of a fake-quant: QUANTIZE and DEQUANTIZE, or arithmetic.

    The operators round halves to even codes, and TensorFlow rounds them up.  So halves are lifted
    by a little first, unless the values come from a sum of products, where halves do not occur.
    If the known sample still shows a difference, arithmetic makes the steps.

    Args:
        ends: Returns the ends of the ranges.
    """

    def lower(site: Site) -> Sequence[int]:
        bits, narrow = site.attribute("num_bits", 8), site.attribute("narrow_range", False)
        ranges = [
            quant.nudge(low, high, bits, narrow) for low, high in zip(*ends(site), strict=True)
        ]
        if all(nudged.scale == 0 for nudged in ranges):  # TensorFlow makes zeros of an empty range
            zero = site.held([0.0])
            return site.emit("MUL", [site.given(0), zero], site.schema.MulOptionsT())
        lift = 0.0 if _is_sum(site) else _LIFT * ranges[0].scale
        if bits == 8 and len(ranges) == 1 and not narrow and _rounds_alike(site, ranges[0], lift):
            return _through_codes(site, ranges[0], lift)
        return _in_steps(site, ranges, 2**bits - 1 - narrow)

    return lower


def _is_sum(site: Site) -> bool:
    """Return whether the values of a fake-quant are sums of products with constants."""
    context = site.context
    name = site.operation.inputs[0]
    while name not in context.cuts and not context.operations.is_constant(name):
        operation = context.operations.operations[node_of(name)]
        if operation.kind in _SUMS:
            return True
        if operation.kind not in _PASSING:
            return False
        name = operation.inputs[0]
    return False


def _rounds_alike(site: Site, nudged: quant.Nudged, lift: float) -> bool:
    """Return whether the operators make of the known sample what TensorFlow made."""
    values = site.context.operations.values
    given, made = values[site.operation.inputs[0]], values[site.operation.name]
    steps = (given + np.float32(lift)) * np.float32(1 / nudged.scale)
    codes = np.clip(np.rint(steps), *_code_ends(nudged))
    return bool(np.allclose(codes * nudged.scale, made, rtol=0, atol=0.01 * nudged.scale))


def _code_ends(nudged: quant.Nudged) -> tuple[int, int]:
    """Return the lowest and highest code, counted from that of zero."""
    return -nudged.zero_point, 255 - nudged.zero_point


def _through_codes(site: Site, nudged: quant.Nudged, lift: float) -> Sequence[int]:
    zero = nudged.zero_point + quant.code_range("INT8")[0]
    params = QuantParams(np.array([nudged.scale], np.float32), np.array([zero], np.int64), 0)
    between = site.draft.tensor("INT8", site.made, quant=params)
    given = site.given(0)
    if lift:
        lifted = [given, site.held([lift])]
        given = site.floats("ADD", lifted, site.made, site.schema.AddOptionsT())
    site.context.operator("QUANTIZE", [given], [between])
    return site.emit("DEQUANTIZE", [between])


def _in_steps(site: Site, ranges: Sequence[quant.Nudged], most: int) -> Sequence[int]:
    """Emit ``floor(min(max((x - minimum) / scale, 0), most) + 0.5) * scale + minimum``."""
    schema, shape = site.schema, site.made
    minimum, scale = (site.held([getattr(r, n) for r in ranges]) for n in ("minimum", "scale"))
    steps = site.held([1 / r.scale for r in ranges])
    value = site.floats("SUB", [site.given(0), minimum], shape, schema.SubOptionsT())
    value = site.floats("MUL", [value, steps], shape, schema.MulOptionsT())
    for kind, end in (("MAXIMUM", 0.0), ("MINIMUM", float(most))):
        options = schema.MaximumMinimumOptionsT()
        value = site.floats(kind, [value, site.held([end])], shape, options)
    value = site.floats("ADD", [value, site.held([0.5])], shape, schema.AddOptionsT())
    value = site.floats("FLOOR", [value], shape)
    value = site.floats("MUL", [value, scale], shape, schema.MulOptionsT())
    return site.emit("ADD", [value, minimum], schema.AddOptionsT())


def ends_given(site: Site) -> tuple[Sequence[float], Sequence[float]]:
    """Return the ends of FakeQuantWithMinMaxVars, also of those per channel."""
    low, high = (site.constant(n).reshape(-1).tolist() for n in (1, 2))
    return low, high


def ends_stated(site: Site) -> tuple[Sequence[float], Sequence[float]]:
    """Return the ends of FakeQuantWithMinMaxArgs."""
    return [site.attribute("min", -6.0)], [site.attribute("max", 6.0)]
