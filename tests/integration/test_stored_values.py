"""Files that store constants sparse, or write values over others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfldbg
from tests.loop_file import File
from tests.sparse_file import sparse_file
from tests.unit.graph.test_sparse import LAYOUTS, pruned
from tfldbg.diagnose.model import Finding
from tfldbg.rewrite.separate import separate
from tfldbg.run.job import load


def errors(result: tfldbg.Trace) -> list[Finding]:
    return [f for f in result.diagnosis.findings if f.severity == "error"]


@pytest.mark.parametrize("runtime", ["builtin", "reference"])
@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_sparse_weights_are_known_to_the_float_copies(kind: str, runtime: str) -> None:
    model = sparse_file(pruned(kind), LAYOUTS["blocks of 2 x 4"])
    result = tfldbg.trace(model, samples=4, runtime=runtime)
    assert result.verdict == "clean" and not errors(result), result.diagnosis.sentence
    checked = [o.kind for o in result.evidence.ops if o.local is not None]
    assert checked == ["FULLY_CONNECTED", "RELU"]


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_a_wrong_sparse_weight_is_named(kind: str) -> None:
    good, bad = pruned(kind), pruned(kind)
    row = int(np.flatnonzero(bad.any(1))[1])
    bad[row] = -bad[row]
    files = [sparse_file(w, LAYOUTS["rows"]) for w in (bad, good)]
    result = tfldbg.trace(files[0], against=files[1], samples=4, runtime="builtin")
    first = result.first_divergence
    assert first is not None and first.kind == "FULLY_CONNECTED" and first.signal == "weights"
    assert result.cause is not None and result.cause.code == "TFL052"
    assert f"channel {row} is negated" in result.cause.message


def _in_place(kinds: list[str], factor: float = 2.0) -> bytes:
    """Operators one after the other that all write over the model's input, and TANH of it."""
    file = File()
    main = file.subgraph()
    x = main.tensor("FLOAT32", [1, 6])
    constant = main.tensor("FLOAT32", [1, 6], np.full((1, 6), factor, np.float32))
    out = main.tensor("FLOAT32", [1, 6])
    for kind in kinds:
        options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}.get(kind)
        operands = [x, constant] if options else [x]
        main.operator(kind, operands, [x], options() if options else None)
    main.operator("TANH", [x], [out])
    main.ends([x], [out])
    return file.save()


def _planned() -> bytes:
    """Five values in two places, as the file itself plans its memory."""
    file = File()
    main = file.subgraph()
    values = [main.tensor("FLOAT32", [1, 8]) for _ in range(5)]
    for place, kind in enumerate(["TANH", "LOGISTIC", "TANH", "LOGISTIC"]):
        main.operator(kind, [values[place]], [values[place + 1]])
    main.ends([values[0]], [values[-1]])
    plan = schema.MetadataT()
    plan.name = b"OfflineMemoryAllocation"
    plan.buffer = file.buffer(np.array([1, 0, 5, 0, 64, 0, 64, 0], np.int32))
    file.model.metadata = [plan]
    return file.save()


@pytest.mark.parametrize(
    "make",
    [
        lambda: _in_place(["MUL"]),
        lambda: _in_place(["ADD", "LOGISTIC", "MUL", "ADD"]),
        _planned,
    ],
)
def test_what_is_written_over_is_known_all_the_same(make: Callable[[], bytes]) -> None:
    pytest.importorskip("tflite_micro", reason="TensorFlow Lite Micro is not installed here")
    result = tfldbg.trace(make(), samples=4, runtime="micro")
    assert result.verdict == "clean" and not result.diagnosis.findings, result.diagnosis.sentence
    assert all(o.local is not None for o in result.evidence.ops)
    assert result.evidence.run.observer_identical and "write over" in result.evidence.run.notes[0]


def test_a_wrong_operator_that_writes_over_its_input_is_named() -> None:
    pytest.importorskip("tflite_micro", reason="TensorFlow Lite Micro is not installed here")
    kinds = ["LOGISTIC", "MUL", "ADD"]
    files = [_in_place(kinds, factor) for factor in (2.5, 2.0)]
    # LiteRT does not run such a file; the reference has a tensor for each value.
    reference = separate(load(files[1]).untouched or load(files[1]).graph)
    assert reference is not None
    result = tfldbg.trace(files[0], against=reference, samples=4, runtime="micro")
    assert result.first_divergence is not None and result.first_divergence.op == 1


def test_every_value_has_a_tensor_and_the_other_numbers_stay() -> None:
    loaded = load(_in_place(["ADD", "LOGISTIC"]))
    assert loaded.untouched is not None and loaded.data == loaded.untouched.data
    main = loaded.graph.main
    written = [i for op in main.operators for i in op.outputs]
    assert len({*main.inputs, *written}) == 4 and main.outputs == (2,)
    assert [t.name for t in main.tensors][:3] == ["t0", "t1", "t2"]


def test_what_nothing_writes_is_no_input_to_judge_by() -> None:
    pytest.importorskip("tflite_micro", reason="TensorFlow Lite Micro is not installed here")
    file = File()
    main = file.subgraph()
    x, nowhere, y = (main.tensor("FLOAT32", [1, 4]) for _ in range(3))
    main.operator("ADD", [x, nowhere], [y], schema.AddOptionsT())
    main.ends([x], [y])
    result = tfldbg.trace(file.save(), samples=2, runtime="micro")
    assert result.verdict == "clean"
    assert "which nothing writes" in (result.evidence.ops[0].local_reason or "")
