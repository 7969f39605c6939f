"""Values that resource variables carry from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph

_MOVES = frozenset({"ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE"})


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of the value that a READ_VARIABLE returns."""

    tensor: int
    """The tensor that the ASSIGN_VARIABLE stored."""
    same_step: bool
    """True if it was stored earlier in the same step, False if in the step before."""


def sources(graph: Graph, subgraph: Subgraph) -> dict[int, Source]:
    """Return the source of the value of each READ_VARIABLE, by output tensor.

    Variables that other subgraphs may write to are left out, except those that CALL_ONCE
    initializes.  Variables that nothing writes to are left out, too.

    Args:
        graph: The file.
        subgraph: The subgraph that runs.
    """
    named = _names(subgraph)
    elsewhere = _written_elsewhere(graph, subgraph)
    if elsewhere is None or any(_lets_out(op, named) for op in subgraph.operators):
        return {}
    last = {
        named[op.inputs[0]]: op.inputs[1]
        for op in subgraph.operators
        if op.kind == "ASSIGN_VARIABLE" and op.inputs[0] in named
    }
    found: dict[int, Source] = {}
    written: dict[bytes, int] = {}
    for op in subgraph.operators:
        name = named.get(op.inputs[0]) if op.inputs else None
        if name is None or name in elsewhere:
            continue
        if op.kind == "ASSIGN_VARIABLE":
            written[name] = op.inputs[1]
        elif op.kind == "READ_VARIABLE" and name in last:
            source = written.get(name, last[name])
            if subgraph.tensors[source].elements == subgraph.tensors[op.outputs[0]].elements:
                found[op.outputs[0]] = Source(source, name in written)
    return found


def _names(subgraph: Subgraph) -> dict[int, bytes]:
    """Return the name of the variable of each handle."""
    return {
        op.outputs[0]: (op.options.get("container") or b"")
        + b"/"
        + (op.options.get("sharedName") or b"")
        for op in subgraph.operators
        if op.kind == "VAR_HANDLE"
    }


def _lets_out(op: Operator, named: Mapping[int, bytes]) -> bool:
    """Return whether an operator passes a variable to another subgraph."""
    return op.kind not in _MOVES and any(i in named for i in op.inputs)


def _written_elsewhere(graph: Graph, subgraph: Subgraph) -> frozenset[bytes] | None:
    """Return the variables that other subgraphs write to, or None if they are unknown."""
    once = {
        op.options.get("initSubgraphIndex")
        for s in graph.subgraphs
        for op in s.operators
        if op.kind == "CALL_ONCE"
    }
    found: set[bytes] = set()
    for other in graph.subgraphs:
        if other.index == subgraph.index or other.index in once:
            continue
        named = _names(other)
        for op in other.operators:
            if op.kind == "ASSIGN_VARIABLE":
                if op.inputs[0] not in named:
                    return None
                found.add(named[op.inputs[0]])
    return frozenset(found)
