"""Every operator for itself, in the file's own arithmetic: other inputs, the same kernels."""

from __future__ import annotations

from collections.abc import Sequence

from tfldbg.graph.model import Graph, Subgraph
from tfldbg.rewrite.emit import Emitter
from tfldbg.rewrite.twin import LocalModel, Step


def cut_model(graph: Graph, subgraph: Subgraph, steps: Sequence[Step]) -> LocalModel:
    """Build the model that computes each operator, quantized as it is, from given inputs.

    Args:
        graph: The file.
        subgraph: Its subgraph.
        steps: Operators that `tfldbg.rewrite.twin.untwinned` does not refuse; their feeds must have
            the types and parameters of the tensors they replace.

    Raises:
        RewriteError: The constants are too large for one file.
    """
    emitter = Emitter(graph, subgraph, real=False)
    outputs: dict[int, int] = {}
    for step in steps:

        def read(index: int, step: Step = step) -> int:
            return emitter.given(index, step.feeds.get(index))

        written = emitter.emit(step.op, read)
        for index, made in zip(step.op.outputs, written, strict=True):
            if index in step.results:
                outputs[step.results[index]] = made
    return LocalModel(
        model_bytes=emitter.finish(outputs.values()),
        feeds=tuple(key for key, _ in emitter.inputs),
        results=tuple(outputs),
        taps=tuple(outputs.values()),
    )
