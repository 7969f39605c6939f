"""Compare TFLite's quantization parameters with those of the reference without running the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tfldbg import quant
from tfldbg.compare.constants.candidates import bias_index, has_weights
from tfldbg.compare.constants.folding import Folded, fold, product_scale
from tfldbg.compare.constants.weights import WeightCheck, check_folded
from tfldbg.compare.segments import cut
from tfldbg.graph.query import stored
from tfldbg.match.settle import same_parameters
from tfldbg.reference.graphdef import FakeQuant, RefGraph, node_of

if TYPE_CHECKING:
    from tfldbg.compare.constants.turned import Turn
    from tfldbg.compare.ranges.table import RangeTable
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor
    from tfldbg.match.model import Match, Matching
    from tfldbg.reference.evaluate import Frozen

_PRODUCT = 1e-6
"""The largest relative difference of a bias's scale from input scale times weight scale.  Both
factors, their product and the scale are float32: four roundings of 2**-24."""
_DEAD = 1e-9
"""The share of the largest scale below which a channel is dead: its weights are rounding errors of
a batch norm's factor, and the converter gives it an arbitrary scale."""
_CODED = frozenset({"INT4", "UINT4", "INT8", "UINT8", "INT16", "INT32"})
_ASSUMED = "INT8"
"""The type in whose codes a zero point is given if the file's tensor has none."""


@dataclass(frozen=True, slots=True)
class AffineRange:
    """A scale and zero point, and the range of real values that they represent."""

    scale: float
    zero_point: int
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Expected:
    """The parameters that the reference requires for one activation."""

    status: str
    """``equal``, ``differ``, ``none``, ``bypassed`` or ``deferred`` as in `Match.parameters`; or
    ``tie``, if the zero point lies between two codes and was rounded to either side (TFL014)."""
    source: str | None = None
    """The fake-quant node, or the other file's tensor."""
    trained: tuple[float, float] | None = None
    """The trained minimum and maximum, real units."""
    nudged: AffineRange | None = None
    """The required parameters: the range as fake-quant nudges it, or those of the other file."""
    adjusted: AffineRange | None = None
    """The trained range as TensorFlow Lite quantizes a range after training."""


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One activation: an input of the model or an operator's output."""

    op: int | None
    """The operator that writes it, or None for an input of the model."""
    kind: str
    tensor: int
    name: str
    type: str
    own: AffineRange | None
    """The file's parameters, or None without a single scale."""
    expected: Expected | None
    """The required parameters, or None without a reference or a counterpart."""

    @property
    def status(self) -> str:
        """``unmatched`` without a counterpart, otherwise the status of `Expected`."""
        return self.expected.status if self.expected else "unmatched"


@dataclass(frozen=True, slots=True)
class WeightRow:
    """The weights and bias of one operator, with values per channel or one for all channels."""

    op: int
    kind: str
    weights: int
    """The tensor that holds the weights."""
    name: str
    type: str
    scale: tuple[float, ...]
    """The scales; empty for float weights."""
    minimum: tuple[float, ...]
    """The minimum of the reference's weights with folded batch norm, by output channel; empty if
    they are unknown."""
    maximum: tuple[float, ...]
    wanted_scale: tuple[float, ...]
    """The largest magnitude divided by 127 (the largest code of the type), as many as ``scale``:
    the scale of symmetric quantization with a narrow range for the reference's weights.  For
    unsigned weights the width divided by 255."""
    bias: int | None
    """The tensor that holds the bias, or None without one."""
    bias_type: str | None
    bias_scale: tuple[float, ...]
    product_scale: tuple[float, ...]
    """Input scale times weight scale, the required scale of the bias; empty for floats."""
    check: WeightCheck | None
    """The comparison of the values with the reference's, if possible."""

    @property
    def ratio(self) -> tuple[float | None, ...]:
        """The scale divided by ``wanted_scale``; None for a channel with weights close to zero.

        A ratio above 1 may be correct: a fake-quant keeps the range it has seen, and a converter
        widens the scale of channels whose bias would overflow.
        """
        least = _DEAD * max(self.wanted_scale, default=0.0)
        return _ratios(self.scale, tuple(w if w > least else 0.0 for w in self.wanted_scale))

    @property
    def bias_ratio(self) -> tuple[float | None, ...]:
        """The bias's scale divided by ``product_scale``."""
        return _ratios(self.bias_scale, self.product_scale)

    @property
    def bias_scale_differs(self) -> bool:
        """Return whether the kernel reads the bias with another step than it is stored with."""
        return any(r is not None and abs(r - 1) > _PRODUCT for r in self.bias_ratio)

    @property
    def status(self) -> str:
        """``differ`` by more than rounding, ``equal``, or ``none`` if nothing was compared."""
        check = self.check
        values = check is not None and (
            check.differ or (check.bias is not None and check.bias.differ)
        )
        if values or self.bias_scale_differs:
            return "differ"
        return "none" if check is None else "equal"


@dataclass(frozen=True, slots=True)
class ParameterTable:
    """The contents of ``tfldbg params``."""

    tensors: tuple[TensorRow, ...]
    weights: tuple[WeightRow, ...]
    referenced: bool
    """True if there was a reference to compare with."""
    ranges: RangeTable | None = None
    """The parameters from passes over data, if data was given."""

    @property
    def differing(self) -> tuple[TensorRow | WeightRow, ...]:
        """The rows that differ from the reference without an excuse, in execution order."""
        rows: list[TensorRow | WeightRow] = [*self.tensors, *self.weights]
        found = [row for row in rows if row.status == "differ"]
        return tuple(sorted(found, key=lambda row: -1 if row.op is None else row.op))

    @property
    def unrelated(self) -> bool:
        """Return whether the reference matches none of the operators with weights.

        Then the absence of differences means nothing: it may be another model.
        """
        without = {row.op for row in self.tensors if row.status == "unmatched"}
        rows = self.weights
        return (
            self.referenced
            and bool(rows)
            and all(row.check is None and row.op in without for row in rows)
        )


def parameter_table(
    graph: Graph,
    subgraph: Subgraph,
    frozen: Frozen | None,
    matching: Matching | None,
    turns: Mapping[int, Turn] = MappingProxyType({}),
) -> ParameterTable:
    """Compare the parameters of a file with those of its Keras model.

    Args:
        graph: The file.
        subgraph: The subgraph.
        frozen: The reference, or None for the file alone.
        matching: The matches of tensors with nodes of the reference, or None for the file alone.
        turns: The matrices that multiply activations, and inversely weights, by operator.

    Raises:
        KerasError: TensorFlow refuses the reference graph.
    """
    if frozen is None or matching is None:
        return ParameterTable(tensor_rows(subgraph, {}), weight_rows(subgraph, {}, {}), False)
    segments = cut(subgraph, matching, frozen.graph).segments
    folded = fold(subgraph, frozen, segments, turns)
    found = {out: check_folded(graph, subgraph, wanted) for out, wanted in folded.items()}
    checks = {out: check for out, check in found.items() if check is not None}
    return ParameterTable(
        tensor_rows(subgraph, expected_by_keras(subgraph, matching, frozen.graph)),
        weight_rows(subgraph, folded, checks),
        True,
    )


def tensor_rows(subgraph: Subgraph, expected: Mapping[int, Expected]) -> tuple[TensorRow, ...]:
    """Return a row for every activation, inputs of the model first, then in execution order.

    Args:
        subgraph: The TFLite side.
        expected: The parameters that any kind of reference requires, by tensor.
    """
    return tuple(
        TensorRow(
            op=op.index if op else None,
            kind=op.kind if op else "input",
            tensor=tensor.index,
            name=tensor.name,
            type=tensor.type,
            own=own_parameters(tensor),
            expected=expected.get(tensor.index),
        )
        for op, tensor in _activations(subgraph)
    )


def own_parameters(tensor: Tensor) -> AffineRange | None:
    """Return a tensor's scale and zero point with the range that they represent."""
    affine = tensor.affine
    if affine is None or tensor.type not in _CODED:
        return None
    return AffineRange(affine.scale, affine.zero_point, *affine.real_range(tensor.type))


def expected_by_keras(
    subgraph: Subgraph, matching: Matching, graph: RefGraph
) -> dict[int, Expected]:
    """Return the parameters that the reference's fake-quant nodes require, by tensor."""
    return {
        index: _by_fake_quant(subgraph.tensors[index], match, matching, graph)
        for index, match in matching.matches.items()
    }


def expected_by_file(tensor: Tensor, good: Tensor) -> Expected:
    """Return the parameters of the same tensor in a file that is known to be good."""
    own = own_parameters(good)
    if own is None:
        return Expected("none", good.name)
    equal = same_parameters(tensor, (own.scale, own.zero_point)) and tensor.type == good.type
    return Expected("equal" if equal else "differ", good.name, nudged=own)


def weight_rows(
    subgraph: Subgraph, folded: Mapping[int, Folded], checks: Mapping[int, WeightCheck]
) -> tuple[WeightRow, ...]:
    """Return a row for every operator with constant weights.

    Args:
        subgraph: The TFLite side.
        folded: The reference's weights by output tensor.
        checks: The comparisons of the file's weights with them, by output tensor.
    """
    rows = []
    for op in subgraph.operators:
        weights = stored(subgraph, op.inputs[1]) if has_weights(op) else None
        if weights is not None:
            out = op.outputs[0]
            rows.append(_weight_row(subgraph, op, weights, folded.get(out), checks.get(out)))
    return tuple(rows)


def _activations(subgraph: Subgraph) -> Iterator[tuple[Operator | None, Tensor]]:
    others = subgraph.non_activations
    for index in subgraph.inputs:
        yield None, subgraph.tensors[index]
    for op in subgraph.operators:
        for index in op.outputs:
            if index >= 0 and index not in others:
                yield op, subgraph.tensors[index]


def _by_fake_quant(tensor: Tensor, match: Match, matching: Matching, graph: RefGraph) -> Expected:
    type_name = tensor.type if tensor.type in _CODED else _ASSUMED
    found = _fake_quant(match, matching, graph, type_name)
    if found is None:
        return Expected(match.parameters)
    name, fake = found
    ends = (fake.minimum, fake.maximum, fake.bits, fake.narrow_range)
    nudged = _in_codes(quant.nudge(*ends), type_name)
    return Expected(
        status="tie" if _tied(tensor, fake, nudged, match.parameters) else match.parameters,
        source=name,
        trained=(fake.minimum, fake.maximum),
        nudged=nudged,
        adjusted=_in_codes(quant.adjust(*ends), type_name),
    )


def _tied(tensor: Tensor, fake: FakeQuant, nudged: AffineRange, status: str) -> bool:
    """Return whether a tensor differs only by the rounding of a tied zero point."""
    if status != "differ" or tensor.zero_point is None:
        return False
    points = (tensor.zero_point, nudged.zero_point)
    same_scale = same_parameters(tensor, (nudged.scale, tensor.zero_point))
    return same_scale and quant.tie(fake.minimum, fake.maximum, nudged.scale, points) is not None


def _in_codes(nudged: quant.Nudged, type_name: str) -> AffineRange:
    """Return nudged parameters with the zero point in the codes of a type."""
    zero_point = nudged.zero_point + quant.code_range(type_name)[0]
    return AffineRange(nudged.scale, zero_point, nudged.minimum, nudged.maximum)


def _fake_quant(
    match: Match, matching: Matching, graph: RefGraph, type_name: str
) -> tuple[str, FakeQuant] | None:
    """Return the fake-quant that a match was judged by: its own, or one after the operator."""
    others = [m.node for m in matching.matches.values() if m.expected == match.expected]
    for name in (match.node, *match.chain, *(others if match.expected else ())):
        node = graph.nodes[node_of(name)]
        if node.fake_quant is None:
            continue
        if match.expected in (None, node.fake_quant.parameters(type_name)):
            return node.name, node.fake_quant
    return None


def _weight_row(
    subgraph: Subgraph,
    op: Operator,
    weights: Tensor,
    folded: Folded | None,
    check: WeightCheck | None,
) -> WeightRow:
    scale = _scales(weights)
    minimum, maximum = _ends(folded)
    held = bias_index(subgraph, op)
    bias = subgraph.tensors[held] if held is not None and held >= 0 else None
    product = product_scale(subgraph, op)
    return WeightRow(
        op=op.index,
        kind=op.kind,
        weights=weights.index,
        name=weights.name,
        type=weights.type,
        scale=scale,
        minimum=minimum,
        maximum=maximum,
        wanted_scale=_wanted_scale(weights, scale, minimum, maximum),
        bias=bias.index if bias else None,
        bias_type=bias.type if bias else None,
        bias_scale=_scales(bias) if bias else (),
        product_scale=tuple(map(float, product)) if product is not None else (),
        check=check,
    )


def _scales(tensor: Tensor) -> tuple[float, ...]:
    if tensor.quant is None or "INT" not in tensor.type:
        return ()
    return tuple(float(s) for s in tensor.quant.scale)


def _ends(folded: Folded | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the lowest and highest weight of every output channel."""
    if folded is None or not folded.kernel.size:
        return (), ()
    channels = np.moveaxis(folded.kernel, folded.channel_axis, 0)
    flat = channels.reshape(len(channels), -1)
    return tuple(map(float, flat.min(1))), tuple(map(float, flat.max(1)))


def _wanted_scale(
    weights: Tensor,
    scale: tuple[float, ...],
    minimum: tuple[float, ...],
    maximum: tuple[float, ...],
) -> tuple[float, ...]:
    if not scale or not minimum or weights.type not in _CODED:
        return ()
    low, high = quant.code_range(weights.type)
    ends = list(zip(minimum, maximum, strict=True))
    if low == 0:  # unsigned weights have a zero point, and use the whole range
        if len(scale) == 1:
            ends = [(min(minimum), max(maximum))]
        return tuple((max(b, 0.0) - min(a, 0.0)) / high for a, b in ends)
    reach = [max(abs(a), abs(b)) / high for a, b in ends]
    return tuple(reach) if len(scale) > 1 else (max(reach),)


def _ratios(scales: tuple[float, ...], wanted: tuple[float, ...]) -> tuple[float | None, ...]:
    """Return the quotients by channel; a single value applies to all channels."""
    if not scales or not wanted:
        return ()
    count = max(len(scales), len(wanted))
    if {len(scales), len(wanted)} - {1, count}:
        return ()
    own = scales if len(scales) == count else scales * count
    other = wanted if len(wanted) == count else wanted * count
    return tuple(a / b if b else None for a, b in zip(own, other, strict=True))
