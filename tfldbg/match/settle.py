"""From the node that a name or the structure refers to, find all nodes of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfldbg.graph.query import activation_slots
from tfldbg.match.kinds import HANDED_ON, REFERENCE_OPS
from tfldbg.match.model import Match
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, RefGraph

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph, Tensor

_FUSED_INTO = frozenset(
    {
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "CONCATENATION",
        "L2_NORMALIZATION",
        "BATCH_MATMUL",
    }
)
"""Operators into which the converter folds the nodes after them: bias, batch norm, activation."""

_WEIGHTED = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
ACTIVATIONS = frozenset({"Relu", "Relu6", "Tanh", "Sign"})
_CLIPS = frozenset({"ClipByValue", "Maximum", "Minimum"})
_CLIPPING = frozenset({"RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"})
"""Fused activations that the converter makes from a minimum and a maximum with constants."""
AFFINE = frozenset(
    {
        "BiasAdd",
        "FusedBatchNorm",
        "FusedBatchNormV2",
        "FusedBatchNormV3",
        "Add",
        "AddV2",
        "Sub",
        "Mul",
    }
)
FOLDED = AFFINE | _CLIPS | (ACTIVATIONS - {"Tanh"})
"""Operations that the converter folds into the operator before them."""
RESHAPES = frozenset({"Reshape", "Squeeze", "ExpandDims"})
"""Operations that keep the order of values."""
_SCALE_TOLERANCE = 1e-5


def same_parameters(tensor: Tensor, expected: tuple[float, int]) -> bool:
    """Return whether a tensor has the expected scale and zero point, up to float rounding.

    The converter computes the scale in double precision, fake-quant in single: they agree within a
    few times 2**-24.
    """
    scale, zero_point = expected
    own = tensor.affine
    return (
        own is not None
        and abs(own.scale - scale) <= _SCALE_TOLERANCE * scale
        and own.zero_point == zero_point
    )


class Settler:
    """Walks downstream from an anchor node.

    Args:
        graph: The reference.
        subgraph: The TFLite side.
        mentioned: The nodes that each tensor's name mentions.
    """

    def __init__(
        self, graph: RefGraph, subgraph: Subgraph, mentioned: Mapping[int, tuple[str, ...]]
    ) -> None:
        self._graph = graph
        self._subgraph = subgraph
        self._mentioned = mentioned
        self._named = frozenset(n for names in mentioned.values() for n in names)

    def settle(
        self, tensor: Tensor, op: Operator | None, anchor: str, rule: str, confidence: float = 1.0
    ) -> Match:
        """Return the match with the values of ``tensor`` before and after fake-quantization.

        Args:
            tensor: The TFLite tensor.
            op: The operator that writes it, or None for an input of the model.
            anchor: The node to start from.
            rule: The rule that found the anchor.
            confidence: The confidence of that rule.
        """
        fused = [anchor]
        while (following := self._fused_after(tensor, op, fused[-1])) is not None:
            fused.append(following)
        raw = fused[-1]
        copies = self._copies(raw)
        quants = [name for name in copies if self._graph.nodes[name].op in FAKE_QUANT_OPS]
        parameters, node, expected = "none", raw, None
        if tensor.lsb is not None and quants:
            parameters, node, expected = self._choose(tensor, raw, quants)
        before = self._before(node) if node != raw else raw
        return Match(
            tensor=tensor.index,
            node=node,
            raw=before,
            group=tuple(fused),
            chain=tuple(dict.fromkeys((node, before, raw, *copies))),
            rule=rule,
            confidence=confidence,
            parameters=parameters,
            expected=expected,
        )

    def _fused_after(self, tensor: Tensor, op: Operator | None, name: str) -> str | None:
        """Return the single node after ``name`` that the converter folds into ``op``, if any."""
        if op is None or op.kind not in _FUSED_INTO:
            return None
        users = [
            user for user in self._graph.consumers.get(name, ()) if user in self._graph.computed
        ]
        if len(users) != 1 or self._computed_by_consumer(tensor, op, users[0]):
            return None
        user = self._graph.nodes[users[0]]
        if user.op in ACTIVATIONS or (user.op == "BatchToSpaceND" and _is_dilated(op)):
            return user.name
        alone = len(self._graph.computed_sources(user.name)) == 1
        if user.op in _CLIPS and alone and self._clips(tensor, op, user.name):
            return user.name
        if op.kind not in _WEIGHTED or not alone:
            return None
        others = frozenset(user.sources) & self._graph.shapes
        if not others.isdisjoint(self._named):
            return None  # a value computed from a shape is a constant only if no tensor holds it
        reshapes = user.op in RESHAPES and user.elements == self._graph.nodes[name].elements
        return user.name if user.op in AFFINE or reshapes else None

    def _clips(self, tensor: Tensor, op: Operator, name: str) -> bool:
        """Return whether an operator clips like a node, or should because of its name."""
        named = name in self._mentioned.get(tensor.index, ())
        fused = op.options.get("fusedActivationFunction")
        return fused in _CLIPPING or (fused is not None and named)

    def _computed_by_consumer(self, tensor: Tensor, op: Operator, name: str) -> bool:
        """Return whether an operator that reads ``tensor`` and constants computes ``name``.

        Names decide; without them a bias belongs to the operator that has one.
        """
        operation = self._graph.nodes[name].op
        if operation.startswith("FusedBatchNorm"):
            operation = "Mul"
        candidates = [
            consumer
            for consumer in self._consumers_of_value(tensor.index)
            if operation in REFERENCE_OPS.get(consumer.kind, ())
            and activation_slots(self._subgraph, consumer) == 1
        ]
        if not candidates or name in self._mentioned.get(tensor.index, ()):
            return False
        if any(name in self._mentioned.get(r.outputs[0], ()) for r in candidates):
            return True
        has_bias = len(op.inputs) > 2 and op.inputs[2] >= 0
        return not (operation == "BiasAdd" and has_bias)

    def _consumers_of_value(self, index: int) -> list[Operator]:
        """Return the operators that read a value, directly or after a reshape or QUANTIZE."""
        found = list(self._subgraph.consumers.get(index, ()))
        for consumer in found:
            if consumer.kind in HANDED_ON and consumer.outputs:
                found += self._subgraph.consumers.get(consumer.outputs[0], ())
        return found

    def _copies(self, name: str) -> list[str]:
        """Return every node that passes on the value of ``name``, fake-quantized or not."""
        found: list[str] = []
        stack = [name]
        while stack:
            for user in self._graph.consumers.get(stack.pop(), ()):
                node = self._graph.nodes[user]
                if node.op not in IDENTITY_OPS | FAKE_QUANT_OPS or user in found:
                    continue
                found.append(user)
                stack.append(user)
        return sorted(found, key=lambda n: self._graph.order[n])

    def _choose(
        self, tensor: Tensor, raw: str, quants: list[str]
    ) -> tuple[str, str, tuple[float, int] | None]:
        known = []
        for name in quants:
            fake_quant = self._graph.nodes[name].fake_quant
            if fake_quant is not None:
                known.append((name, fake_quant.parameters(tensor.type)))
        for name, expected in known:
            if same_parameters(tensor, expected):
                return "equal", name, expected
        if not known:
            return "none", raw, None
        return "differ", raw, known[0][1]

    def _before(self, node: str) -> str:
        """Return the input of a fake-quant node."""
        return self._graph.nodes[node].inputs[0]


def _is_dilated(op: Operator) -> bool:
    """Return whether a convolution is dilated; TensorFlow moves values into the batch for that."""
    factors = (op.options.get(name, 1) for name in ("dilationHFactor", "dilationWFactor"))
    return any(factor > 1 for factor in factors)
