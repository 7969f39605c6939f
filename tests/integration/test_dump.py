"""Recorded runs: they open with h5py alone, hold what the interpreter returned, and draw again."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import tfldbg
from tfldbg.store.schema import FORMAT, FORMAT_VERSION, tensor_path


@pytest.fixture(scope="module")
def run(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tfldbg.Trace]:
    path = tmp_path_factory.mktemp("dump") / "run.h5"
    result = tfldbg.trace(
        samples / "cnn_negated_channel.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=40,
        dump=path,
    )
    return path, result


def test_dequantized_codes_equal_what_the_interpreter_returned(
    samples: Path, run: tuple[Path, tfldbg.Trace]
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from tfldbg.session import expose_model

    loaded, exposed = expose_model(samples / "cnn_negated_channel.tflite")
    interpreter = Interpreter(model_content=exposed.model_bytes)
    interpreter.allocate_tensors()
    with h5py.File(run[0], "r") as file:
        assert file.attrs["format"] == FORMAT
        assert file.attrs["format_version"] == FORMAT_VERSION
        for sample in (0, 17, 39):
            given = file[tensor_path(loaded.subgraph.inputs[0])]["values"][sample]
            interpreter.set_tensor(loaded.subgraph.inputs[0], given)
            interpreter.invoke()
            for index in exposed.taps:
                group = file[tensor_path(index)]
                codes = group["values"][sample]
                returned = interpreter.get_tensor(index)
                assert np.array_equal(codes, returned)
                scale, zero_point = interpreter._get_tensor_details(index, 0)["quantization"]
                real = (codes.astype(np.float64) - group.attrs["zero_point"]) * group.attrs["scale"]
                assert np.allclose(real, (returned.astype(np.float64) - zero_point) * scale)


def test_the_dump_holds_both_sides_the_matching_and_the_statistics(
    run: tuple[Path, tfldbg.Trace],
) -> None:
    path, result = run
    with h5py.File(path, "r") as file:
        for op in result.evidence.ops:
            group = file[tensor_path(op.tensor)]
            assert group["values"].shape == group["accumulated_error"].shape
            assert group["values"].shape == group["local_error"].shape
            assert "reference" not in group and "local_reference" not in group
            assert len(group["values"]) == 40
            assert group["values"].compression == "gzip"
            assert group.attrs["reference"] == op.reference
            assert op.local is not None
            assert json.loads(group.attrs["local"])["max_lsb"] == op.local.max_lsb
            error = np.abs(group["local_error"][:].astype(np.float64)) * op.scale
            table = dict(
                zip(
                    group["local_channels"].attrs["columns"],
                    group["local_channels"][:].T,
                    strict=True,
                )
            )
            assert table["max_abs"].tolist() == list(op.local.channel_max_abs)
            by_channel = error.reshape(-1, error.shape[-1])
            step = op.scale / 1024
            assert np.allclose(table["mean_abs"], by_channel.mean(0), rtol=1e-3, atol=step)
            assert error.max() == pytest.approx(op.local.max_abs, rel=1e-3, abs=step)
        evidence = json.loads(file["evidence"].asstr()[()])
    assert evidence["run"]["model_sha256"] == result.evidence.run.model_sha256
    assert evidence["run"]["versions"]["tfldbg"] == tfldbg.__version__


def test_an_exact_dump_holds_what_the_errors_were_rounded_from(
    samples: Path, run: tuple[Path, tfldbg.Trace], tmp_path: Path
) -> None:
    exact = tfldbg.trace(
        samples / "cnn_negated_channel.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=40,
        dump=tmp_path / "exact.h5",
        dump_exact=True,
    )
    with h5py.File(tmp_path / "exact.h5", "r") as file:
        for one, other in zip(run[1].evidence.ops, exact.evidence.ops, strict=True):
            group = file[tensor_path(other.tensor)]
            assert "local_error" not in group and "accumulated_error" not in group
            rounded, whole = run[1].op(one.op), exact.op(other.op)
            assert np.array_equal(rounded.codes, whole.codes)
            assert np.array_equal(whole.reference, group["reference"][:])
            assert whole.local is not None and one.scale is not None
            error = np.abs(whole.tflite - whole.local_reference)
            assert error.max() == pytest.approx(whole.local.max_abs, rel=1e-5)
            if error.any():
                worst = int(error.reshape(40, -1).max(1).argmax())
                assert worst == whole.local.worst_sample
            for first, second, size in (
                (rounded.reference, whole.reference, np.abs(whole.tflite - whole.reference)),
                (rounded.local_reference, whole.local_reference, error),
            ):
                assert (np.abs(first - second) <= one.scale / 1024 + size / 2048).all()
            # fake-quant leaves the reference on the grid, where errors are integers
            fake_quantized = np.rint(whole.reference / one.scale) * np.float32(one.scale)
            if np.allclose(whole.reference, fake_quantized, rtol=1e-6):
                assert np.allclose(rounded.reference, whole.reference, rtol=1e-6)


def test_exact_values_need_a_recording(samples: Path) -> None:
    with pytest.raises(tfldbg.UsageError, match="without --dump"):
        tfldbg.trace(samples / "cnn.tflite", dump_exact=True)


def test_a_report_of_the_dump_equals_the_trace(run: tuple[Path, tfldbg.Trace]) -> None:
    path, result = run
    assert tfldbg.load_trace(path).to_dict() == result.to_dict()


def test_other_thresholds_change_the_verdict_without_running_again(
    run: tuple[Path, tfldbg.Trace],
) -> None:
    strict = tfldbg.load_trace(run[0], thresholds=tfldbg.Thresholds(local_lsb=0.1))
    assert strict.first_divergence is not None
    assert strict.first_divergence.op < run[1].origins[0]


def test_a_recording_without_reference(samples: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.h5"
    tfldbg.record(samples / "cnn.tflite", path, data=samples / "digits.npz")
    again = tfldbg.load_trace(path)
    assert again.verdict == "clean"
    assert "no reference" in again.diagnosis.sentence
    with h5py.File(path, "r") as file:
        assert len(file["tensors"]) == 13
        assert "reference" not in file[tensor_path(10)]


def test_files_that_are_no_recordings_are_refused(tmp_path: Path, samples: Path) -> None:
    with pytest.raises(tfldbg.CaptureError, match="does not exist"):
        tfldbg.load_trace(tmp_path / "nothing.h5")
    with pytest.raises(tfldbg.CaptureError, match="expected 'tfldbg"):
        tfldbg.load_trace(samples / "cnn.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(tfldbg.CaptureError, match="is not a recorded run"):
        tfldbg.load_trace(tmp_path / "text.h5")
    with h5py.File(tmp_path / "future.h5", "w") as file:
        file.attrs["format"], file.attrs["format_version"] = FORMAT, 99
    with pytest.raises(tfldbg.CaptureError, match="has format version 99"):
        tfldbg.load_trace(tmp_path / "future.h5")


def test_an_operator_of_the_result_reads_the_values_of_its_tensor(
    run: tuple[Path, tfldbg.Trace],
) -> None:
    path, result = run
    for trace in (result, tfldbg.load_trace(path)):
        op = trace.op(5)
        assert op.local is not None and op.accumulated is not None and op.scale is not None
        assert op.codes.dtype == np.int8 and op.codes.shape == op.tflite.shape
        local = np.abs(op.tflite - op.local_reference)
        assert local.max() / op.scale == pytest.approx(op.local.max_lsb, rel=1e-3)
        free = np.abs(op.tflite - op.reference)
        assert free.max() / op.scale == pytest.approx(op.accumulated.max_lsb, rel=1e-3)
