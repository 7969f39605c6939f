"""Refuse a reference that is the model of another file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.errors import MatchError
from tfldbg.graph.query import WEIGHTED

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.graph.model import Subgraph
    from tfldbg.match.model import Matching
    from tfldbg.reference.graphdef import RefGraph

_SHOWN = 8
"""The number of sizes in a message."""
_HINT = "give the Keras model that the file was converted from"


def check_same_model(subgraph: Subgraph, graph: RefGraph, relation: Relation) -> None:
    """Raise an error if the reference is the model of another file.

    It is, if more than two thirds of the activations have no counterpart and are not checked
    together with one that has, unless an operator with the name of a node explains it by another
    shape of its output.  A shape with another number of channels explains nothing: weights of
    another size are another model's.  It also is, if no output of the file is an output of the
    reference and no operator has the reference's weights, or if no weights of the file could be
    part of a constant of the reference.

    Raises:
        MatchError: The models are not the same.
    """
    others = subgraph.non_activations
    matching, checks = relation.matching, relation.checks
    together = frozenset().union(*relation.joint.values())
    wanted = {i: op.index for i, op in subgraph.producers.items() if i not in others}
    resized = _has_other_channels(subgraph, matching)
    checked = frozenset() if resized else together
    matched = [i for i, op in wanted.items() if i in matching.matches or op in checked]
    explained = matching.shapes and not resized
    if wanted and 3 * len(matched) < len(wanted) and not explained:
        raise MatchError(
            f"this is not the file's Keras model: only {len(matched)} of {len(wanted)} activations "
            "have a counterpart in it",
            hint=_HINT,
        )
    strange = bool(checks) and all(check.differ for check in checks.values())
    if strange and not _ends_alike(subgraph, matching, graph):
        raise MatchError(
            "this is not the file's Keras model: no output of the file is an output of the model, "
            "and all weights differ",
            hint=_HINT,
        )
    sizes = _sizes_of_weights(subgraph)
    if len(sizes) > 1 and not any(_is_part(size, graph.sizes_of_constants) for size in sizes):
        raise MatchError(
            "this is not the file's Keras model: it has no constant of the size of any operator's "
            f"weights ({', '.join(map(str, sizes[:_SHOWN]))})",
            hint=_HINT,
        )


def _sizes_of_weights(subgraph: Subgraph) -> list[int]:
    """Return the number of weights of each operator that must have some, in execution order."""
    operators = (op for op in subgraph.operators if op.kind in WEIGHTED)
    tensors = (subgraph.tensors[op.inputs[WEIGHTED[op.kind][1]]] for op in operators)
    return [t.elements for t in tensors if t.has_data]


def _is_part(size: int, wholes: frozenset[int]) -> bool:
    """Return whether weights may be a part of a constant, as gates and groups are."""
    return any(whole and whole % size == 0 for whole in wholes)


def _has_other_channels(subgraph: Subgraph, matching: Matching) -> bool:
    """Return whether an operator with weights computes another number of channels than its node."""
    weighted = (op for op in subgraph.operators if op.kind in WEIGHTED)
    pairs = (
        (subgraph.tensors[i].shape, matching.shapes.get(i)) for op in weighted for i in op.outputs
    )
    return any(shape is not None and own[-1:] != shape[-1:] for own, shape in pairs)


def _ends_alike(subgraph: Subgraph, matching: Matching, graph: RefGraph) -> bool:
    """Return whether some output of the file computes an output of the reference."""
    ends = frozenset().union(*(graph.handed_on(output) for output in graph.outputs))
    found = (matching.matches.get(i) for i in subgraph.outputs)
    return any(m is not None and not ends.isdisjoint(m.names) for m in found)
