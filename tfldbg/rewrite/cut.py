"""A model of single operators in the file's own arithmetic: other inputs, the same kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfldbg.rewrite.emit import Emitter
from tfldbg.rewrite.twin import Computation, LocalModel, side_by_side

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Subgraph


def cut_model(graph: Graph, subgraph: Subgraph, steps: Sequence[Computation]) -> LocalModel:
    """Build the model that computes each quantized operator separately from given inputs.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        steps: Operators that `tfldbg.rewrite.twin.untwinned` accepts; their feeds must have
            the types and parameters of the tensors they replace.
    """
    return side_by_side(Emitter(graph, subgraph, real=False), [[step] for step in steps])
