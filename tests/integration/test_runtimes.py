"""Runtimes other than LiteRT's own, and an external delegate that a compiler here makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from tests.integration.test_cli import assert_error
from tests.integration.test_cli import tfldbg as command
from tests.schema import assert_documented
from tests.sound import assert_sound
from tfldbg.graph.model import QuantParams
from tfldbg.options import runtimes
from tfldbg.rewrite.draft import Draft

SOURCE = Path(__file__).resolve().parents[1] / "data" / "delegate.c"
SAMPLES = 3


@pytest.fixture(scope="module")
def micro() -> None:
    pytest.importorskip("tflite_micro", reason="TensorFlow Lite Micro is not installed here")


@pytest.fixture(scope="module")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delegate that takes the ADD operators, with a fault where it is asked for one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here to make a delegate with")
    library = tmp_path_factory.mktemp("delegate") / "libplanted.so"
    build = [compiler, "-std=c11", "-shared", "-fPIC", SOURCE, "-o", library, "-lm"]
    subprocess.run(build, check=True)
    return library


def traced(samples: Path, **options: Any) -> dict[str, Any]:
    result = tfldbg.trace(
        samples / "cnn.tflite", data=samples / "digits.npz", samples=SAMPLES, **options
    ).to_dict()
    assert_documented(result)
    return result


@pytest.mark.usefixtures("micro")
def test_a_sound_file_is_clean_on_a_microcontroller(samples: Path) -> None:
    found = traced(samples, runtime="micro")
    assert found["verdict"] == "clean" and found["runtime"] == "micro"
    assert found["delegate"] is None and "tflite-micro" in found["versions"]
    assert found["observer"]["final_outputs_identical"]
    assert all(op["local"]["max_lsb"] < 0.75 for op in found["ops"])


@pytest.mark.usefixtures("micro")
@pytest.mark.parametrize(("one", "other"), [("micro", "xnnpack"), ("reference", "micro")])
def test_its_kernels_are_compared_with_litert_operator_by_operator(
    samples: Path, one: str, other: str
) -> None:
    found = traced(samples, runtime=one, against_runtime=other)
    assert found["verdict"] == "clean" and found["coverage"]["matched"] == 12
    assert found["reference"]["path"] == f"the same file under {other}"
    locals_ = [op["local"]["max_lsb"] for op in found["ops"]]
    assert max(locals_) < (0.01 if "reference" in (one, other) else 1.01)


@pytest.mark.usefixtures("micro")
def test_what_a_microcontroller_computes_otherwise_is_named(shared_models: Path) -> None:
    """Its RELU6 clamps the codes and does not rescale them."""
    path = shared_models / "tflite" / "meter_digit_recognizer_v4_int8.tflite"
    found = tfldbg.trace(path, runtime="micro", samples=2).to_dict()
    first = found["first_divergence"]
    assert (first["op"], first["kind"]) == (6, "RELU6")
    assert found["origins"] == [6, 9, 11, 14]
    said = {f["code"]: f["message"] for f in found["findings"] if f["op"] == 6}
    assert "under xnnpack and builtin and reference" in said["TFL046"]
    assert "its values are the reference's times" in said["TFL038"]


@pytest.mark.usefixtures("micro")
def test_a_file_that_only_a_microcontroller_runs_as_it_is(shared_models: Path) -> None:
    """Its biases are said to be quantized along dimension 3, which LiteRT refuses: a copy runs."""
    path = shared_models / "tflite" / "tflm_person_detect_int8.tflite"
    found = tfldbg.trace(path, runtime="micro", samples=1).to_dict()
    assert found["verdict"] == "clean" and found["coverage"]["matched"] == 31
    repaired = tfldbg.trace(path, samples=1)
    assert repaired.verdict == "clean" and repaired.evidence.run.repair is not None


@pytest.mark.usefixtures("micro")
@pytest.mark.parametrize(
    ("file", "signature", "words"),
    [
        ("litert_simple_relu1_op.tflite", None, "it has no operator RELU_N1_TO_1"),
        ("litert_custom_op.tflite", None, "lacks one of the custom operators CustomTestOp"),
        (
            "aeq_two_signatures_a8w8.tflite",
            "multiply",
            "it runs the main subgraph alone, and signature 'multiply' is subgraph 1",
        ),
        ("litert_add_quantized_uint8.tflite", None, r"Type UINT8 \(3\) not supported. Node ADD"),
    ],
)
def test_what_a_microcontroller_does_not_run_is_said(
    shared_models: Path, file: str, signature: str | None, words: str
) -> None:
    path = shared_models / "tflite" / file
    with pytest.raises(tfldbg.RunError, match=words) as caught:
        tfldbg.trace(path, signature=signature, samples=1, runtime="micro")
    assert "try another --runtime" in str(caught.value.hint)


@pytest.mark.usefixtures("micro")
def test_the_arena_grows_until_the_tensors_fit(samples: Path, tmp_path: Path) -> None:
    """In a process of its own, since the interpreter writes to file descriptor 2."""
    log = tmp_path / "log"
    request = {"path": str(samples / "cnn.tflite"), "taps": [], "subgraph": 0, "shapes": []}
    script = (
        "import sys\nfrom tfldbg.run.engines import micro\n"
        "micro._ARENAS = tuple(map(int, sys.argv[1:]))\n"
        f"print(type(micro.open_micro({request!r})).__name__)"
    )
    for arenas, said in (((1000, 2**20), "MicroEngine"), ((1000, 2000), "")):
        with log.open("wb") as errors:
            done = subprocess.run(
                [sys.executable, "-c", script, *map(str, arenas)],
                stdout=subprocess.PIPE, stderr=errors, check=False,
            )  # fmt: skip
        assert done.stdout.decode().strip() == said, log.read_text()
    assert "RuntimeError: its tensors do not fit into an arena of" in log.read_text()


@pytest.mark.usefixtures("micro")
def test_a_recording_of_a_microcontroller(samples: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run.h5", samples / "cnn.tflite"
    done = command(
        "dump", model, "--data", samples / "digits.npz", "--samples", 2, "--runtime", "micro",
        "-o", run,
    )  # fmt: skip
    assert done.returncode == 0 and "micro runtime" in done.stdout, done.stderr
    found = tfldbg.trace(model, against=run, runtime="reference").to_dict()
    assert found["verdict"] == "clean"
    assert "recorded under the micro runtime" in found["notes"]


def test_a_runtime_that_is_not_installed(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    for options in ({"runtime": "micro"}, {"against_runtime": "micro"}):
        with pytest.raises(tfldbg.MissingExtraError, match="'micro' needs the package") as caught:
            tfldbg.trace(samples / "cnn.tflite", samples=1, **options)
        assert caught.value.hint == "python3 -m pip install 'tfldbg[micro]'"


def test_tensorflows_interpreter(samples: Path) -> None:
    found = traced(samples, runtime="tf")
    assert found["verdict"] == "clean" and found["runtime"] == "tf"
    assert "tensorflow" in found["versions"]
    assert all(op["local"]["max_lsb"] < 0.75 for op in found["ops"])


def test_a_sound_delegate_is_clean_and_says_what_it_took(samples: Path, delegate: Path) -> None:
    found = traced(samples, delegate=delegate)
    assert found["verdict"] == "clean"
    assert found["delegate"] == {"path": str(delegate), "options": {}, "operators": [3]}


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin"])
def test_a_fault_of_a_delegate_is_named(samples: Path, delegate: Path, runtime: str) -> None:
    found = traced(samples, runtime=runtime, delegate=delegate, delegate_options={"fault": "9"})
    first = found["first_divergence"]
    assert (first["op"], first["kind"]) == (3, "ADD") and found["origins"] == [3]
    said = next(f["message"] for f in found["findings"] if f["code"] == "TFL046")
    assert "under xnnpack and builtin and reference the same operator agrees" in said
    assert said.endswith("the delegate does not")


def test_a_delegate_against_the_same_kernels_without_it(samples: Path, delegate: Path) -> None:
    found = traced(
        samples, delegate=delegate, delegate_options=["fault=9"], against_runtime="xnnpack"
    )
    assert found["origins"] == [3]
    locals_ = [op["local"]["max_lsb"] for op in found["ops"]]
    assert [round(lsb, 3) for lsb in locals_] == [9.0 if n == 3 else 0.0 for n in range(12)]


def test_the_report_and_a_recording_name_the_delegate(
    samples: Path, delegate: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run.h5"
    base = (samples / "cnn.tflite", "--data", samples / "digits.npz", "--samples", 1)
    done = command(
        "trace", *base, "--delegate", delegate, "--delegate-option", "take=none", "--dump", run
    )
    assert done.returncode == 0 and "take=none: computes no operator" in done.stdout, done.stderr
    assert "take=none: computes no operator" in command("report", run).stdout
    done = command("trace", *base, "--delegate", delegate, "--json", "-", "-q")
    assert json.loads(done.stdout)["delegate"]["operators"] == [3]
    done = command("dump", *base, "--delegate", delegate, "-o", tmp_path / "dump.h5")
    assert done.returncode == 0 and "xnnpack with libplanted.so runtime" in done.stdout


def test_what_a_delegate_fuses_when_nobody_looks(delegate: Path, tmp_path: Path) -> None:
    """Two ADD behind each other: the value in between is rounded only where it is read."""
    draft = Draft()
    fine = QuantParams(np.array([0.1], np.float32), np.array([0], np.int64), 0)
    coarse = QuantParams(np.array([0.7], np.float32), np.array([0], np.int64), 0)
    given, between, out = (
        draft.tensor("INT8", (1, 64), quant=quant) for quant in (fine, coarse, fine)
    )
    draft.operator("ADD", [given, given], [between])
    draft.operator("ADD", [between, given], [out])
    path = tmp_path / "adds.tflite"
    path.write_bytes(bytes(draft.build([given], [out])))
    alone = command("trace", path, "--samples", 2)
    assert "identical to the untouched model's" in alone.stdout and "NOT" not in alone.stdout
    fused = command("trace", path, "--samples", 2, "--delegate", delegate)
    assert "computes 2 of 2 operators: 0 ADD, 1 ADD" in fused.stdout, fused.stderr
    assert "NOT identical to the untouched model's" in fused.stdout


def test_a_delegate_that_cannot_be_loaded_says_why(
    samples: Path, delegate: Path, tmp_path: Path
) -> None:
    no_library = tmp_path / "libnone.so"
    no_library.write_text("no library")
    for options, words in [
        ({"delegate": tmp_path / "missing.so"}, "there is no delegate"),
        ({"delegate": no_library}, "cannot be loaded"),
        ({"delegate": delegate, "delegate_options": {"power": "low"}}, "there is no option power"),
        ({"delegate": delegate, "delegate_options": ["power"]}, "not of the form KEY=VALUE"),
        ({"delegate": delegate, "delegate_options": ["a=1", "a=2"]}, "'a' is given twice"),
        ({"delegate_options": ["a=b"]}, "is for a delegate, and there is none"),
    ]:
        with pytest.raises(tfldbg.TfldbgError, match=words) as caught:
            tfldbg.trace(samples / "cnn.tflite", samples=1, **options)
        assert caught.value.hint
    done = command("trace", samples / "cnn.tflite", "--delegate", no_library, "--samples", 1)
    assert_error(done, "the delegate", "cannot be loaded")


@pytest.mark.usefixtures("micro")
def test_a_microcontroller_takes_no_delegate(samples: Path, delegate: Path) -> None:
    with pytest.raises(tfldbg.UsageError, match="does not support delegates"):
        tfldbg.trace(samples / "cnn.tflite", samples=1, runtime="micro", delegate=delegate)


def _late(kernel: Any, matrix: Any) -> bytes:
    """A file that states the shape 1x1, at which neither its convolution nor its product runs."""
    import tensorflow as tf

    def forward(x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv1d(tf.expand_dims(x, -1), kernel, 4, "VALID"))
        return tf.reshape(x, (-1, matrix.shape[0])) @ matrix

    spec = tf.TensorSpec((None, None), tf.float32, name="x")
    function = tf.function(forward, input_signature=[spec]).get_concrete_function()
    converted: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    return converted


@pytest.fixture(scope="module")
def late() -> tuple[bytes, bytes, np.ndarray[Any, Any]]:
    """Such a file, one with a negated filter, and data of a shape at which they run."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(16, 1, 4)).astype(np.float32)
    matrix = generator.normal(size=(24, 3)).astype(np.float32)
    negated = kernel * np.float32([1, 1, -1, 1])
    data = generator.normal(size=(SAMPLES, 36)).astype(np.float32)
    return _late(kernel, matrix), _late(negated, matrix), data


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference", "tf"])
def test_a_file_that_runs_at_the_shape_of_the_data_alone(
    late: tuple[bytes, bytes, np.ndarray[Any, Any]], runtime: str
) -> None:
    sound, broken, data = late
    result = tfldbg.trace(sound, data=data, runtime=runtime)
    assert_sound(result, "late")
    assert all(op["status"] == "ok" for op in result.to_dict()["ops"])
    result = tfldbg.trace(broken, against=sound, data=data, runtime=runtime)
    assert result.first_divergence is not None and result.first_divergence.kind == "CONV_2D"


@pytest.mark.usefixtures("micro")
def test_a_microcontroller_keeps_the_shapes_of_the_file(
    late: tuple[bytes, bytes, np.ndarray[Any, Any]],
) -> None:
    with pytest.raises(tfldbg.TfldbgError, match=r"own shapes alone: input 0 has \[1, 1\], and"):
        tfldbg.trace(late[0], data=late[2], runtime="micro")
