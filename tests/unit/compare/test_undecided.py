"""Quantized values that a comparison cannot tell apart say nothing of the operator."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

import tfldbg
from tests.loop_file import File
from tfldbg.compare.batch import Batch
from tfldbg.compare.undecided import comparisons
from tfldbg.graph.load import load_graph

SCALES = st.floats(0.01, 0.05)


def compared(kind: str, one: float, other: float) -> bytes:
    file = File()
    main = file.subgraph()
    sides = [main.tensor("INT8", [1, 64], None, scale, 3) for scale in (one, other)]
    made = main.tensor("BOOL", [1, 64])
    name = "".join(part.title() for part in kind.split("_"))
    main.operator(kind, sides, [made], getattr(schema, f"{name}OptionsT")())
    main.ends(sides, [made])
    return file.save()


@pytest.mark.parametrize("kind", ["EQUAL", "GREATER", "LESS_EQUAL"])
@settings(max_examples=5, deadline=None)
@given(one=SCALES, other=SCALES, seed=st.integers(0, 99))
def test_the_kernel_is_within_its_resolution(
    kind: str, one: float, other: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first = rng.uniform(-1, 1, (4, 1, 64)).astype(np.float32)
    near = first + rng.uniform(-0.02, 0.02, first.shape).astype(np.float32)
    data = {"t0": first, "t1": near}
    result = tfldbg.trace(compared(kind, one, other), data=data)
    assert result.verdict == "clean", result.diagnosis.sentence


def test_only_what_lies_near_counts_as_the_kernel_has_it() -> None:
    graph = load_graph(compared("GREATER", 0.01, 0.013))
    (comparison,) = comparisons(graph, graph.main)
    values = {0: [0.5, 0.5], 1: [0.501, 0.6], 2: [1.0, 1.0]}
    real = {i: np.array([v], np.float32) for i, v in values.items()}
    settled = comparison.settle(Batch(0, 1, {}, real), np.zeros((1, 2), np.float32))
    assert settled.tolist() == [[1.0, 0.0]]
