"""The subgraphs that an operator runs, as separate files that can run and be traced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.graph.limits import missing_operand
from tfldbg.graph.load import load_graph
from tfldbg.graph.query import CALLED, ROLES, called_subgraphs
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.rewrite.flatbuffer import keep_subgraph

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A subgraph that an operator runs."""

    role: str
    """One of the roles in `ROLES` for the operator."""
    subgraph: int
    """Its index in the user's file."""
    graph: Graph
    """A file with this as its only subgraph; tensors and operators keep their indices."""
    exposed: Exposed


def parts_of(graph: Graph, op: Operator, name: str) -> tuple[Part, ...] | str:
    """Return the subgraphs that an operator runs, or why they cannot run separately.

    Args:
        graph: The file.
        op: An operator whose kind is in `ROLES`.
        name: The name of the file in error messages.
    """
    parts = []
    numbers = dict(zip(ROLES[op.kind], called_subgraphs(op), strict=False))
    for role in ROLES[op.kind]:
        number = numbers.get(role, -1)
        if not 0 <= number < len(graph.subgraphs):
            return f"it names no {role} subgraph that the file holds"
        reason = _cannot_run(graph, op, role, number)
        if reason is not None:
            return reason
        alone = load_graph(keep_subgraph(graph.data, number), name)
        parts.append(Part(role, number, alone, expose(alone, alone.main)))
    return tuple(parts)


def _cannot_run(graph: Graph, op: Operator, role: str, number: int) -> str | None:
    subgraph = graph.subgraphs[number]
    inner = next((o for o in subgraph.operators if o.kind in CALLED), None)
    if inner is not None:
        return (
            f"operator {inner.index} {inner.kind} of its {role} (subgraph {number}) runs "
            "another subgraph itself"
        )
    lack = next(((o, why) for o in subgraph.operators if (why := missing_operand(o))), None)
    if lack is not None:
        return f"operator {lack[0].index} {lack[0].kind} of its {role} {lack[1]}"
    handed = len(op.inputs) - (op.kind == "IF")  # whose first input only chooses the branch
    if len(subgraph.inputs) != handed:
        return f"its {role} takes {len(subgraph.inputs)} values, but gets {handed}"
    wanted = 1 if role == "cond" else len(op.outputs)
    if len(subgraph.outputs) != wanted:
        return f"its {role} returns {len(subgraph.outputs)} values, expected {wanted}"
    return None
