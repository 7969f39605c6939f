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
"""Operations that read the shape of their input but not its values."""
_TRANSPOSING: Mapping[str, tuple[str, ...]] = {
    "BatchMatMulV2": ("adj_x", "adj_y"),
    "MatMul": ("transpose_b",),
}
_PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "Conv2D", "Einsum", "MatMul"})
"""Operations that never compute a shape, even if an initial state depends only on shapes."""
IDENTITY_OPS = frozenset(
    {"Identity", "StopGradient", "CheckNumerics", "Snapshot", "PreventGradient"}
)


@dataclass(frozen=True, slots=True)
class FakeQuant:
    """The trained range of a per-tensor fake-quant node."""

    minimum: float
    maximum: float
    bits: int
    narrow_range: bool

    def parameters(self, type_name: str) -> tuple[float, int]:
        """Return the scale and zero point that the range gives a tensor of ``type_name``."""
        nudged = quant.nudge(self.minimum, self.maximum, self.bits, self.narrow_range)
        return nudged.scale, nudged.zero_point + quant.code_range(type_name)[0]


@dataclass(frozen=True, slots=True)
class Outline:
    """The static shape and type of one output of a node."""

    shape: tuple[int | None, ...] | None
    """The static shape, or None if unknown."""
    dtype: str
    """The NumPy name of the type."""
    counted: int | None = None
    """The number of elements per sample, if a graph with one sample was used to count them."""


@dataclass(frozen=True, slots=True)
class RefNode:
    """One node of the reference graph."""

    name: str
    op: str
    inputs: tuple[str, ...]
    """The data inputs as ``name`` or ``name:port``, without control inputs."""
    fake_quant: FakeQuant | None = None
    shape: tuple[int | None, ...] | None = None
    """The static shape of the first output, or None if unknown; the first axis is the batch."""

    dtype: str = "float32"
    """The NumPy name of the first output's type."""
    transposed: bool = False
    """True if a matrix product reads its second input transposed."""
    equation: str = ""
    """The equation of an Einsum, such as ``abc,cd->abd``; empty for all other operations."""
    others: tuple[Outline, ...] = ()
    """The second and later outputs."""
    whole: bool = False
    """True if the graph computes one sample at a time, so that the first axis is not the batch."""
    counted: int | None = None
    """The count as in `Outline` for the first output."""

    @property
    def elements(self) -> int | None:
        """The number of elements per sample, or None if the shape is dynamic."""
        return self.elements_of(self.first)

    @property
    def in_blocks(self) -> bool:
        """Return whether the first axis may hold several blocks of one sample."""
        if self.whole or self.counted is None or self.shape is None or None in self.shape[1:]:
            return self.whole
        return self.counted != math.prod(d or 0 for d in self.shape[1:])

    def elements_of(self, outline: Outline) -> int | None:
        """Return the elements per sample of one of the outputs, or None if its shape is dynamic."""
        if outline.counted is not None or outline.shape is None:
            return outline.counted
        own = outline.shape if self.whole else outline.shape[1:]
        return None if None in own else math.prod(d or 0 for d in own)

    def outline(self, port: int) -> Outline:
        """Return the outline of one of the outputs."""
        return self.others[port - 1] if 0 < port <= len(self.others) else self.first

    @property
    def first(self) -> Outline:
        """The outline of the first output."""
        return Outline(self.shape, self.dtype, self.counted)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the nodes that feed this one."""
        return tuple(node_of(i) for i in self.inputs)


class RefGraph:
    """The nodes of a frozen graph and the queries of the matcher.

    Args:
        nodes: All nodes in any order.
        inputs: The names of the placeholder nodes, in the model's order.
        outputs: The names of the output nodes, in the model's order.
    """

    def __init__(
        self, nodes: Iterable[RefNode], inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        self.nodes: Mapping[str, RefNode] = {node.name: node for node in nodes}
        self.inputs = inputs
        self.outputs = outputs

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the nodes that read each node; a node may have none."""
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes.values():
            for source in node.sources:
                found.setdefault(source, {})[node.name] = None
        return {name: tuple(users) for name, users in found.items()}

    @cached_property
    def read(self) -> frozenset[str]:
        """The names of the tensors that a node reads or the model returns."""
        return frozenset((*self.outputs, *(i for n in self.nodes.values() for i in n.inputs)))

    @cached_property
    def order(self) -> Mapping[str, int]:
        """The position of each node in a topological order."""
        return topological_order({name: node.sources for name, node in self.nodes.items()})

    @cached_property
    def computed(self) -> frozenset[str]:
        """The names of the nodes that depend on a model input; all others are constant."""
        reached = set(self.inputs)
        for name in sorted(self.nodes, key=lambda n: self.order[n]):
            if any(source in reached for source in self.nodes[name].sources):
                reached.add(name)
        return frozenset(reached)

    @cached_property
    def sizes_of_constants(self) -> frozenset[int]:
        """The number of values of each node that is constant or computed from constants alone."""
        shapes = (n.shape for n in self.nodes.values() if n.name not in self.computed)
        known = (s for s in shapes if s is not None and None not in s)
        return frozenset(math.prod(size or 0 for size in s) for s in known)

    @cached_property
    def shapes(self) -> frozenset[str]:
        """The names of the nodes that hold shapes or are computed from shapes alone."""
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
        """The names of the nodes that hold activations, not constants or shapes."""
        return self.computed - self.shapes

    def computed_sources(self, name: str) -> tuple[str, ...]:
        """Return the nodes that feed ``name`` with activations, not constants or shapes."""
        return tuple(s for s in self.nodes[name].sources if s in self.activations)

    def outline(self, tensor_name: str) -> Outline:
        """Return the outline of a tensor such as ``"split:1"``."""
        name, _, port = tensor_name.partition(":")
        return self.nodes[name].outline(int(port or 0))

    def elements(self, tensor_name: str) -> int | None:
        """Return the elements per sample of a tensor, or None if its shape is dynamic."""
        return self.nodes[node_of(tensor_name)].elements_of(self.outline(tensor_name))

    def handed_on(self, tensor_name: str) -> tuple[str, ...]:
        """Return a tensor and the tensors that it is an identity of; the last one is computed."""
        found = [tensor_name]
        while self.nodes[node_of(found[-1])].op in IDENTITY_OPS:
            found.append(self.nodes[node_of(found[-1])].inputs[0])
        return tuple(found)

    @property
    def is_plain(self) -> bool:
        """Return whether the first axis of every value is the batch and no other is dynamic."""
        shapes = [self.nodes[name].shape for name in self.activations]
        return all(s and s[0] is None and None not in s[1:] for s in shapes)

    @property
    def makes_blocks(self) -> bool:
        """Return whether an operation puts blocks of all samples into the first axis."""
        return any(n.op in ("SpaceToBatchND", "BatchToSpaceND") for n in self.nodes.values())

    @property
    def ranges(self) -> frozenset[str]:
        """The names of the Range nodes: if they count samples, values depend on their position."""
        return frozenset(name for name, node in self.nodes.items() if node.op == "Range")

    def comes_from(self, name: str, source: str) -> bool:
        """Return whether a node is the source or is computed from it."""
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


def topological_order(sources: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the position of each name in a topological order, in which a loop is cut.

    Args:
        sources: The names of the nodes that each node reads.
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
            if name in entered:  # a SavedModel may contain a loop
                continue
            entered.add(name)
            stack.append((name, True))
            stack += [(s, False) for s in reversed(sources.get(name, ())) if s not in placed]
    return placed


def node_of(tensor_name: str) -> str:
    """Return the node's name from a tensor name such as ``"split:1"``."""
    return tensor_name.split(":")[0]


def ref_graph(
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
        inputs: The names of the placeholder nodes in order.
        outputs: The names of the output nodes in order.
        outlines: The outlines of each node's outputs.
        whole: True if the graph computes one sample at a time.
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
    from tfldbg.reference.protos import values_of

    value = values_of(proto.attr["value"].tensor)
    return float(value) if value.size == 1 else None
