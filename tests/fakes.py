"""Doubles without TensorFlow and LiteRT: graphs by hand, a runner, a reference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.loop_file import File
from tfldbg.against.opened import About, Bench, Kind, Opened
from tfldbg.compare.batch import Batch, Computed
from tfldbg.compare.relation import Relation
from tfldbg.diagnose.traits import Traits
from tfldbg.errors import RunError
from tfldbg.graph.model import BufferSpan, Graph, Operator, QuantParams, Subgraph, Tensor
from tfldbg.match.itself import match_itself
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.graphdef import FakeQuant, RefGraph, RefNode
from tfldbg.run.litert import Program

Array = NDArray[Any]
Range = tuple[float, float]
Values = Callable[[Sequence[Array]], Mapping[int, Array]]
"""Returns the value of each tensor for the inputs of one sample."""
Operators = Callable[[Mapping[int, Array]], Mapping[int, Array]]
"""Returns what each operator makes of the values of a sample, both by tensor."""

SHAPE = (4, 4, 2)
"""The shape of one sample of every tensor and node, where a test gives no other."""


# The reference graph.


def node(name: str, op: str, *inputs: str, quant: Range | None = None, **other: Any) -> RefNode:
    """Return a node of the reference.

    Args:
        name: Its name.
        op: Its operation.
        inputs: The names of what it reads.
        quant: The trained range, for a fake-quant node.
        other: More fields of `RefNode`.
    """
    about = {"shape": (None, *SHAPE), **other}
    fake_quant = FakeQuant(*quant, bits=8, narrow_range=False) if quant else None
    return RefNode(name, op, inputs, fake_quant, **about)


def fake_quant(name: str, source: str, quant: Range) -> RefNode:
    """Return a fake-quant node with a trained range."""
    return node(name, "FakeQuantWithMinMaxVars", source, quant=quant)


def ref_graph(*nodes: RefNode, outputs: Sequence[str] = ()) -> RefGraph:
    """Return a reference; its placeholders are the inputs, its last node is the output."""
    inputs = tuple(n.name for n in nodes if n.op == "Placeholder")
    return RefGraph(nodes, inputs, tuple(outputs) or (nodes[-1].name,))


def frozen_of(*nodes: RefNode, outputs: Mapping[str, str] | None = None) -> Frozen:
    """Return a frozen reference that can be matched and not computed.

    Args:
        nodes: Its nodes.
        outputs: By name of an output its node; by default ``out`` is the last node.
    """
    named = outputs or {"out": nodes[-1].name}
    graph = ref_graph(*nodes, outputs=tuple(named.values()))
    shapes = tuple(graph.nodes[name].shape or () for name in graph.inputs)
    dtypes = tuple(graph.nodes[name].dtype for name in graph.inputs)
    return Frozen(None, graph, graph.inputs, shapes, dtypes, tuple(named), None, "test")


# The file.


def quantized(quant: Range, type_name: str = "INT8") -> QuantParams:
    """Return the parameters of a tensor whose range is trained."""
    scale, zero = FakeQuant(*quant, 8, False).parameters(type_name)
    return QuantParams(np.array([scale], np.float32), np.array([zero], np.int64))


def tensor(index: int, name: str = "", quant: Range | None = None, **other: Any) -> Tensor:
    """Return an int8 tensor of one sample; other keywords are fields of `Tensor`."""
    shape = other.pop("shape", (1, *SHAPE))
    about = {
        "type": "INT8",
        "shape_signature": shape,
        "buffer": 0,
        "is_variable": False,
        "has_data": False,
        **other,
    }
    return Tensor(index, name, shape=shape, quant=quantized(quant) if quant else None, **about)


def operator(index: int, kind: str, given: Sequence[int], *made: int, **options: Any) -> Operator:
    """Return an operator."""
    return Operator(index, kind, tuple(given), made, options)


def subgraph_of(
    tensors: Sequence[Tensor], *operators: Operator, inputs: Sequence[int] = (0,)
) -> Subgraph:
    """Return a subgraph, whose outputs are what no operator reads."""
    read = {i for op in operators for i in op.inputs}
    outputs = tuple(i for op in operators for i in op.outputs if i not in read)
    return Subgraph(0, "main", tuple(tensors), operators, tuple(inputs), outputs)


def with_tensor(given: Subgraph, index: int, **changes: Any) -> Subgraph:
    """Return a subgraph with other fields of one tensor."""
    tensors = list(given.tensors)
    tensors[index] = replace(tensors[index], **changes)
    return replace(given, tensors=tuple(tensors))


def graph_of(given: Subgraph, constants: Mapping[int, Array] | None = None) -> Graph:
    """Return a file of one subgraph; the tensors with constants hold them as float32."""
    data, spans = b"", [BufferSpan(0, 0, False)]
    for number, (index, values) in enumerate((constants or {}).items(), 1):
        content = np.asarray(values, np.float32).tobytes()
        spans.append(BufferSpan(len(data), len(content), False))
        data += content
        about = {"type": "FLOAT32", "quant": None, "buffer": number, "has_data": True}
        shape = np.shape(values)
        given = with_tensor(given, index, shape=shape, shape_signature=shape, **about)
    return Graph(memoryview(data), 3, "", (given,), (), tuple(spans), ())


# A file of bytes, which runs nowhere but in a `FakeRunner`.

STEP, ZERO_POINT = 0.05, 3
WIDTH = 4


def chain_file(*kinds: str) -> bytes:
    """Return a file of operators one after the other: int8 codes, `WIDTH` of them in a sample.

    Tensor 0 is the input; operator n writes tensor n + 1.
    """
    file = File()
    main = file.subgraph()
    made = [main.tensor("INT8", [1, WIDTH], None, STEP, ZERO_POINT) for _ in range(len(kinds) + 1)]
    for place, kind in enumerate(kinds):
        main.operator(kind, [made[place]], [made[place + 1]])
    main.ends([made[0]], [made[-1]])
    return file.save()


_KERNELS: Mapping[str, Callable[[Array], Array]] = {
    "RELU": lambda codes: np.maximum(codes, ZERO_POINT),
    "NEG": lambda codes: np.clip(2 * ZERO_POINT - codes.astype(np.int64), -128, 127),
}


def chain_values(*kinds: str, wrong: int | None = None) -> Values:
    """Return what computes a `chain_file` in codes.

    Args:
        kinds: Of the operators.
        wrong: An operator that returns 20 codes too much, for its first element.
    """

    def compute(given: Sequence[Array]) -> dict[int, Array]:
        values = {0: given[0]}
        for place, kind in enumerate(kinds):
            made = _KERNELS[kind](values[place]).astype(np.int8)
            if place == wrong:
                made[..., 0] += 20
            values[place + 1] = made
        return values

    return compute


# What runs.


class FakeRunner:
    """A runner that computes with a function, and notes what it is asked for.

    Args:
        values: Computes the tensors.
        taps: The tensors to return.
        refuses: The error of the runtime that does not load the model.
        fails_at: The number of the run that the runtime dies of.
    """

    lends = False

    def __init__(
        self,
        values: Values,
        taps: Sequence[int],
        *,
        refuses: RunError | None = None,
        fails_at: int | None = None,
    ) -> None:
        self._values, self._taps, self._refuses, self._fails_at = values, taps, refuses, fails_at
        self.runs: list[list[Array]] = []
        """The inputs of every run."""
        self.fresh: list[bool] = []
        """By run whether variables were reset before."""
        self.said: list[str] = []
        """``start``, ``open`` and ``close`` in the order in which they were called."""
        self.states: dict[int, Array] = {}
        self.delegated: tuple[int, ...] = ()

    def start(self) -> FakeRunner:
        self.said.append("start")
        return self

    def __enter__(self) -> FakeRunner:
        self.said.append("open")
        if self._refuses is not None:
            raise self._refuses
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, sample: Sequence[Array], *, fresh: bool = True, lend: bool = False
    ) -> list[Array]:
        self.runs.append([np.array(a) for a in sample])
        self.fresh.append(fresh)
        if len(self.runs) - 1 == self._fails_at:
            raise RunError("the runtime died", hint="choose another --runtime")
        values = self._values(sample)
        return [np.asarray(values[tap]) for tap in self._taps]

    def close(self) -> None:
        self.said.append("close")


@dataclass
class FakeRuntime:
    """Stands for `tfldbg.run.litert.Runner`: makes a `FakeRunner` for each program."""

    values: Values
    options: dict[str, Any] = field(default_factory=dict)
    """Keywords of every runner."""
    made: list[FakeRunner] = field(default_factory=list)

    def __call__(self, program: Program) -> Any:
        self.made.append(FakeRunner(self.values, program.taps, **self.options))
        return self.made[-1]


class FakeReference:
    """The reference of a file with input 0: computes with functions, notes what it is asked for.

    Args:
        free: Computes real values by tensor, for the inputs of one sample in codes.
        local: Computes them for what the file made of the sample: codes by tensor.  Without it,
            every operator reads what the reference made.
    """

    batch: int | None = None
    in_batches = False

    def __init__(self, free: Values, local: Operators | None = None) -> None:
        self._free, self._local = free, local
        self.batches: list[range] = []
        self.closed = 0

    def compute(self, batch: Batch) -> Computed:
        self.batches.append(range(batch.start, batch.stop))
        rows = [{i: v[n] for i, v in batch.codes.items()} for n in range(batch.stop - batch.start)]
        free = [self._free([row[0]]) for row in rows]
        local = free if self._local is None else [self._local(row) for row in rows]
        known = batch.real.keys() - {0}
        return Computed(_stacked(free, known), _stacked(local, known))

    def close(self) -> None:
        self.closed += 1


def _stacked(rows: Sequence[Mapping[int, Array]], known: Collection[int]) -> dict[int, Array]:
    return {i: np.stack([r[i] for r in rows]).astype(np.float32) for i in rows[0] if i in known}


def fake_kind(reference: Callable[[], Any], traits: Traits) -> Kind:
    """Return a kind of reference that is matched as the file is with itself.

    Args:
        reference: Returns the `FakeReference`, before the runtime is waited for.
        traits: What it is like.
    """

    def opened(bench: Bench) -> Opened:
        made, about = reference(), About("runtime", "NumPy", traits)
        relation = Relation(match_itself(bench.job.subgraph), bench.job.skipped)
        bench.start(about, lambda: relation)
        return Opened(about, relation, made)

    return Kind(traits, opened)


def in_real(values: Values) -> Values:
    """Return the values of a `chain_file` in real units, from those in codes."""
    return lambda given: {i: _real(codes) for i, codes in values(given).items()}


def chain_operators(*kinds: str) -> Operators:
    """Return what computes each operator of a `chain_file` by itself, in real units."""
    return lambda codes: {
        place + 1: _real(_KERNELS[kind](codes[place]))
        for place, kind in enumerate(kinds)
        if place in codes
    }


def _real(codes: Array) -> Array:
    return (codes.astype(np.float32) - ZERO_POINT) * np.float32(STEP)
