"""The float copy of a file, made to give the file's own values again: every error can be taken out.

Behind each float copy of an operator a *correction* is added, an input of the model.  With the
corrections ``actual output - float copy of the actual inputs`` every tensor has the values that it
had in the file.  With another correction at one operator, that operator's output changes and every
operator behind it follows, in float, with the errors that it made before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tfldbg.graph.query import folded_constants, producers
from tfldbg.rewrite.emit import Emitter, as_float, is_real
from tfldbg.rewrite.twin import ALIASES, clamped

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph
    from tfldbg.rewrite.pieces import Pieces


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """What of a file is replayed, and how."""

    finals: tuple[int, ...]
    """The tensors to compute, all of them real."""
    given: Collection[int]
    """Operators without a float copy; the values of what they write are inputs."""
    corrected: Collection[int]
    """Tensors that a correction is added to."""
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """By tensor, what its float copy is clamped to before the correction is added."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The model, one output for each of ``finals``."""

    content: Pieces
    feeds: tuple[int, ...]
    """For each input of this model the tensor of the file that it belongs to."""
    corrected: frozenset[int]
    """The tensors of ``feeds`` whose input takes a correction; the others take the tensor's value.
    Both are in real units where the tensor is real."""
    operators: frozenset[int]
    """The operators that are replayed or given: those that ``finals`` depend on."""
    taps: tuple[int, ...]
    """For each final tensor the tensor of this model that holds it."""


def replay_model(
    graph: Graph, subgraph: Subgraph, plan: Replayed, ran: Mapping[int, tuple[int, ...]]
) -> Replay:
    """Build the model that replays a file.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        plan: What to replay.
        ran: By tensor the shape that it had when the file ran; a file may state others for open
            dimensions.
    """
    builder = _Builder(graph, subgraph, plan, ran)
    needed = upstream(subgraph, plan.finals, plan.given)
    for op in subgraph.operators:
        if op.index in needed and op.index not in plan.given:
            builder.add(op)
    return builder.finish(needed)


def upstream(subgraph: Subgraph, tensors: Sequence[int], given: Collection[int]) -> frozenset[int]:
    """Return the operators that some tensors depend on; ``given`` ones depend on nothing."""
    writers = producers(subgraph)
    found: set[int] = set()
    stack = list(tensors)
    while stack:
        op = writers.get(stack.pop())
        if op is None or op.index in found:
            continue
        found.add(op.index)
        if op.index not in given:
            stack += [i for i in op.inputs if i >= 0]
    return frozenset(found)


class _Builder:
    def __init__(
        self,
        graph: Graph,
        subgraph: Subgraph,
        plan: Replayed,
        ran: Mapping[int, tuple[int, ...]],
    ) -> None:
        self._emitter = Emitter(graph, subgraph, real=True)
        self._subgraph, self._plan, self._ran = subgraph, plan, ran
        self._folded = folded_constants(subgraph)
        self._values: dict[int, int] = {}
        self._corrections: dict[int, int] = {}

    def add(self, op: Operator) -> None:
        """Append one operator and the corrections of what it writes."""
        if any(i in self._folded for i in op.outputs):
            return
        emit: Callable[[Operator, Callable[[int], int]], list[int]] = self._emitter.emit
        written = [self._read(op.inputs[0])] if op.kind in ALIASES else emit(op, self._read)
        for index, made in zip(op.outputs, written, strict=True):
            self._values[index] = self._settled(index, made) if index >= 0 else made

    def _read(self, index: int) -> int:
        """Return a value that was computed, or what is given in its place."""
        if index in self._values:
            return self._values[index]
        tensor = self._subgraph.tensors[index]
        if not is_real(tensor) or tensor.has_data or tensor.is_variable:
            return self._emitter.given(index, None)
        shape = self._ran.get(index, tensor.shape)
        return self._emitter.given(index, as_float(replace(tensor, shape=shape)))

    def _settled(self, index: int, made: int) -> int:
        """Clamp and correct a value, as far as the plan says so."""
        draft = self._emitter.draft
        shape = self._ran.get(index, self._subgraph.tensors[index].shape)
        if index in self._plan.ranges:
            made = clamped(draft, shape, made, self._plan.ranges[index])
        if index not in self._plan.corrected:
            return made
        from ai_edge_litert import schema_py_generated as schema

        self._corrections[index] = draft.tensor("FLOAT32", shape)
        result = draft.tensor("FLOAT32", shape)
        options = ("AddOptions", schema.AddOptionsT())
        draft.operator("ADD", [made, self._corrections[index]], [result], options)
        return result

    def finish(self, operators: frozenset[int]) -> Replay:
        """Return the model."""
        emitter, plan = self._emitter, self._plan
        inputs = [*emitter.inputs.values(), *self._corrections.values()]
        taps = tuple(self._values[i] for i in plan.finals)
        return Replay(
            content=emitter.draft.build(inputs, list(dict.fromkeys(taps))),
            feeds=(*(key for key, _ in emitter.inputs), *self._corrections),
            corrected=frozenset(self._corrections),
            operators=operators,
            taps=taps,
        )
