"""Exposing intermediate tensors by a byte patch."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_models import plant
from tests.odd_files import two_signatures
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.query import constant
from tfldbg.rewrite.expose import expose
from tfldbg.rewrite.flatbuffer import replace_outputs


def _run(data: bytes, given: np.ndarray) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    return interpreter


def test_every_operator_output_becomes_an_output(samples: Path) -> None:
    graph = load_graph(read_file(samples / "cnn.tflite"))
    exposed = expose(graph, graph.main)
    assert exposed.taps == tuple(op.outputs[0] for op in graph.main.operators)
    assert exposed.skipped == ()
    again = load_graph(exposed.model_bytes).main
    assert again.outputs[: len(graph.main.outputs)] == graph.main.outputs
    assert set(again.outputs) == set(exposed.taps)


def test_weights_are_untouched_and_outputs_identical(samples: Path) -> None:
    data = read_file(samples / "cnn.tflite")
    graph = load_graph(data)
    exposed = expose(graph, graph.main)
    # All that was there is still there: only one offset differs, and bytes were appended.
    old, new = data, exposed.model_bytes[: len(data)]
    assert sum(a != b for a, b in zip(old, new, strict=True)) <= 4
    given = np.random.default_rng(0).integers(-128, 128, (1, 28, 28, 1)).astype(np.int8)
    out = graph.main.outputs[0]
    before, after = _run(data, given), _run(exposed.model_bytes, given)
    assert np.array_equal(before.get_tensor(out), after.get_tensor(out))


def test_buffers_behind_the_flatbuffer_move_along(samples: Path) -> None:
    data = _with_external_buffer(read_file(samples / "dense4.tflite"))
    graph = load_graph(data)
    spans = [b for b in graph.buffers if b.external]
    assert len(spans) == 1
    exposed = expose(graph, graph.main)
    again = load_graph(exposed.model_bytes)
    for before, after in zip(graph.main.tensors, again.main.tensors, strict=True):
        one, two = constant(graph, before), constant(again, after)
        assert (one is None and two is None) or np.array_equal(one, two)
    given = np.random.default_rng(0).integers(-128, 128, (1, 28, 28)).astype(np.int8)
    out = graph.main.outputs[0]
    found = _run(exposed.model_bytes, given).get_tensor(out)
    assert np.array_equal(found, _run(data, given).get_tensor(out))


def test_signatures_list_the_new_outputs(samples: Path) -> None:
    """As LiteRT's CompiledModel demands, which computes what the interpreter does."""
    from ai_edge_litert.compiled_model import CompiledModel

    small, large = read_file(samples / "cnn.tflite"), read_file(samples / "dense4.tflite")
    for data in (small, _with_external_buffer(large)):
        graph = load_graph(data)
        content = expose(graph, graph.main, named=True).model_bytes
        again = load_graph(content)
        (signature,) = again.signatures
        assert tuple(signature.outputs.values()) == again.main.outputs
        assert signature.inputs == graph.signatures[0].inputs
        assert signature.outputs.items() > graph.signatures[0].outputs.items()
        shape = again.main.tensors[again.main.inputs[0]].shape
        given = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        model = CompiledModel.from_buffer(content)
        ins, outs = model.create_input_buffers(0), model.create_output_buffers(0)
        ins[0].write(given)
        model.run_by_index(0, ins, outs)
        interpreter = _run(content, given)
        for name, buffer in zip(model.get_signature_by_index(0)["outputs"], outs, strict=True):
            expected = interpreter.get_tensor(signature.outputs[name])
            assert np.array_equal(buffer.read(expected.size, np.int8), expected.reshape(-1))


def test_names_in_a_signature_are_told_apart() -> None:
    file = plant.File(two_signatures())
    for subgraph in file.model.subgraphs:
        for number, tensor in enumerate(subgraph.tensors):
            tensor.name = None if number == 2 else b"same"
    graph = load_graph(file.save())
    for subgraph in graph.subgraphs:
        again = load_graph(expose(graph, subgraph, named=True).model_bytes)
        for before, after in zip(graph.signatures, again.signatures, strict=True):
            if after.subgraph != subgraph.index:
                assert after.outputs == before.outputs
            else:
                outputs = again.subgraphs[subgraph.index].outputs
                assert sorted(after.outputs.values()) == sorted(outputs)


def test_a_file_without_a_signature_stays_without(samples: Path) -> None:
    file = plant.File(read_file(samples / "dense4.tflite"))
    file.model.signatureDefs = []
    graph = load_graph(file.save())
    plain, named = expose(graph, graph.main), expose(graph, graph.main, named=True)
    assert named.model_bytes == plain.model_bytes
    assert load_graph(named.model_bytes).signatures == ()


def _with_external_buffer(data: bytes) -> bytes:
    """Move the weights of operator 1 behind the flatbuffer, as large files have them."""
    file = plant.File(data)
    values = file.values(1, 1).tobytes()
    buffer = file.model.buffers[file.tensor(file.op(1).inputs[1]).buffer]
    buffer.data, buffer.offset, buffer.size = None, 0x7777777777, len(values)
    packed = bytearray(file.save())
    packed += bytes(-len(packed) % 64)
    position = bytes(packed).index(struct.pack("<Q", 0x7777777777))
    struct.pack_into("<Q", packed, position, len(packed))
    return bytes(packed) + values


def test_folded_constants_and_handles_are_skipped_with_a_reason(shared_models: Path) -> None:
    graph = load_graph(read_file(shared_models / "tflite" / "litert_redux_precision_f16.tflite"))
    exposed = expose(graph, graph.main)
    assert exposed.skipped
    assert all("folds it" in s.reason for s in exposed.skipped)
    graph = load_graph(read_file(shared_models / "tflite" / "litert_call_once_mul.tflite"))
    exposed = expose(graph, graph.main)
    assert any("RESOURCE" in s.reason for s in exposed.skipped)


def test_a_shorter_model_keeps_only_the_first_operators(samples: Path) -> None:
    data = read_file(samples / "cnn.tflite")
    main = load_graph(data).main
    out = main.operators[2].outputs[0]
    short = load_graph(bytes(replace_outputs(data, 0, [out], operator_count=3))).main
    assert [op.kind for op in short.operators] == [op.kind for op in main.operators[:3]]
    assert short.outputs == (out,)


@pytest.mark.parametrize("name", ["litert_2_subgraphs", "aeq_two_signatures_a8w8"])
def test_other_subgraphs_can_be_exposed(shared_models: Path, name: str) -> None:
    graph = load_graph(read_file(shared_models / "tflite" / f"{name}.tflite"))
    for subgraph in graph.subgraphs:
        if subgraph.operators:
            exposed = expose(graph, subgraph)
            again = load_graph(exposed.model_bytes)
            assert set(exposed.taps) <= set(again.subgraphs[subgraph.index].outputs)
