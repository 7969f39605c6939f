"""Runs on a device, with LiteRT here as the device: kit, run, import, trace.

What stands for the device shares no code with what reads its results: the script in a process of
its own, a stand-in for benchmark_model that parses its options, and the documented lines.
"""

from __future__ import annotations

import binascii
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils

import tfldbg
from tests.integration.test_cli import assert_error
from tests.integration.test_cli import tfldbg as command
from tests.unit.device.test_serial_log import tensors
from tfldbg.device.micro_header import record_header
from tfldbg.device.serial_log import read_log
from tfldbg.errors import CaptureError
from tfldbg.options.run_on import RunOn
from tfldbg.session import expose_model, import_run, write_kit

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 4


@pytest.fixture(scope="module")
def kits(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kits of the sound model, and ``faulty``: one of the model whose bias is zero."""
    made = {}
    run_on = RunOn(data=samples / "digits.npz", samples=SAMPLES)
    for name in ("board", "android", "micro", "faulty"):
        folder = made[name] = tmp_path_factory.mktemp(name) / "kit"
        model = samples / ("cnn_zeroed_bias.tflite" if name == "faulty" else "cnn.tflite")
        target = "board" if name == "faulty" else name
        write_kit(model, folder, target, run_on=run_on)
    return made


def board(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script where tfldbg cannot be imported."""
    lonely = (
        "import runpy, sys; sys.modules['tfldbg'] = None; sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", lonely, "record.py", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def interpreter(model: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_path=str(model))
    made.allocate_tensors()
    return made


def outputs_of(runner: Any, sample: np.ndarray) -> list[bytes]:
    runner.set_tensor(runner.get_input_details()[0]["index"], sample)
    runner.invoke()
    return [runner.get_tensor(d["index"]).tobytes() for d in runner.get_output_details()]


def serial_log(model: Path, inputs: Path, path: Path) -> Path:
    runner, said = interpreter(model), ["boot", "TFLDBG begin"]
    (codes,) = np.load(inputs).values()
    for number, sample in enumerate(codes):
        for place, content in enumerate(outputs_of(runner, sample)):
            for start in range(0, len(content), 32):
                piece = content[start : start + 32]
                crc = binascii.crc_hqx(piece, 0xFFFF)
                said.append(f"TFLDBG {number} {place} {start} {piece.hex()} {crc:04x}")
    path.write_text("\r\n".join([*said, f"TFLDBG end {len(codes)}", ""]))
    return path


def test_a_board_records_what_the_trace_finds_clean(samples: Path, kits: dict[str, Path]) -> None:
    done = board(kits["board"], "exposed.tflite", "inputs.npz", "--untouched", "model.tflite")
    assert done.returncode == 0, done.stderr
    assert "device.npz: 13 tensors, 4 samples, ai_edge_litert, xnnpack" in done.stdout
    assert "final outputs identical" in done.stdout
    result = tfldbg.trace(samples / "cnn.tflite", against=kits["board"] / "device.npz").to_dict()
    assert result["verdict"] == "clean" and result["samples"] == SAMPLES
    assert result["coverage"]["matched"] == result["coverage"]["ops"] == 12


def test_a_fault_on_the_board_is_named(samples: Path, kits: dict[str, Path]) -> None:
    done = board(
        kits["faulty"], "exposed.tflite", samples / "digits.npz", "--samples", SAMPLES,
        "--runtime", "builtin", "--threads", 2, "--untouched", samples / "cnn.tflite",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "WARNING: the final outputs differ" in done.stdout
    result = tfldbg.trace(
        samples / "cnn.tflite",
        against=kits["faulty"] / "device.npz",
        data=samples / "digits.npz",
        samples=SAMPLES,
    ).to_dict()
    assert result["verdict"] == "diverged"
    assert result["first_divergence"]["op"] == 8 and result["origins"] == [8]


def test_android_through_the_documented_format(samples: Path, kits: dict[str, Path]) -> None:
    kit = kits["android"]
    tool = kit.parent / "benchmark_model"
    tool.write_text(STAND_IN.replace("PYTHON", sys.executable))
    tool.chmod(0o755)
    done = subprocess.run(
        ["sh", kit / "run.sh", tool, "--use_gpu=true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    device = kit.parent / "device.npz"
    done = command(
        "import", kit / "outputs", "--model", kit / "exposed.tflite", "--data", kit / "inputs.npz",
        "--untouched", kit / "untouched", "-o", device,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "13 tensors, 4 samples" in done.stdout and "final outputs identical" in done.stdout
    result = tfldbg.trace(samples / "cnn.tflite", against=device).to_dict()
    assert result["verdict"] == "clean" and result["coverage"]["matched"] == 12

    done = subprocess.run(["sh", kit / "run.sh", "/bin/false"], capture_output=True, check=False)
    assert done.returncode == 1 and b"sample 00000 of exposed.tflite failed" in done.stderr


# As tflite/tools/benchmark of LiteRT: inputs of exactly the tensor's bytes, by the names of its own
# options; the outputs' bytes one behind the other in the order of the file.
STAND_IN = """\
#!PYTHON
import sys
from pathlib import Path
from ai_edge_litert.interpreter import Interpreter
flags = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
assert flags["use_gpu"] == "true" and flags["num_runs"] == "1" and flags["warmup_runs"] == "0"
device = Interpreter(flags["graph"])
device.allocate_tensors()
files = dict(pair.split(":") for pair in flags["input_layer_value_files"].split(","))
shapes = flags["input_layer_shape"].split(":")
for name, shape, given in zip(flags["input_layer"].split(","), shapes, device.get_input_details()):
    assert [int(d) for d in shape.split(",")] == list(given["shape"])
    tensor = device.tensor(given["index"])()
    content = Path(files[name]).read_bytes()
    assert len(content) == tensor.nbytes
    tensor.reshape(-1).view("uint8")[:] = list(content)
    del tensor
device.invoke()
with open(flags["output_filepath"], "wb") as file:
    for output in device.get_output_details():
        file.write(device.get_tensor(output["index"]).tobytes())
"""


def test_a_microcontrollers_log(samples: Path, kits: dict[str, Path], tmp_path: Path) -> None:
    kit, device = kits["micro"], tmp_path / "device.npz"
    untouched = serial_log(kit / "model.tflite", kit / "inputs.npz", tmp_path / "untouched.log")
    faulty = kits["faulty"] / "exposed.tflite"
    sound = serial_log(kit / "exposed.tflite", kit / "inputs.npz", tmp_path / "sound.log")
    wrong = serial_log(faulty, kit / "inputs.npz", tmp_path / "wrong.log")

    made = import_run(
        sound,
        device,
        model=kit / "exposed.tflite",
        run_on=RunOn(data=kit / "inputs.npz"),
        untouched=untouched,
    )
    assert (made.samples, made.tensors, made.differing) == (SAMPLES, 13, ())
    assert tfldbg.trace(samples / "cnn.tflite", against=device).to_dict()["verdict"] == "clean"

    made = import_run(
        wrong, device, model=faulty, run_on=RunOn(data=kit / "inputs.npz"), untouched=untouched
    )
    assert made.differing
    found = tfldbg.trace(samples / "cnn.tflite", against=device).to_dict()["first_divergence"]
    assert found["op"] == 8 and found["kind"] == "CONV_2D"


def test_recordings_of_a_device_can_be_compared(kits: dict[str, Path], tmp_path: Path) -> None:
    """The order in the archive is that of the operators, on the board and after an import."""
    paths = []
    for name in ("micro", "faulty"):
        exposed, inputs = kits[name] / "exposed.tflite", kits["micro"] / "inputs.npz"
        log = serial_log(exposed, inputs, tmp_path / f"{name}.log")
        paths.append(tmp_path / f"{name}.npz")
        import_run(log, paths[-1], model=exposed, run_on=RunOn(data=inputs))
    done = board(kits["faulty"], "exposed.tflite", inputs, "-o", tmp_path / "board.npz")
    assert done.returncode == 0
    assert np.load(tmp_path / "board.npz").files == np.load(paths[1]).files
    done = command("diff", *paths)
    assert done.returncode == 1
    assert "head_relu" in done.stdout.splitlines()[0], done.stdout


def test_names_that_are_empty_or_shared_and_a_dynamic_batch(samples: Path, tmp_path: Path) -> None:
    model = flatbuffer_utils.read_model(samples / "cnn.tflite")
    graph = model.subgraphs[0]
    written = [op.outputs[0] for op in graph.operators]
    for index in written[2:5]:
        graph.tensors[index].name = "the same"
    graph.tensors[written[6]].name = ""
    graph.tensors[graph.inputs[0]].name = ""
    given = graph.tensors[graph.inputs[0]]
    given.shapeSignature = np.array([-1, *given.shape[1:]], np.int32)
    path = tmp_path / "renamed.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    write_kit(path, tmp_path / "kit", "board", run_on=RunOn(samples=2))
    done = board(tmp_path / "kit", "exposed.tflite", "inputs.npz")
    assert done.returncode == 0, done.stderr
    found = tfldbg.trace(path, against=tmp_path / "kit" / "device.npz").to_dict()
    assert found["verdict"] == "clean" and found["coverage"]["matched"] == 12
    kit = tmp_path / "kit"
    log = serial_log(kit / "exposed.tflite", kit / "inputs.npz", tmp_path / "device.log")
    import_run(
        log, kit / "again.npz", model=kit / "exposed.tflite", run_on=RunOn(data=kit / "inputs.npz")
    )
    one, other = np.load(kit / "device.npz"), np.load(kit / "again.npz")
    assert one.files == other.files
    assert all(np.array_equal(one[key], other[key]) for key in one.files)


def test_what_a_board_cannot_run_is_said(kits: dict[str, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros((2, 5), np.float32))
    np.savez(tmp_path / "short.npz", x=np.zeros((2, 28, 28), np.int16))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    for arguments, words in [
        (("exposed.tflite", tmp_path / "other.npz"), "expected (samples, 28, 28, 1) int8"),
        (("exposed.tflite", tmp_path / "short.npz"), "is int16"),
        (("exposed.tflite", tmp_path / "junk.npz"), "cannot read the inputs"),
        (("missing.tflite", "inputs.npz"), "'missing.tflite' does not exist"),
        (("inputs.npz", "inputs.npz"), "the runtime refused 'inputs.npz'"),
        (
            ("exposed.tflite", "inputs.npz", "--delegate", "./none.so"),
            "cannot load the delegate './none.so'",
        ),
        (("exposed.tflite", "inputs.npz", "-o", "nowhere/d.npz"), "cannot write 'nowhere/d.npz'"),
    ]:
        done = board(kits["board"], *arguments)
        assert done.returncode == 2, done.stdout
        assert "Traceback" not in done.stderr and words in done.stderr, done.stderr


# The interface of external delegates: it says what it was given, and takes no operator.
DELEGATE = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct Delegate { void* data; int (*prepare)(void*, void*); void *from, *to, *free; int64_t flags;
                  void* builder; };
static int prepare(void*, void*) { fputs("prepared\n", stderr); return 0; }
extern "C" void* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                               void (*)(const char*)) {
  for (size_t i = 0; i < count; ++i) fprintf(stderr, "%s is %s\n", keys[i], values[i]);
  if (count && !strcmp(values[0], "refuse")) return nullptr;
  static Delegate delegate{};
  delegate.prepare = prepare;
  return &delegate;
}
extern "C" void tflite_plugin_destroy_delegate(void*) {}
"""


def test_an_external_delegate_is_given_its_options(kits: dict[str, Path], tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ here to make a delegate with")
    (tmp_path / "delegate.cc").write_text(DELEGATE)
    library = tmp_path / "libdelegate.so"
    build = [compiler, "-shared", "-fPIC", tmp_path / "delegate.cc", "-o", library]
    subprocess.run(build, check=True)
    run = ("exposed.tflite", "inputs.npz", "--delegate", library, "--delegate-option")
    done = board(kits["board"], *run, "power=low", "-o", tmp_path / "device.npz")
    assert done.returncode == 0, done.stderr
    assert "power is low" in done.stderr and "prepared" in done.stderr
    assert "4 samples, ai_edge_litert, libdelegate.so" in done.stdout
    done = board(kits["board"], *run, "power=refuse", "-o", tmp_path / "other.npz")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot load the delegate" in done.stderr and not (tmp_path / "other.npz").exists()


def test_what_cannot_be_imported_is_said(kits: dict[str, Path], tmp_path: Path) -> None:
    kit = kits["micro"]
    log = serial_log(kit / "exposed.tflite", kit / "inputs.npz", tmp_path / "device.log")
    text = log.read_text().splitlines()
    gap = tmp_path / "gap.log"
    gap.write_text("\n".join(line for line in text if not line.startswith("TFLDBG 2 3 64 ")))
    base = ("--model", kit / "exposed.tflite", "-o", tmp_path / "device.npz")
    assert_error(command("import", gap, *base), "sample 2", "output 3", "expected 4704 bytes",
                 "found 4672")  # fmt: skip
    assert_error(command("import", tmp_path / "none.log", *base), "does not exist")
    few = tmp_path / "few.npz"
    np.savez(few, x=np.zeros((3, 28, 28), np.float32))
    assert_error(command("import", log, *base, "--data", few), "holds 4 samples, but the data 3")
    assert_error(
        command("import", log, "--model", kit / "model.tflite", "-o", tmp_path / "device.npz"),
        "output 1", "the model has 1 outputs",
    )  # fmt: skip
    assert not (tmp_path / "device.npz").exists()


def test_a_kit_overwrites_nothing_that_is_read(samples: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes((samples / "cnn.tflite").read_bytes())
    assert_error(command("kit", model, "-o", tmp_path), "would be overwritten")
    assert_error(command("kit", model, "-o", tmp_path / "k", "--for", "toaster"), "toaster")
    assert list(tmp_path.iterdir()) == [model]


def test_tensorflow_lite_micro_itself(samples: Path, kits: dict[str, Path], tmp_path: Path) -> None:
    """Its own interpreter runs an exposed model, by the script that the page shows."""
    pytest.importorskip("tflite_micro", reason="TensorFlow Lite Micro is not installed here")
    page = (ROOT / "docs" / "on-device.md").read_text()
    (script,) = re.findall(r"```python\n(.*?tflite_micro.*?)```", page, re.DOTALL)
    (tmp_path / "micro.py").write_text(script)
    log = tmp_path / "device.log"
    for name, verdict in (("micro", "clean"), ("faulty", "diverged")):
        arguments = (kits[name] / "exposed.tflite", kits["micro"] / "inputs.npz")
        with log.open("wb") as file:
            subprocess.run(
                [sys.executable, tmp_path / "micro.py", *arguments],
                stdout=file, stderr=subprocess.PIPE, check=True,
            )  # fmt: skip
        import_run(
            log, tmp_path / "device.npz", model=arguments[0], run_on=RunOn(data=arguments[1])
        )
        found = tfldbg.trace(
            samples / "cnn.tflite", against=tmp_path / "device.npz", runtime="reference"
        ).to_dict()
        assert found["verdict"] == verdict
        assert verdict == "clean" or found["first_divergence"]["op"] == 8


def test_the_exposed_file_of_a_kit_is_that_of_expose(samples: Path, kits: dict[str, Path]) -> None:
    _, exposed = expose_model(samples / "cnn.tflite")
    assert (kits["board"] / "exposed.tflite").read_bytes() == exposed.model_bytes
    assert (kits["board"] / "model.tflite").read_bytes() == (samples / "cnn.tflite").read_bytes()


STUB = r"""
#include <stdint.h>
#include "tfldbg_record.h"
struct Tensor { size_t bytes; struct { char* raw; } data; };
struct Stub {
  char in[5], same[5], sum[1];
  Tensor tensors[3] = {{5, {in}}, {5, {same}}, {1, {sum}}};
  int Reset() { memset(sum, 0, 1); return 0; }
  size_t inputs_size() { return 1; }
  size_t outputs_size() { return 2; }
  Tensor* input(size_t) { return &tensors[0]; }
  Tensor* output(size_t i) { return &tensors[1 + i]; }
  int Invoke() {
    for (int i = 0; i < 5; ++i) { same[i] = in[i]; sum[0] = (char)(sum[0] + in[i]); }
    return in[0] == 99;
  }
};
int main() { Stub stub; return tfldbg_record(stub); }
"""


def test_the_header_prints_what_is_read(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ here to compile the header with")
    samples = [b"\x01\x02\x03\xff\x80", b"\x10\x20\x30\x40\x50"]
    (tmp_path / "main.cc").write_text(STUB)
    outputs = tensors((5, 1))[:2]

    def run(given: list[bytes]) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "tfldbg_record.h").write_text(record_header(given))
        strict = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-DTFLDBG_CHUNK=4"]
        command = [compiler, *strict, "main.cc", "-o", "main"]
        subprocess.run(command, cwd=tmp_path, check=True)
        return subprocess.run([tmp_path / "main"], capture_output=True, check=False)

    done = run(samples)
    assert done.returncode == 0
    (tmp_path / "device.log").write_bytes(done.stdout)
    expected = [[s, bytes([sum(s) % 256])] for s in samples]
    assert read_log(tmp_path / "device.log", outputs, None) == expected

    failed = run([bytes([99, 0, 0, 0, 0])])
    assert failed.returncode == 1
    (tmp_path / "device.log").write_bytes(failed.stdout)
    with pytest.raises(CaptureError, match="failed: Invoke"):
        read_log(tmp_path / "device.log", outputs, None)
