"""Reference functions: what they compute becomes a recording, and what they do wrong is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfldbg.errors import PluginError
from tfldbg.graph.load import load_graph
from tfldbg.graph.model import Subgraph
from tfldbg.reference.capture import open_capture
from tfldbg.reference.function import FunctionRecorder, Given

NAME = "sequential/dense/MatMul1"


@pytest.fixture(scope="module")
def subgraph(samples: Path) -> Subgraph:
    path = samples / "dense5_nobias_ptq.tflite"
    return load_graph(path.read_bytes(), str(path)).main


def _batches(subgraph: Subgraph) -> Iterator[Given]:
    """Five samples, three and two."""
    index = subgraph.inputs[0]
    codes = np.arange(5 * 784).reshape(5, 1, 28, 28).astype(np.int8)
    for start, stop in ((0, 3), (3, 5)):
        real = {"x": codes[start:stop, 0].astype(np.float32)}
        yield Given(start, real, {index: codes[start:stop]})


def test_the_batches_become_one_recording(subgraph: Subgraph, tmp_path: Path) -> None:
    def function(inputs: Mapping[str, Any]) -> dict[str, Any]:
        x = inputs["x"].reshape(len(inputs["x"]), -1)
        return {
            NAME: x[:, :10].astype(np.float64) / 2,
            "codes": x[:, :3].astype(np.int8),
            subgraph.tensors[subgraph.inputs[0]].name: x + 1,  # the file's own counts
        }

    recorder = FunctionRecorder("mine", function, subgraph)
    recorder.record(_batches(subgraph), tmp_path / "reference.h5")
    assert recorder.floats == {NAME}
    with open_capture(tmp_path / "reference.h5") as capture:
        given, dense, codes = capture.tensors
        assert capture.samples == 5
        assert given.is_input and given.scale == subgraph.tensors[subgraph.inputs[0]].lsb
        assert given.shape == (1, 28, 28) and given.type == "INT8"
        assert (dense.name, dense.type, dense.shape) == (NAME, "FLOAT32", (10,))
        assert (codes.name, codes.type) == ("codes", "INT8")
        flat = capture.stored(given, 0, 5).reshape(5, -1)
        assert np.array_equal(capture.stored(dense, 0, 5), flat[:, :10].astype(np.float32) / 2)
        assert np.array_equal(capture.stored(codes, 0, 5), flat[:, :3])


def _late(inputs: Mapping[str, Any], early: Any, late: Any) -> Any:
    return early if len(inputs["x"]) == 3 else late


def _raises(inputs: Mapping[str, Any]) -> Any:
    raise RuntimeError("out of memory")


ONE = {NAME: np.ones((3, 10))}
MISSING = np.ones((2, 10))
MISSING[1, 4] = np.nan
WHERE = f"operator 1 FULLY_CONNECTED '{NAME}'"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_raises, "fails on samples 0 to 2: RuntimeError: out of memory"),
        (lambda x: None, "returns a value of type NoneType on samples 0 to 2, expected arrays"),
        (lambda x: {}, "returns no tensor on samples 0 to 2, expected arrays"),
        (lambda x: {NAME: np.ones(10)}, f"{WHERE}, samples 0 to 2: float64 of shape (10,)"),
        (lambda x: {NAME: "no"}, f"{WHERE}, samples 0 to 2: <U2 of shape (), expected numbers"),
        (
            lambda x: {NAME: [[1, 2], [3]]},
            f"{WHERE}, samples 0 to 2: cannot convert a value of type list",
        ),
        (lambda x: {NAME: np.ones((3, 0))}, "float64 of shape (3, 0), expected numbers"),
        (lambda x: {"new": np.ones(2)}, "'new', samples 0 to 2: float64 of shape (2,)"),
        (
            lambda x: _late(x, ONE, {NAME: MISSING}),
            f"{WHERE}, samples 3 to 4: NaN, first in sample 4",
        ),
        (lambda x: _late(x, ONE, {"b": np.ones((2, 1))}), "other tensors on samples 3 to 4 than"),
        (lambda x: _late(x, ONE, {NAME: np.ones((2, 9))}), f"{WHERE}, samples 3 to 4: shape (9,)"),
    ],
)
def test_what_a_function_does_wrong_is_said_with_its_name_and_place(
    function: Any, said: str, subgraph: Subgraph, tmp_path: Path
) -> None:
    recorder = FunctionRecorder("mine", function, subgraph)
    with pytest.raises(PluginError) as caught:
        recorder.record(_batches(subgraph), tmp_path / "reference.h5")
    assert caught.value.message.startswith("the reference 'mine'") and said in caught.value.message
    assert caught.value.hint
