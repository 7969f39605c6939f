"""Recorded tensors as a reference: sound runs are clean, what was altered is named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import tfldbg
from tests.schema import assert_documented
from tfldbg.reference.capture import open_capture
from tfldbg.run.job import load
from tfldbg.session import expose_model
from tfldbg.store.schema import tensor_path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = json.loads((ROOT / "sample_models" / "faults.json").read_text())
INPUT, RESIDUAL, HEAD = 8, 15, 23
"""Tensors of the sample network: its input, what operators 3 and 8 write."""
COUNT = 12


@pytest.fixture(scope="module")
def recording(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound file under the builtin kernels."""
    path = tmp_path_factory.mktemp("recording") / "builtin.h5"
    tfldbg.record(
        samples / "cnn.tflite",
        path,
        data=samples / "digits.npz",
        samples=COUNT,
        runtime="builtin",
    )
    return path


@pytest.fixture
def changed(recording: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Copy the recording and change the copy."""

    def make(change: Callable[[Any], None]) -> Path:
        path = tmp_path / "changed.h5"
        shutil.copy(recording, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def _archive(recording: Path, path: Path, real: bool = False) -> Path:
    """Write a recording as an archive: codes, or real units."""
    with open_capture(recording) as capture:
        read = capture.real if real else capture.stored
        np.savez(path, **{t.name: read(t, 0, capture.samples) for t in capture.tensors})
    return path


def test_other_kernels_are_clean(samples: Path, recording: Path) -> None:
    result = tfldbg.trace(samples / "cnn.tflite", against=recording)
    plain = result.to_dict()
    assert_documented(plain)
    assert plain["verdict"] == "clean", result.diagnosis.sentence
    assert plain["reference"]["kind"] == "capture"
    assert plain["samples"] == COUNT and plain["data"] == str(recording)
    assert {op["status"] for op in plain["ops"]} == {"ok"}
    assert {op["match_rule"] for op in plain["ops"]} == {"index"}
    assert max(op["local"]["max_lsb"] for op in plain["ops"]) == pytest.approx(1.0, rel=1e-4)


def test_the_same_kernels_are_equal(samples: Path, recording: Path) -> None:
    result = tfldbg.trace(samples / "cnn.tflite", against=recording, runtime="builtin")
    for op in result.evidence.ops:
        assert op.local is not None and op.local.max_abs == 0
        assert op.accumulated is not None and op.accumulated.max_abs == 0


@pytest.mark.parametrize("tensor", [RESIDUAL, HEAD])
def test_the_writer_of_an_altered_tensor_is_named(
    samples: Path, changed: Callable[[Callable[[Any], None]], Path], tensor: int
) -> None:
    def change(file: Any) -> None:
        values = file[tensor_path(tensor)]["values"]
        altered = values[:]
        altered[..., 3] = np.clip(altered[..., 3].astype(int) + 5, -128, 127)
        values[:] = altered

    result = tfldbg.trace(samples / "cnn.tflite", against=changed(change))
    assert result.first_divergence is not None
    assert result.first_divergence.tensor_index == tensor
    assert result.evidence.ops[result.first_divergence.op].local.worst_channel == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("form", ["h5", "npz"])
def test_a_planted_fault_is_named_against_the_sound_files_recording(
    samples: Path, recording: Path, tmp_path: Path, name: str, form: str
) -> None:
    path = recording if form == "h5" else _archive(recording, tmp_path / "r.npz", real=True)
    result = tfldbg.trace(samples / name, against=path)
    assert result.first_divergence is not None
    assert result.first_divergence.op == FAULTS[name]["op"]
    assert {op.match_rule for op in result.evidence.ops} == {"name"}


@pytest.mark.parametrize("real", [False, True])
def test_an_archive_keyed_by_name(
    samples: Path, recording: Path, tmp_path: Path, real: bool
) -> None:
    path = _archive(recording, tmp_path / "r.npz", real=real)
    result = tfldbg.trace(samples / "cnn.tflite", against=path)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert all(op.local is not None for op in result.evidence.ops)


def test_a_recording_written_with_the_code_of_the_documentation(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "recording.md").read_text(), re.S)
    (code,) = [block for block in blocks if "exposed.tflite" in block]
    monkeypatch.chdir(tmp_path)
    Path("exposed.tflite").write_bytes(expose_model(samples / "cnn.tflite")[1].model_bytes)
    digits = np.load(samples / "digits.npz")["x"][:COUNT].reshape(COUNT, 1, 28, 28, 1)
    codes = np.clip(np.round(digits * 255) - 128, -128, 127).astype(np.int8)
    np.save("inputs.npy", codes)
    exec(code, {})
    result = tfldbg.trace(samples / "cnn.tflite", against="device.h5")
    assert result.verdict == "clean", result.diagnosis.sentence
    assert all(op.local is not None for op in result.evidence.ops)
    broken = tfldbg.trace(samples / "cnn_zeroed_bias.tflite", against="device.h5")
    assert broken.first_divergence is not None and broken.first_divergence.op == 8


def test_unnamed_operators_are_matched_by_their_order(
    samples: Path, changed: Callable[[Callable[[Any], None]], Path]
) -> None:
    def change(file: Any) -> None:
        del file["evidence"]
        for group in file["tensors"].values():
            group.attrs["name"] = f"other {group.name}"

    result = tfldbg.trace(samples / "cnn_negated_channel.tflite", against=changed(change))
    assert result.origins == (5,)
    assert {op.match_rule for op in result.evidence.ops} == {"order"}


def test_without_an_intermediate_tensor_its_readers_are_unchecked(
    samples: Path, changed: Callable[[Callable[[Any], None]], Path]
) -> None:
    def change(file: Any) -> None:
        del file[tensor_path(RESIDUAL)]

    path = changed(change)
    result = tfldbg.trace(samples / "cnn.tflite", against=path)
    assert result.verdict == "clean"
    blind = {op.op: op.local_reason for op in result.evidence.ops if op.local is None}
    assert set(blind) == {3, 4, 5}
    assert blind[3] == "it is not in the recording"
    assert "'cnn/quant_residual/add' was not recorded" in str(blind[4])
    found = tfldbg.trace(samples / "cnn_zeroed_bias.tflite", against=path)
    assert found.origins == (8,)


def test_data_that_agrees_and_data_that_does_not(samples: Path, recording: Path) -> None:
    images = np.load(samples / "digits.npz")["x"]
    result = tfldbg.trace(samples / "cnn.tflite", against=recording, data=images[:COUNT])
    assert result.verdict == "clean" and result.evidence.run.data == "arrays"
    with pytest.raises(tfldbg.DataError, match="recorded from other data: sample 0 of input"):
        tfldbg.trace(samples / "cnn.tflite", against=recording, data=images[1 : COUNT + 1])
    with pytest.raises(tfldbg.CaptureError, match="holds 12 samples, but the data 13") as caught:
        tfldbg.trace(samples / "cnn.tflite", against=recording, data=images[: COUNT + 1])
    assert caught.value.hint is not None and "--samples 12" in caught.value.hint
    fewer = tfldbg.trace(samples / "cnn.tflite", against=recording, data=images, samples=5)
    assert fewer.verdict == "clean" and fewer.evidence.run.samples == 5


def test_a_recording_without_inputs_needs_data(
    samples: Path, changed: Callable[[Callable[[Any], None]], Path]
) -> None:
    def change(file: Any) -> None:
        del file[tensor_path(INPUT)]

    path = changed(change)
    with pytest.raises(tfldbg.CaptureError, match="does not hold the model's input") as caught:
        tfldbg.trace(samples / "cnn.tflite", against=path)
    assert caught.value.hint is not None and "--data" in caught.value.hint
    result = tfldbg.trace(
        samples / "cnn.tflite", against=path, data=samples / "digits.npz", samples=COUNT
    )
    assert result.verdict == "clean"
    assert all(op.local is not None for op in result.evidence.ops)
    assert any("does not hold" in note for note in result.evidence.run.notes)


def test_a_recording_of_another_model(samples: Path, recording: Path) -> None:
    with pytest.raises(tfldbg.MatchError, match="is not a recording of this model: 0 of the 5"):
        tfldbg.trace(samples / "dense4.tflite", against=recording)


def test_floats_between_the_codes_are_not_fed_to_integer_operators(
    samples: Path, recording: Path, tmp_path: Path
) -> None:
    with open_capture(recording) as capture:
        arrays = {t.name: capture.real(t, 0, COUNT) for t in capture.tensors}
        names = {t.index: t.name for t in capture.tensors}
    arrays[names[RESIDUAL]] += np.float32(0.01)
    np.savez(tmp_path / "r.npz", **arrays)
    result = tfldbg.trace(samples / "cnn.tflite", against=tmp_path / "r.npz")
    assert result.verdict == "clean"
    reasons = {op.op: op.local_reason for op in result.evidence.ops if op.local is None}
    assert set(reasons) == {4, 5}
    assert "are between the file's own codes" in str(reasons[4])
    assert result.evidence.ops[4].accumulated is not None


def test_nan_in_a_recording(samples: Path, recording: Path, tmp_path: Path) -> None:
    with open_capture(recording) as capture:
        arrays = {t.name: capture.real(t, 0, COUNT) for t in capture.tensors}
        names = {t.index: t.name for t in capture.tensors}
    arrays[names[RESIDUAL]][-1, 0, 3, 3, 5] = np.nan
    np.savez(tmp_path / "r.npz", **arrays)
    result = tfldbg.trace(samples / "cnn.tflite", against=tmp_path / "r.npz")
    residual = result.evidence.ops[3].local
    assert residual is not None and residual.reference_nonfinite == 1
    assert "TFL008" in {f.code for f in result.diagnosis.findings}
    reasons = {op.op: op.local_reason for op in result.evidence.ops if op.local is None}
    assert set(reasons) == {4, 5} and "NaN or infinite" in str(reasons[4])
    arrays[names[INPUT]][0, 0, 0, 0, 0] = np.nan
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(tfldbg.DataError, match="NaN"):
        tfldbg.trace(samples / "cnn.tflite", against=tmp_path / "r.npz")


def test_an_array_of_the_wrong_integer_type_says_what_was_expected(
    samples: Path, recording: Path, tmp_path: Path
) -> None:
    with open_capture(recording) as capture:
        arrays = {t.name: capture.stored(t, 0, COUNT) for t in capture.tensors}
        names = {t.index: t.name for t in capture.tensors}
    arrays[names[RESIDUAL]] = arrays[names[RESIDUAL]].astype(np.int32)
    np.savez(tmp_path / "r.npz", **arrays)
    result = tfldbg.trace(samples / "cnn.tflite", against=tmp_path / "r.npz")
    assert result.evidence.ops[3].local_reason == (
        "recorded as int32 without a scale, expected int8 codes or float values in real units"
    )


def test_the_command_takes_a_recording(samples: Path, recording: Path) -> None:
    def run(name: str, *options: object) -> subprocess.CompletedProcess[str]:
        command = ["trace", samples / name, "--against", recording, *options]
        return subprocess.run(
            [sys.executable, "-m", "tfldbg", *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
        )

    clean = run("cnn.tflite")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert f"reference {recording} (capture)" in clean.stdout
    broken = run("cnn_zeroed_bias.tflite")
    assert broken.returncode == 1
    assert broken.stdout.startswith("DIVERGED: operator 8 CONV_2D 'quant_head_relu'")


@pytest.fixture(scope="module")
def recorded_floats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """An int8 file whose weights lose much by rounding, and what its float model computes.

    One large weight in each channel makes the step of all 2048 a large one.
    """
    import tf_keras

    generator = np.random.default_rng(0)
    weights = generator.normal(0, 0.01, (2048, 16)).astype(np.float32)
    weights[5] = 1
    model = tf_keras.Sequential(
        [tf_keras.Input((2048,)), tf_keras.layers.Dense(16), tf_keras.layers.Dense(10)]
    )
    model.layers[0].set_weights([weights, np.zeros(16, np.float32)])
    x = (generator.integers(0, 256, (32, 2048)) / 255).astype(np.float32)  # on the input's codes
    file = tmp_path_factory.mktemp("floats") / "wide.tflite"
    tfldbg.convert(model, file, data=x)
    subgraph = load(file).subgraph
    hidden, out = (subgraph.tensors[op.outputs[0]].name for op in subgraph.operators[:2])
    values = {hidden: model.layers[0](x).numpy(), out: model(x).numpy()}
    return file, {subgraph.tensors[subgraph.inputs[0]].name: x, **values}


def test_a_recording_of_the_float_model_is_no_alarm(
    recorded_floats: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    file, values = recorded_floats
    np.savez(tmp_path / "floats.npz", **values)
    result = tfldbg.trace(file, against=tmp_path / "floats.npz")
    first = result.evidence.ops[0]
    assert first.local is not None and (first.local.max_lsb or 0) > 4
    assert result.verdict == "clean"


def test_a_wrong_channel_of_it_is(
    recorded_floats: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    file, values = recorded_floats
    wrong = {name: array.copy() for name, array in values.items()}
    list(wrong.values())[1][:, 3] *= -1
    np.savez(tmp_path / "wrong.npz", **wrong)
    result = tfldbg.trace(file, against=tmp_path / "wrong.npz")
    assert result.first_divergence is not None
    assert result.first_divergence.op == 0
    assert result.evidence.ops[0].local is not None
    assert result.evidence.ops[0].local.worst_channel == 3
