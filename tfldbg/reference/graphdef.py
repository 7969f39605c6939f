"""A plain view of a frozen reference graph: nodes, edges, fake-quant parameters; no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tfldbg import quant

FAKE_QUANT_OPS = frozenset(
    {"FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVarsPerChannel"}
)
SHAPE_OPS = frozenset({"OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike"})
"""Operations that read the shape of their input and not its values."""
_TRANSPOSING: Mapping[str, tuple[str, ...]] = {
    "BatchMatMulV2": ("adj_x", "adj_y"),
    "MatMul": ("transpose_b",),
}
_PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "Conv2D", "Einsum", "MatMul"})
"""Operations that compute no shape, even of an initial state, which follows from shapes alone."""
IDENTITY_OPS = frozenset(
    {"Identity", "StopGradient", "CheckNumerics", "Snapshot", "PreventGradient"}
)


@dataclass(frozen=True, slots=True)
class FakeQuant:
    """The range of a per-tensor fake-quant node, as it was trained."""

    minimum: float
    maximum: float
    bits: int
    narrow_range: bool

    def parameters(self, type_name: str) -> tuple[float, int]:
        """Return the scale and zero point that a tensor of ``type_name`` must have."""
        nudged = quant.nudge(self.minimum, self.maximum, self.bits, self.narrow_range)
        return nudged.scale, nudged.zero_point + quant.code_range(type_name)[0]


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of one output of a node before anything is computed."""

    shape: tuple[int | None, ...] | None
    """Static shape, None when unknown."""
    dtype: str
    """NumPy name of its type."""
    counted: int | None = None
    """Elements of one sample where they were counted on a graph that takes one."""


@dataclass(frozen=True, slots=True)
class RefNode:
    """One node of the reference graph."""

    name: str
    op: str
    inputs: tuple[str, ...]
    """Data inputs as ``name`` or ``name:port``; control inputs left out."""
    fake_quant: FakeQuant | None = None
    shape: tuple[int | None, ...] | None = None
    """Static shape of the first output, the first axis being the batch; None when unknown."""

    dtype: str = "float32"
    """NumPy name of the first output's type."""
    transposed: bool = False
    """Whether a product of matrices reads its second input transposed."""
    equation: str = ""
    """What an Einsum computes, as ``abc,cd->abd``; empty for every other operation."""
    others: tuple[Outline, ...] = ()
    """Its second and later outputs."""
    whole: bool = False
    """Whether the graph computes one sample at a time, so that its first axis is like any other."""
    counted: int | None = None
    """As in `Outline`, of the first output."""

    @property
    def elements(self) -> int | None:
        """Elements per sample, None when the shape leaves them open."""
        return self.elements_of(self.first)

    @property
    def in_blocks(self) -> bool:
        """Whether its first axis may hold several blocks of one sample."""
        if self.whole or self.counted is None or self.shape is None or None in self.shape[1:]:
            return self.whole
        return self.counted != math.prod(d or 0 for d in self.shape[1:])

    def elements_of(self, outline: Outline) -> int | None:
        """Return the elements per sample of one of its outputs, None where they are open."""
        if outline.counted is not None or outline.shape is None:
            return outline.counted
        own = outline.shape if self.whole else outline.shape[1:]
        return None if None in own else math.prod(d or 0 for d in own)

    def outline(self, port: int) -> Outline:
        """Return what is known of one of its outputs."""
        return self.others[port - 1] if 0 < port <= len(self.others) else self.first

    @property
    def first(self) -> Outline:
        """What is known of its first output."""
        return Outline(self.shape, self.dtype, self.counted)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the nodes that feed this one."""
        return tuple(node_of(i) for i in self.inputs)


class RefGraph:
    """The nodes of a frozen graph with the questions the matcher asks.

    Args:
        nodes: Every node, in any order.
        inputs: Names of the placeholder nodes, in the order in which the model takes them.
        outputs: Names of the output nodes, in the model's order.
    """

    def __init__(
        self, nodes: Iterable[RefNode], inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        self.nodes: Mapping[str, RefNode] = {node.name: node for node in nodes}
        self.inputs = inputs
        self.outputs = outputs

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Map each node name to the names of the nodes that read it."""
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes.values():
            for source in node.sources:
                found.setdefault(source, {})[node.name] = None
        return {name: tuple(users) for name, users in found.items()}

    @cached_property
    def read(self) -> frozenset[str]:
        """Names of the tensors that a node reads or the model returns."""
        return frozenset((*self.outputs, *(i for n in self.nodes.values() for i in n.inputs)))

    @cached_property
    def order(self) -> Mapping[str, int]:
        """Map each node name to its place in a topological order."""
        return in_order({name: node.sources for name, node in self.nodes.items()})

    @cached_property
    def computed(self) -> frozenset[str]:
        """Names of the nodes that depend on a model input; all others are constant."""
        reached = set(self.inputs)
        for name in sorted(self.nodes, key=lambda n: self.order[n]):
            if any(source in reached for source in self.nodes[name].sources):
                reached.add(name)
        return frozenset(reached)

    @cached_property
    def sizes_of_constants(self) -> frozenset[int]:
        """How many values each constant has, and each that is computed from constants alone."""
        shapes = (n.shape for n in self.nodes.values() if n.name not in self.computed)
        known = (s for s in shapes if s is not None and None not in s)
        return frozenset(math.prod(size or 0 for size in s) for s in known)

    @cached_property
    def shapes(self) -> frozenset[str]:
        """Names of the nodes that hold shapes, and of all that is computed from them alone."""
        found: set[str] = set()
        for name in sorted(self.computed, key=lambda n: self.order[n]):
            node = self.nodes[name]
            sources = [s for s in node.sources if s in self.computed]
            from_shapes = sources and all(s in found for s in sources)
            if node.op in SHAPE_OPS or (from_shapes and node.op not in _PRODUCTS):
                found.add(name)
        return frozenset(found)

    @cached_property
    def activations(self) -> frozenset[str]:
        """Names of the nodes that carry activations: no constants and no shapes."""
        return self.computed - self.shapes

    def computed_sources(self, name: str) -> tuple[str, ...]:
        """Return the nodes that feed ``name`` with activations: no constants and no shapes."""
        return tuple(s for s in self.nodes[name].sources if s in self.activations)

    def outline(self, tensor_name: str) -> Outline:
        """Return what is known of a tensor such as ``"split:1"`` before it is computed."""
        name, _, port = tensor_name.partition(":")
        return self.nodes[name].outline(int(port or 0))

    def elements(self, tensor_name: str) -> int | None:
        """Return the elements per sample of a tensor, None where its shape leaves them open."""
        return self.nodes[node_of(tensor_name)].elements_of(self.outline(tensor_name))

    def handed_on(self, tensor_name: str) -> tuple[str, ...]:
        """Return a tensor and those whose value it only hands on; the last one is computed."""
        found = [tensor_name]
        while self.nodes[node_of(found[-1])].op in IDENTITY_OPS:
            found.append(self.nodes[node_of(found[-1])].inputs[0])
        return tuple(found)

    @property
    def is_plain(self) -> bool:
        """Whether the first axis of every value is the batch, and no other has an open size."""
        shapes = [self.nodes[name].shape for name in self.activations]
        return all(s and s[0] is None and None not in s[1:] for s in shapes)

    @property
    def makes_blocks(self) -> bool:
        """Whether it puts blocks of all samples into the first axis."""
        return any(n.op in ("SpaceToBatchND", "BatchToSpaceND") for n in self.nodes.values())

    @property
    def ranges(self) -> frozenset[str]:
        """Names of the nodes that count: if they count samples, values depend on their place."""
        return frozenset(name for name, node in self.nodes.items() if node.op == "Range")

    def comes_from(self, name: str, source: str) -> bool:
        """Whether a node is computed from another one, or is it."""
        stack, seen = [name], {name}
        while stack:
            current = stack.pop()
            if current == source:
                return True
            # In a topological order, nothing before the source is computed from it.
            before = self.computed_sources(current)
            fresh = [n for n in before if n not in seen and self.order[n] >= self.order[source]]
            seen.update(fresh)
            stack += fresh
        return False

    def users(self, name: str) -> tuple[str, ...]:
        """Return the nodes that read ``name``."""
        return self.consumers.get(name, ())


def in_order(sources: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Map each name to its place in a topological order; a loop is cut where it closes.

    Args:
        sources: By name of a node the names of those that it reads.
    """
    placed: dict[str, int] = {}
    entered: set[str] = set()
    for root in sources:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if name in placed:
                continue
            if ready:
                placed[name] = len(placed)
                continue
            if name in entered:  # a SavedModel may hold a loop
                continue
            entered.add(name)
            stack.append((name, True))
            stack += [(s, False) for s in reversed(sources.get(name, ())) if s not in placed]
    return placed


def node_of(tensor_name: str) -> str:
    """Return the node's name of a tensor name such as ``"split:1"``."""
    return tensor_name.split(":")[0]


def view(
    graph_def: Any,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    outlines: Mapping[str, tuple[Outline, ...]],
    *,
    whole: bool = False,
) -> RefGraph:
    """Build the view of a frozen ``GraphDef``.

    Args:
        graph_def: A ``tensorflow.GraphDef`` in which every variable is a constant.
        inputs: Names of the placeholder nodes in order.
        outputs: Names of the output nodes in order.
        outlines: What is known of each node's outputs.
        whole: Whether it computes one sample at a time.
    """
    protos = {node.name: node for node in graph_def.node}
    unknown = (Outline(None, "float32"),)
    nodes = (
        _node(proto, protos, outlines.get(proto.name, unknown), whole) for proto in graph_def.node
    )
    return RefGraph(nodes, inputs, outputs)


def _node(
    proto: Any, protos: Mapping[str, Any], outlines: tuple[Outline, ...], whole: bool
) -> RefNode:
    inputs = tuple(i.removesuffix(":0") for i in proto.input if not i.startswith("^"))
    return RefNode(
        name=proto.name,
        op=proto.op,
        inputs=inputs,
        fake_quant=_fake_quant(proto, protos),
        shape=outlines[0].shape,
        dtype=outlines[0].dtype,
        transposed=any(bool(proto.attr[name].b) for name in _TRANSPOSING.get(proto.op, ())),
        equation=proto.attr["equation"].s.decode() if proto.op == "Einsum" else "",
        others=outlines[1:],
        whole=whole,
        counted=outlines[0].counted,
    )


def _fake_quant(proto: Any, protos: Mapping[str, Any]) -> FakeQuant | None:
    if proto.op == "FakeQuantWithMinMaxArgs":
        low, high = proto.attr["min"].f, proto.attr["max"].f
    elif proto.op == "FakeQuantWithMinMaxVars":
        ends = [_scalar(protos, name) for name in proto.input[1:3]]
        if ends[0] is None or ends[1] is None:
            return None
        low, high = ends[0], ends[1]
    else:
        return None
    return FakeQuant(low, high, int(proto.attr["num_bits"].i), bool(proto.attr["narrow_range"].b))


def _scalar(protos: Mapping[str, Any], name: str) -> float | None:
    proto = protos.get(node_of(name))
    while proto is not None and proto.op in IDENTITY_OPS:
        proto = protos.get(node_of(proto.input[0]))
    if proto is None or proto.op != "Const":
        return None
    from tensorflow import make_ndarray

    value = make_ndarray(proto.attr["value"].tensor)
    return float(value) if value.size == 1 else None
