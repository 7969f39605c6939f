"""Metrics and references of the user's own in whole traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from tfldbg.run import together
from tfldbg.session import expose_model

ROOT = Path(__file__).resolve().parents[2]
Function = Callable[[Mapping[str, Any]], dict[str, Any]]


def _device(model: Path) -> Function:
    """The file itself under other kernels, every tensor in codes."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = expose_model(model)[1].model_bytes

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        device = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        device.allocate_tensors()
        (given,) = device.get_input_details()
        scale, zero_point = given["quantization"]
        found: dict[str, list[Any]] = {}
        for sample in inputs["image"]:
            codes = (np.round(sample / scale) + zero_point).astype(np.int8)
            device.set_tensor(given["index"], codes.reshape(given["shape"]))
            device.invoke()
            for output in device.get_output_details():
                found.setdefault(output["name"], []).append(device.get_tensor(output["index"]))
        return {name: np.stack(values) for name, values in found.items()}

    return run


def test_a_function_that_returns_codes_judges_integer_operators(samples: Path) -> None:
    calls = []

    def device(inputs: Mapping[str, Any]) -> dict[str, Any]:
        calls.append(inputs["image"].shape)
        return run(inputs)

    run = _device(samples / "cnn.tflite")
    broken = samples / "cnn_negated_channel.tflite"
    result = tfldbg.trace(broken, reference=device, data=samples / "digits.npz", samples=40)
    assert result.origins == (5,)
    assert {op.local is not None for op in result.evidence.ops} == {True}
    assert calls == [(32, 28, 28, 1), (8, 28, 28, 1)]
    run_of = result.to_dict()["reference"]
    assert run_of["kind"] == "capture" and run_of["path"].endswith("device")


@pytest.fixture(scope="module")
def floating(samples: Path) -> tuple[bytes, list[Any]]:
    """A float file, and the weights of the layers that it was made from."""
    from tfldbg.options.convert import Target
    from tfldbg.reference.conversion import convert, open_source

    source = open_source(samples / "dense5_nobias_ptq.h5")
    content, _ = convert(source, Target("float32"), None)
    return content, source.model.get_weights()


@pytest.mark.parametrize("wrong", [None, 3])
def test_a_float_function_judges_the_operators_of_a_float_file(
    wrong: int | None, floating: tuple[bytes, list[Any]], samples: Path
) -> None:
    content, weights = floating
    names = ["sequential/flatten/Reshape"]
    names += [f"sequential/dense{end}/MatMul1" for end in ("", "_1", "_2", "_3")]

    def numpy_model(inputs: Mapping[str, Any]) -> dict[str, Any]:
        (x,) = inputs.values()
        tensors = [x.reshape(len(x), -1)]
        for number, kernel in enumerate(weights, 1):
            tensors.append(tensors[-1] @ (kernel * 1.01 if number == wrong else kernel))
        return dict(zip(names, tensors, strict=False))

    running = len(together._members)
    result = tfldbg.trace(content, reference=numpy_model, data=samples / "digits.npz", samples=8)
    assert len(together._members) == running  # no process is left
    assert result.origins == (() if wrong is None else (wrong,)), result
    noted = [note for note in result.evidence.run.notes if "own float arithmetic" in note]
    assert len(noted) == 1 and "cannot judge operators 5, which" in noted[0]


def test_a_float_function_never_judges_what_the_file_has_rounded(samples: Path) -> None:
    """Weights of 8 bits differ from the function's, and that is no fault."""

    def far_off(inputs: Mapping[str, Any]) -> dict[str, Any]:
        (x,) = inputs.values()
        return {"sequential/dense/MatMul1": np.full((len(x), 10), 3.0)}

    result = tfldbg.trace(
        samples / "dense5_nobias_ptq.tflite",
        reference=far_off,
        data=samples / "digits.npz",
        samples=4,
    )
    assert result.verdict == "clean"
    dense = result.op(1)
    assert dense.local is not None and dense.local.max_lsb is not None
    assert dense.accumulated is not None and dense.accumulated.max_lsb is not None
    assert dense.local.max_lsb < 0.75 and dense.accumulated.max_lsb > 10


def _command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfldbg", "trace", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_metrics_on_the_command_line_and_in_the_recording(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def largest(reference, tflite):\n"
        "    return np.abs(tflite - reference).max()\n"
        "def fails(reference, tflite):\n"
        "    return reference[7]\n"
    )
    model, data = samples / "cnn.tflite", samples / "digits.npz"
    given = (model, "--data", data, "--samples", 33, "--metric", "mine:largest")
    done = _command(tmp_path, *given, "--json", "-", "--dump", "run.h5")
    assert done.returncode == 0, done.stderr
    for op in json.loads(done.stdout)["ops"]:
        for side in ("local", "accumulated"):
            found = op[side]["metrics"]["largest"]
            assert found["max"] == pytest.approx(op[side]["max_abs"], rel=1e-6)
            assert found["samples"] == 33
            if op[side]["max_abs"]:
                assert found["max_sample"] == op[side]["worst_sample"]
    again = tfldbg.load_trace(tmp_path / "run.h5")
    assert again.to_dict()["ops"] == json.loads(done.stdout)["ops"]
    frame = again.to_dataframe()
    assert frame["local_metrics_largest_max"].max() == pytest.approx(frame["local_max_abs"].max())
    failed = _command(tmp_path, model, "--data", data, "--metric", "mine:fails")
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    assert "the metric 'fails' fails at operator 0 CONV_2D 'cnn/quant_stem" in failed.stderr
    assert "sample 0: IndexError" in failed.stderr
