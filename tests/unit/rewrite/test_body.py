"""The subgraphs of a loop as files of their own."""

from __future__ import annotations

import numpy as np

from tests.loop_file import LOOP, STEPS, loop_file
from tfldbg.graph.load import load_graph
from tfldbg.rewrite.body import Part, parts_of
from tfldbg.rewrite.flatbuffer import keep_subgraph


def _parts(data: bytes) -> tuple[Part, Part]:
    graph = load_graph(data)
    parts = parts_of(graph, graph.main.operators[LOOP], "the loop")
    assert not isinstance(parts, str)
    return parts


def _run(data: bytes, given: list[np.ndarray]) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    graph = load_graph(data).main
    for index, array in zip(graph.inputs, given, strict=True):
        interpreter.set_tensor(index, array)
    interpreter.invoke()
    return [interpreter.get_tensor(i) for i in graph.outputs]


def test_a_part_is_the_only_subgraph_and_keeps_its_numbers() -> None:
    data = loop_file()
    before = load_graph(data)
    for part in _parts(data):
        kept, old = part.graph.main, before.subgraphs[part.subgraph]
        assert len(part.graph.subgraphs) == 1
        assert [o.kind for o in kept.operators] == [o.kind for o in old.operators]
        assert [t.name for t in kept.tensors] == [t.name for t in old.tensors]
        assert (kept.inputs, kept.outputs) == (old.inputs, old.outputs)


def test_only_two_vectors_are_changed() -> None:
    data = loop_file()
    changed = keep_subgraph(data, 2)
    assert len(changed) == len(data)
    assert sum(a != b for a, b in zip(data, changed, strict=True)) <= 12


def test_the_body_step_by_step_is_the_loop() -> None:
    data = loop_file()
    condition, body = _parts(data)
    x = np.array([[-20, 30, 40, -50]], np.int8)
    state = [np.zeros((), np.int32), np.maximum(x, 3)]  # behind the RELU, whose zero point is 3
    for _ in range(STEPS):
        (going,) = _run(keep_subgraph(data, condition.subgraph), state)
        assert going
        state = _run(keep_subgraph(data, body.subgraph), state)
    assert not _run(keep_subgraph(data, condition.subgraph), state)[0]
    assert np.array_equal(state[1], _run(data, [x])[0])


def test_a_loop_inside_a_loop_is_refused_with_the_reason() -> None:
    graph = load_graph(loop_file(nested=True))
    found = parts_of(graph, graph.main.operators[LOOP], "the loop")
    assert found == "operator 2 WHILE of its body (subgraph 2) runs another subgraph itself"
