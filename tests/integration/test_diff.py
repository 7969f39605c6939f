"""Two recordings: the first operator that differs on equal inputs is named."""

from __future__ import annotations

import json
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
from sample_models import plant
from tests.schema import assert_documented
from tfldbg.reference.capture import open_capture
from tfldbg.session.diffing import diff
from tfldbg.store.schema import tensor_path

FAULTS = json.loads(
    (Path(__file__).resolve().parents[2] / "sample_models" / "faults.json").read_text()
)
COUNT = 12
INPUT, RESIDUAL = 8, 15


@pytest.fixture(scope="module")
def record(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Record a sample model, each run once."""
    folder = tmp_path_factory.mktemp("diff")

    def make(name: str, runtime: str = "xnnpack", count: int = COUNT, first: int = 0) -> Path:
        path = folder / f"{name}_{runtime}_{count}_{first}.h5"
        if not path.exists():
            images = np.load(samples / "digits.npz")["x"][first : first + count]
            tfldbg.record(
                samples / f"{name}.tflite", path, data=images, samples=count, runtime=runtime
            )
        return path

    return make


def _changed(path: Path, target: Path, change: Callable[[Any], None]) -> Path:
    shutil.copy(path, target)
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def _archive(recording: Path, path: Path) -> Path:
    with open_capture(recording) as capture:
        stored = {t.name: capture.stored(t, 0, capture.samples) for t in capture.tensors}
    np.savez(path, **stored)
    return path


def test_equal_recordings(record: Callable[..., Path]) -> None:
    result = diff(record("cnn"), record("cnn"))
    assert result.verdict == "clean"
    assert set(result.diagnosis.statuses) == {"ok"}
    assert all(op.accumulated and op.accumulated.max_abs == 0 for op in result.evidence.ops)
    assert not any("another file" in note for note in result.evidence.run.notes)


def test_recordings_of_two_files_say_so(
    record: Callable[..., Path], samples: Path, tmp_path: Path
) -> None:
    """Not only a kernel may be wrong then."""
    good, bad = record("cnn"), tmp_path / "bad.h5"
    with open_capture(good) as capture:
        count = capture.samples
    images = np.load(samples / "digits.npz")["x"][:count]
    file = plant.File((samples / "cnn.tflite").read_bytes())
    plant.zero_bias(file, next(i for i in range(file.count) if file.kind(i) == "CONV_2D"))
    tfldbg.record(file.save(), bad, data=images, samples=count)
    (note,) = [n for n in diff(good, bad).evidence.run.notes if "another file" in n]
    assert "--against" in note
    notes = tfldbg.trace(samples / "cnn.tflite", against=bad).evidence.run.notes
    assert any("another file" in note for note in notes)


def test_other_kernels_differ_by_a_rounding_and_are_clean(record: Callable[..., Path]) -> None:
    result = diff(record("cnn", "builtin"), record("cnn"))
    assert result.verdict == "clean"
    first = result.evidence.ops[0].local
    assert first is not None and first.max_lsb == pytest.approx(1.0, rel=1e-4)
    blind = [op for op in result.evidence.ops if op.local is None]
    assert blind and all("differs in every sample" in str(op.local_reason) for op in blind)
    assert any("--against" in note for note in result.evidence.run.notes)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(record: Callable[..., Path], name: str) -> None:
    result = diff(record("cnn"), record(Path(name).stem))
    assert result.first_divergence is not None
    assert result.first_divergence.op == FAULTS[name]["op"]
    assert result.origins == (FAULTS[name]["op"],)
    if name == "cnn_wrong_scale.tflite":
        assert result.first_divergence.signal == "parameters"
        assert "has scale 0.0865" in result.first_divergence.message
    statuses = dict(
        zip((o.op for o in result.evidence.ops), result.diagnosis.statuses, strict=True)
    )
    assert statuses[11] == "inherited"


@pytest.mark.parametrize("name", ["cnn_zeroed_bias", "cnn_swapped_concat"])
@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_archives_on_either_side(
    record: Callable[..., Path], tmp_path: Path, name: str, sides: tuple[int, ...]
) -> None:
    paths = [record("cnn"), record(name)]
    for side in sides:
        paths[side] = _archive(paths[side], tmp_path / f"{side}.npz")
    result = diff(*paths)
    assert result.first_divergence is not None
    named = result.first_divergence.tensor
    expected = {"cnn_zeroed_bias": "quant_head_relu", "cnn_swapped_concat": "quant_join"}[name]
    assert expected in named
    assert result.first_divergence.signal == "local"


def test_execution_order_stands_in_for_what_operators_read(
    record: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [
        _changed(record(name), tmp_path / f"{name}.h5", lambda file: file.pop("evidence"))
        for name in ("cnn", "cnn_dropped_activation")
    ]
    result = diff(*paths)
    assert result.origins == (4,)
    assert any("every tensor before it is equal" in note for note in result.evidence.run.notes)
    assert result.evidence.ops[5].local is None  # although it does not read what 4 writes


def test_the_attribute_inputs_says_what_operators_read(
    record: Callable[..., Path], tmp_path: Path
) -> None:
    with open_capture(record("cnn")) as capture:
        reads = {t.index: t.reads for t in capture.tensors if t.reads is not None}

    def change(file: Any) -> None:
        del file["evidence"]
        for index, tensors in reads.items():
            file[tensor_path(index)].attrs["inputs"] = tensors

    paths = [
        _changed(record(name), tmp_path / f"{name}.h5", change)
        for name in ("cnn", "cnn_dropped_activation")
    ]
    result = diff(*paths)
    assert result.origins == (4,)
    assert result.evidence.ops[5].local is not None
    assert not any("every tensor before" in note for note in result.evidence.run.notes)


def test_samples_with_equal_inputs_are_enough(record: Callable[..., Path], tmp_path: Path) -> None:
    def change(file: Any) -> None:
        for index, sample, step in ((RESIDUAL, slice(0, 9), 1), (17, slice(9, 11), 40)):
            values = file[tensor_path(index)]["values"]
            altered = values[sample].astype(int)
            altered[..., 0] += np.where(altered[..., 0] > 0, -step, step)
            values[sample] = altered

    result = diff(record("cnn"), _changed(record("cnn"), tmp_path / "changed.h5", change))
    assert result.origins == (4,)
    local = result.evidence.ops[4].local
    assert local is not None and local.worst_sample == 9
    assert local.max_lsb == pytest.approx(40, rel=1e-4)
    residual = result.evidence.ops[3].local
    assert residual is not None and residual.max_lsb == pytest.approx(1, rel=1e-4)


def test_runs_of_other_data_are_refused(record: Callable[..., Path]) -> None:
    with pytest.raises(tfldbg.DataError, match="not of the same data: sample 0 of input") as caught:
        diff(record("cnn"), record("cnn", first=3))
    assert caught.value.hint is not None and "in the same order" in caught.value.hint


def test_the_common_samples_are_compared(record: Callable[..., Path]) -> None:
    result = diff(record("cnn"), record("cnn_zeroed_bias", count=7))
    assert result.origins == (8,)
    assert result.evidence.run.samples == 7
    assert any("the first 7 are compared" in note for note in result.evidence.run.notes)
    assert diff(record("cnn"), record("cnn"), samples=2).evidence.run.samples == 2
    with pytest.raises(tfldbg.UsageError, match="must be at least 1"):
        diff(record("cnn"), record("cnn"), samples=0)


def test_recordings_with_nothing_in_common(record: Callable[..., Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", other=np.zeros((COUNT, 3), np.float32))
    with pytest.raises(tfldbg.MatchError, match="have no tensor in common"):
        diff(record("cnn"), tmp_path / "other.npz")


def test_nan_only_in_the_second_recording(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    np.savez(tmp_path / "a.npz", first=values, second=2 * values, third=3 * values)
    broken = 2 * values
    broken[2, 1] = np.nan
    np.savez(tmp_path / "b.npz", first=values, second=broken, third=np.cbrt(values))
    result = diff(tmp_path / "a.npz", tmp_path / "b.npz")
    assert result.first_divergence is not None
    assert (result.first_divergence.tensor, result.first_divergence.signal) == (
        "second",
        "nonfinite",
    )
    same = diff(tmp_path / "b.npz", tmp_path / "b.npz")
    assert same.verdict == "clean"


def test_the_last_bits_of_floats_hide_no_fault_and_make_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    values = noise.normal(size=(4, 50)).astype(np.float32)
    sound = {"first": values, "second": np.maximum(values, 0), "third": values * 3}
    bits = {k: v * (1 + 2e-7 * noise.choice([-1, 1], v.shape)) for k, v in sound.items()}
    bits = {k: v.astype(np.float32) for k, v in bits.items()}
    np.savez(tmp_path / "a.npz", **sound)
    np.savez(tmp_path / "b.npz", **bits)
    clean = diff(tmp_path / "a.npz", tmp_path / "b.npz")
    assert clean.verdict == "clean" and set(clean.diagnosis.statuses) == {"ok"}
    np.savez(tmp_path / "b.npz", **{**bits, "second": values})
    broken = diff(tmp_path / "a.npz", tmp_path / "b.npz")
    assert broken.first_divergence is not None and broken.first_divergence.tensor == "second"


def test_the_command(record: Callable[..., Path]) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tfldbg", "diff", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    clean = run(record("cnn"), record("cnn"))
    assert (clean.returncode, clean.stderr) == (0, "")
    assert clean.stdout.startswith("CLEAN: no operator differs: 12 of 12 operators checked")
    broken = run(record("cnn"), record("cnn_zeroed_bias"), "--json", "-")
    assert broken.returncode == 1
    plain = json.loads(broken.stdout)
    assert_documented(plain)
    assert plain["first_divergence"]["op"] == 8
    assert (plain["reference"]["kind"], plain["reference"]["path"]) == (
        "capture",
        str(record("cnn")),
    )
    other = run(record("cnn"), record("cnn", first=3))
    assert other.returncode == 2
    assert "not of the same data" in other.stderr and "hint:" in other.stderr
