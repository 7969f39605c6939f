"""Quantized values that a comparison cannot tell apart say nothing of the operator."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.loop_file import File
from tfldbg.compare.batch import Batch
from tfldbg.compare.undecided import comparisons
from tfldbg.graph.load import load_graph


def compared(kind: str, one: float, other: float) -> bytes:
    file = File()
    main = file.subgraph()
    sides = [main.tensor("INT8", [1, 64], None, scale, 3) for scale in (one, other)]
    made = main.tensor("BOOL", [1, 64])
    name = "".join(part.title() for part in kind.split("_"))
    main.operator(kind, sides, [made], getattr(schema, f"{name}OptionsT")())
    main.ends(sides, [made])
    return file.save()


def test_only_what_lies_near_counts_as_the_kernel_has_it() -> None:
    graph = load_graph(compared("GREATER", 0.01, 0.013))
    (comparison,) = comparisons(graph, graph.main)
    values = {0: [0.5, 0.5], 1: [0.501, 0.6], 2: [1.0, 1.0]}
    real = {i: np.array([v], np.float32) for i, v in values.items()}
    settled = comparison.settle(Batch(0, 1, {}, real), np.zeros((1, 2), np.float32))
    assert settled.tolist() == [[1.0, 0.0]]
