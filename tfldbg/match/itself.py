"""Match a file with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.match.model import Match, Matching

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor


def match_itself(subgraph: Subgraph) -> Matching:
    """Match every activation with itself."""
    others = subgraph.non_activations
    written = [i for i in subgraph.producers if i not in others]
    matches = {
        i: counterpart(i, subgraph.tensors[i], "self", 1.0) for i in (*subgraph.inputs, *written)
    }
    return Matching(matches, {}, tuple(range(len(subgraph.inputs))))


def counterpart(index: int, tensor: Tensor, rule: str, confidence: float) -> Match:
    """Return the match of tensor ``index`` with a tensor of a .tflite file."""
    name = tensor.name or f"tensor {tensor.index}"
    return Match(index, name, name, (name,), (name,), rule, confidence, "none")
