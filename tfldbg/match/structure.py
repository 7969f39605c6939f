"""Queries on the edges of the reference graph: the nodes that read values, and their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfldbg.match.kinds import LOOKALIKES, MAIN_OPS, PASSED_THROUGH, REFERENCE_OPS
from tfldbg.reference.graphdef import FAKE_QUANT_OPS

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor
    from tfldbg.reference.graphdef import RefGraph


def following(
    graph: RefGraph, chains: Sequence[frozenset[str]], wanted: frozenset[str], slots: int
) -> list[str]:
    """Return the nodes of some operations that read exactly the given values, in order.

    Args:
        graph: The reference.
        chains: The nodes that hold each value.
        wanted: The operations.
        slots: The number of computed values that they read; the same one twice counts as two.
    """
    known = frozenset().union(*chains)
    found: dict[str, None] = {}
    stack = [user for name in known for user in graph.consumers.get(name, ())]
    seen: set[str] = set()
    while stack:
        name = stack.pop()
        if name in seen or name not in graph.computed:
            continue
        seen.add(name)
        node = graph.nodes[name]
        sources = len(graph.computed_sources(name))
        if node.op in wanted and sources == slots and _reads(graph, name, chains):
            found[name] = None
        elif node.op in PASSED_THROUGH | FAKE_QUANT_OPS:
            stack += graph.consumers.get(name, ())
    return sorted(found, key=lambda n: graph.order[n])


def _reads(graph: RefGraph, name: str, chains: Sequence[frozenset[str]]) -> bool:
    """Return whether the computed sources of a node are exactly the given values."""
    through = PASSED_THROUGH | FAKE_QUANT_OPS
    known = frozenset().union(*chains)
    reached: set[str] = set()
    for source in graph.computed_sources(name):
        current = source
        while current not in known and graph.nodes[current].op in through:
            current = graph.computed_sources(current)[0]
        if current not in known:
            return False
        reached.add(current)
    return all(reached & chain for chain in chains)


def read_by(graph: RefGraph, kind: str, name: str) -> str | None:
    """Return the input of a kind's main operation, searching upstream from a folded node.

    Args:
        graph: The reference.
        kind: The kind of the operator.
        name: The node that it is matched with.

    Returns:
        None if it reads several values, or if there is no such operation.
    """
    wanted = REFERENCE_OPS.get(kind, frozenset())
    sources = graph.computed_sources(name)
    while len(sources) == 1 and graph.nodes[name].op not in wanted:
        name = sources[0]
        sources = graph.computed_sources(name)
    reached = len(sources) == 1 and graph.nodes[name].op in wanted
    return sources[0] if reached else None


def sequence_read(graph: RefGraph, source: str, tensor: Tensor) -> str | None:
    """Return the value that Keras flattens for a MatMul, if its number of rows is dynamic.

    This is the case after a loop that returns all its steps: only the last axis is known.

    Args:
        graph: The reference.
        source: The input of the MatMul.
        tensor: The input of its operator.
    """
    while graph.nodes[source].elements is None:
        shape = graph.nodes[source].shape or ()
        if len(shape) == len(tensor.shape) and shape[1:].count(None) == 1:
            return source if shape[-1] == tensor.shape[-1] else None
        sources = graph.computed_sources(source)
        if len(sources) != 1 or graph.nodes[source].op not in PASSED_THROUGH:
            return None
        source = sources[0]
    return source


def with_folded(graph: RefGraph, names: Sequence[str]) -> frozenset[str]:
    """Return nodes with the nodes that are folded into the operators that compute them."""
    found = set(names)
    stack = list(names)
    while stack:
        users = [u for u in graph.consumers.get(stack.pop(), ()) if u in graph.computed]
        fresh = [u for u in users if u not in found and graph.nodes[u].op not in MAIN_OPS]
        found.update(fresh[:1] if len(users) == 1 else [])
        stack += fresh[:1] if len(users) == 1 else []
    return frozenset(found)


def lookalikes(kind: str) -> frozenset[str]:
    """Return the operations of the kinds that may be confused with this one."""
    kinds = {other for family in LOOKALIKES if kind in family for other in family}
    return frozenset(op for other in kinds for op in REFERENCE_OPS.get(other, ()))
