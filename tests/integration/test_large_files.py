"""Constants behind the flatbuffer and in other files, and files over 2 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import tfldbg
from sample_models import plant
from tests.unit.diagnose.test_rules_file import Network, params
from tfldbg.graph.load import load_graph
from tfldbg.rewrite.pieces import ComputedBytes
from tfldbg.session.exposing import expose_model

GIGABYTES = float(os.environ.get("TFLDBG_LARGE_GB", "0"))


def dense(path: Path, rows: int, columns: int) -> Path:
    """Write an int8 FULLY_CONNECTED and a RELU; the weights are never in memory as a whole."""
    generator = np.random.default_rng(0)

    def weights() -> Iterator[np.ndarray]:
        at_once = max(1, (16 << 20) // columns)
        for start in range(0, rows, at_once):
            shape = (min(at_once, rows - start), columns)
            yield generator.integers(-100, 101, shape, dtype=np.int8)

    network = Network()
    given = network.tensor("INT8", (1, columns), quant=params(0.05))
    made = ComputedBytes(rows * columns, weights)
    stored = network.tensor("INT8", (rows, columns), quant=params(0.001), values=made)
    bias = network.bias(np.zeros(rows, np.int32), 0.05 * 0.001)
    scale = 0.0002 * columns**0.5 * 6
    sums, out = (network.tensor("INT8", (1, rows), quant=params(scale)) for _ in range(2))
    network.dense(given, stored, bias, sums)
    network.operator("RELU", (sums,), (out,))
    path.write_bytes(bytes(network.build([given], [out])))
    return path


def test_constants_behind_the_flatbuffer(tmp_path: Path) -> None:
    model = dense(tmp_path / "outside.tflite", 256, 4096)
    graph = load_graph(model.read_bytes())
    assert [b.size for b in graph.buffers if b.external] == [256 * 4096]
    result = tfldbg.trace(model, samples=2, dump=tmp_path / "run.h5")
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.evidence.run.observer_identical and result.evidence.covered == {0, 1}
    assert tfldbg.trace(model, against=model, samples=2).verdict == "clean"
    content = expose_model(model)[1].content
    assert len(content) == len(bytes(content))
    (tmp_path / "exposed.tflite").write_bytes(bytes(content))
    interpreter = Interpreter(model_path=str(tmp_path / "exposed.tflite"))
    assert len(interpreter.get_output_details()) == 2


def test_a_large_constant_is_dequantized_while_it_is_written(tmp_path: Path) -> None:
    model = dense(tmp_path / "blocks.tflite", 1000, 20_000)  # two blocks, the last not whole
    result = tfldbg.trace(model, samples=1)
    assert result.verdict == "clean", result.diagnosis.sentence
    local = result.evidence.ops[0].local
    assert local is not None and 0.2 < (local.max_lsb or 0.0) <= 0.75


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """An ADD of a constant that lies in another file."""
    network = Network()
    given, constant, out = (network.tensor("FLOAT32", (1, 8)) for _ in range(3))
    network.operator("ADD", (given, constant), (out,), ("AddOptions", schema.AddOptionsT()))
    file = plant.File(network.finish([given], [out]))
    buffer, group = schema.ExternalBufferT(), schema.ExternalBufferGroupT()
    buffer.id, buffer.group, buffer.offset, buffer.length = 1, 0, 0, 32
    group.name = b"weights.bin"
    file.model.externalBuffers, file.model.externalBufferGroups = [buffer], [group]
    file.tensor(constant).externalBuffer = 1
    model = tmp_path / "beside.tflite"
    model.write_bytes(file.save())
    np.arange(8, dtype=np.float32).tofile(tmp_path / "weights.bin")
    return model


def test_constants_in_another_file(beside: Path) -> None:
    with pytest.raises(tfldbg.RunError, match=r"constants in other files \('weights.bin'\)"):
        tfldbg.trace(beside)
    assert expose_model(beside)[1].taps == (2,)
    said = _run("inspect", str(beside))
    assert said.returncode == 0 and "constants in other files: 'weights.bin'" in said.stdout


@pytest.mark.skipif(not GIGABYTES, reason="TFLDBG_LARGE_GB=2.1 writes files of five times that")
def test_a_file_over_two_gigabytes(tmp_path: Path) -> None:
    model = dense(tmp_path / "large.tflite", 2048, int(GIGABYTES * 2**30 / 2048))
    for command in (
        ("inspect", str(model)),
        ("expose", str(model), "-o", str(tmp_path / "exposed.tflite")),
        ("dump", str(model), "--samples", "1", "-o", str(tmp_path / "run.h5")),
        ("trace", str(model), "--samples", "1"),
    ):
        done = _run(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfldbg", *arguments], check=False, capture_output=True, text=True
    )
