"""The float copy of a file, corrected to give the file's own values, so that errors can be removed.

A *correction*, an input of the model, is added after each float copy of an operator.  With the
corrections ``actual output - float copy of the actual inputs`` every tensor has the values that it
had in the file.  With another correction at one operator, the output of that operator changes, and
every operator downstream follows in float with the local errors that it had in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tfldbg.rewrite.emit import Emitter, as_float, is_real
from tfldbg.rewrite.twin import ALIASES, emit_clamp

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph
    from tfldbg.rewrite.pieces import Pieces


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """The part of a file that is replayed."""

    finals: tuple[int, ...]
    """The tensors to compute, all of them in real units."""
    given: Collection[int]
    """The operators without a float copy; the values of their outputs are inputs."""
    corrected: Collection[int]
    """The tensors that a correction is added to."""
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """The range that a tensor's float copy is clamped to before the correction, by tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The model, with one output for each of ``finals``."""

    content: Pieces
    feeds: tuple[int, ...]
    """The tensor of the file for each input of this model."""
    corrected: frozenset[int]
    """The tensors of ``feeds`` whose input takes a correction; the others take the tensor's value.
    Both are in real units if the tensor is real."""
    operators: frozenset[int]
    """The operators that are replayed or given: those upstream of ``finals``."""
    taps: tuple[int, ...]
    """The tensor of this model that holds each final tensor."""


def replay_model(
    graph: Graph, subgraph: Subgraph, plan: Replayed, ran: Mapping[int, tuple[int, ...]]
) -> Replay:
    """Build the model that replays a file.

    Args:
        graph: The file.
        subgraph: The subgraph.
        plan: The part to replay.
        ran: The shape of each tensor when the file ran; the file may state another one for dynamic
            dimensions.
    """
    builder = _ReplayBuilder(graph, subgraph, plan, ran)
    needed = upstream(subgraph, plan.finals, plan.given)
    for op in subgraph.operators:
        if op.index in needed and op.index not in plan.given:
            builder.add(op)
    return builder.finish(needed)


def upstream(subgraph: Subgraph, tensors: Sequence[int], given: Collection[int]) -> frozenset[int]:
    """Return the operators that tensors depend on; the search stops at ``given`` operators."""
    found: set[int] = set()
    stack = list(tensors)
    while stack:
        op = subgraph.producers.get(stack.pop())
        if op is None or op.index in found:
            continue
        found.add(op.index)
        if op.index not in given:
            stack += [i for i in op.inputs if i >= 0]
    return frozenset(found)


class _ReplayBuilder:
    def __init__(
        self,
        graph: Graph,
        subgraph: Subgraph,
        plan: Replayed,
        ran: Mapping[int, tuple[int, ...]],
    ) -> None:
        self._emitter = Emitter(graph, subgraph, real=True)
        self._subgraph, self._plan, self._ran = subgraph, plan, ran
        self._values: dict[int, int] = {}
        self._corrections: dict[int, int] = {}

    def add(self, op: Operator) -> None:
        """Append one operator and the corrections of its outputs."""
        if any(i in self._subgraph.folded_constants for i in op.outputs):
            return
        emit: Callable[[Operator, Callable[[int], int]], list[int]] = self._emitter.emit
        written = [self._read(op.inputs[0])] if op.kind in ALIASES else emit(op, self._read)
        for index, made in zip(op.outputs, written, strict=True):
            self._values[index] = self._settled(index, made) if index >= 0 else made

    def _read(self, index: int) -> int:
        """Return a computed value, or the input that replaces it."""
        if index in self._values:
            return self._values[index]
        tensor = self._subgraph.tensors[index]
        if not is_real(tensor) or tensor.has_data or tensor.is_variable:
            return self._emitter.given(index, None)
        shape = self._ran.get(index, tensor.shape)
        return self._emitter.given(index, as_float(replace(tensor, shape=shape)))

    def _settled(self, index: int, made: int) -> int:
        """Clamp and correct a value as the plan says."""
        draft = self._emitter.draft
        shape = self._ran.get(index, self._subgraph.tensors[index].shape)
        if index in self._plan.ranges:
            made = emit_clamp(draft, shape, made, self._plan.ranges[index])
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
