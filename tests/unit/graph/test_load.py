"""Reading .tflite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.unit.graph.damage import damaged
from tfldbg.errors import ModelError, UsageError
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.query import activation_inputs, choose_signature, constant, real_constant


@pytest.fixture(scope="module")
def cnn(samples: Path) -> bytes:
    return read_file(samples / "cnn.tflite")


def test_operators_tensors_and_options(cnn: bytes) -> None:
    graph = load_graph(cnn)
    kinds = [op.kind for op in graph.main.operators]
    assert kinds[:4] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"]
    assert kinds[-1] == "SOFTMAX"
    first = graph.main.operators[0]
    assert first.options["fusedActivationFunction"] == "RELU6"
    assert first.options["padding"] == "SAME"
    out = graph.main.tensors[first.outputs[0]]
    assert out.type == "INT8"
    assert out.shape == (1, 14, 14, 24)
    assert out.shape_signature == (-1, 14, 14, 24)
    assert out.lsb is not None and out.lsb > 0


def test_weights_are_per_channel_and_read_only(cnn: bytes) -> None:
    graph = load_graph(cnn)
    op = graph.main.operators[0]
    weights = graph.main.tensors[op.inputs[1]]
    assert weights.quant is not None
    assert weights.quant.scale.size == weights.shape[0] == 24
    codes, real = constant(graph, weights), real_constant(graph, weights)
    assert codes is not None and real is not None
    assert codes.dtype == np.int8
    expected = codes.astype(np.float32) * weights.quant.scale.reshape(-1, 1, 1, 1)
    assert np.array_equal(real, expected)
    with pytest.raises(ValueError, match="read-only"):
        codes[:] = 0


def test_producers_and_consumers_are_each_others_reverse(cnn: bytes) -> None:
    main = load_graph(cnn).main
    for op in main.operators:
        for out in op.outputs:
            assert main.producers[out] is op
        for given in activation_inputs(main, op):
            assert op in main.consumers[given.index]


def test_signatures(cnn: bytes) -> None:
    graph = load_graph(cnn)
    subgraph, signature = choose_signature(graph, None)
    assert subgraph.index == 0
    assert signature is not None and list(signature.inputs) == ["image"]
    with pytest.raises(UsageError, match="no signature 'nothing'; it has: 'serving_default'"):
        choose_signature(graph, "nothing")


def test_vectors_among_the_options_compare_like_numbers() -> None:
    def change(model: Any) -> None:
        op = model.subgraphs[0].operators[0]
        op.builtinOptions = schema.ReshapeOptionsT()
        op.builtinOptions.newShape = np.array([-1, 784], np.int32)
        op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions

    one, other = (load_graph(damaged(change)).main.operators[0] for _ in range(2))
    assert dict(one.options) == dict(other.options) == {"newShape": (-1, 784)}


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_text("this is not a model at all")
    with pytest.raises(ModelError, match="bytes 4 to 8 are b' is '"):
        load_graph(read_file(path), str(path))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        read_file(tmp_path / "nothing.tflite")


@pytest.mark.parametrize("keep", [8, 12, 100, 1000, 20000])
def test_a_truncated_file_is_refused_or_read(cnn: bytes, keep: int) -> None:
    try:
        load_graph(cnn[:keep])
    except ModelError as error:
        assert "damaged" in str(error)
