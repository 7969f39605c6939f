"""The subgraph of a loop as a file of its own, so that it runs and is traced like any other."""

from __future__ import annotations

from dataclasses import dataclass

from tfldbg.graph.limits import missing_operand
from tfldbg.graph.load import load_graph
from tfldbg.graph.model import Graph, Operator
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.rewrite.flatbuffer import keep_subgraph

_RUNS_OTHERS = frozenset(
    {"CALL", "CALL_ONCE", "IF", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "WHILE"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The condition or the body of a loop."""

    subgraph: int
    """Its number in the user's file."""
    graph: Graph
    """A file that holds it as its only subgraph; tensors and operators keep their numbers."""
    exposed: Exposed


def loop_parts(graph: Graph, op: Operator, name: str) -> tuple[Part, Part] | str:
    """Return condition and body of a WHILE, or why they cannot run by themselves.

    Args:
        graph: The file.
        op: The WHILE.
        name: How error messages call the file.
    """
    parts = []
    for what in ("cond", "body"):
        number = op.options.get(f"{what}SubgraphIndex")
        if not isinstance(number, int) or not 0 <= number < len(graph.subgraphs):
            return f"it names no {what} subgraph that the file holds"
        subgraph = graph.subgraphs[number]
        inner = next((o for o in subgraph.operators if o.kind in _RUNS_OTHERS), None)
        if inner is not None:
            return (
                f"operator {inner.index} {inner.kind} of its {what} (subgraph {number}) runs "
                "another subgraph itself"
            )
        lack = next(((o, why) for o in subgraph.operators if (why := missing_operand(o))), None)
        if lack is not None:
            return f"operator {lack[0].index} {lack[0].kind} of its {what} {lack[1]}"
        if len(subgraph.inputs) != len(op.inputs):
            return f"its {what} takes {len(subgraph.inputs)} values of {len(op.inputs)}"
        alone = load_graph(keep_subgraph(graph.data, number), name)
        parts.append(Part(number, alone, expose(alone, alone.main)))
    return parts[0], parts[1]
