"""One operator of a result: what it shows, and its values from a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.diagnose.evidence import SCALE, evidence, operator
from tests.unit.recording import write_recording
from tfldbg.diagnose.evidence import Evidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.errors import CaptureError, UsageError
from tfldbg.options.judge import Thresholds
from tfldbg.session import Trace, load_trace

CODES = np.array([[-3, 7, 17]], np.int8)
REFERENCE = np.array([[0.0, 1.0, 2.5]], np.float32)


def _evidence() -> Evidence:
    second = replace(operator(2, local=None), tensor=202, name="net/second/Split:1")
    unmatched = replace(second, reference=None, unmatched_reason="nothing computes it")
    return evidence(operator(2, local=40.0), unmatched, operator(5, local=0.5))


def _result(recording: Path | None = None) -> Trace:
    made = _evidence()
    return Trace(made, diagnose(made, Thresholds()), recording=recording)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    write_recording(
        path, _evidence(), {102: {"values": CODES, "reference": REFERENCE}, 202: {"values": CODES}}
    )
    return path


def test_it_has_the_figures_of_its_row() -> None:
    op = _result().op(2)
    assert (op.op, op.kind, op.tensor_index, op.status) == (2, "CONV_2D", 102, "origin")
    assert (op.scale, op.zero_point) == (SCALE, -3)
    assert op.local is not None and op.local.max_lsb == pytest.approx(40)
    assert op.findings and all(f.op == 2 for f in op.findings)
    assert repr(op) == "<operator 2 CONV_2D 'layer_2' origin: local 40 LSB, accumulated 40 LSB>"
    assert _result().op(5).findings == ()


def test_several_outputs_are_told_apart() -> None:
    assert _result().op(2, output=1).tensor_index == 202
    with pytest.raises(UsageError, match="operator 2 has no output 2") as caught:
        _result().op(2, output=2)
    assert caught.value.hint == "its outputs are 0 to 1"


@pytest.mark.parametrize("number", [-1, 3, 99])
def test_an_unknown_operator_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"no operator {number} in 'net.tflite'") as caught:
        _result().op(number)
    assert caught.value.hint == "its operators are 2 to 5"


def test_values_come_in_codes_and_in_real_units(recording: Path) -> None:
    op = load_trace(recording).op(2)
    assert op.codes.dtype == np.int8 and np.array_equal(op.codes, CODES)
    assert op.tflite.dtype == np.float32
    assert np.allclose(op.tflite, (CODES.astype(float) + 3) * SCALE)
    assert np.array_equal(op.reference, REFERENCE)


def test_values_that_were_not_recorded_say_why(recording: Path) -> None:
    with pytest.raises(CaptureError, match="has no recording") as caught:
        _ = _result().op(2).tflite
    assert caught.value.hint is not None and "dump='run.h5'" in caught.value.hint
    with pytest.raises(CaptureError, match=r"no reference of operator 2.*nothing computes it"):
        _ = _result(recording).op(2, output=1).reference
    with pytest.raises(CaptureError, match="its input has no counterpart"):
        _ = _result(recording).op(2, output=1).local_reference


def test_a_recording_that_is_gone_or_of_another_run_is_refused(recording: Path) -> None:
    result = load_trace(recording)
    other = replace(_evidence(), run=replace(_evidence().run, timing={"total_s": 2.0}))
    write_recording(recording, other, {102: {"values": CODES}})
    with pytest.raises(CaptureError, match="holds another run"):
        _ = result.op(2).tflite
    recording.rename(recording.with_suffix(".moved"))
    with pytest.raises(CaptureError, match="does not exist"):
        _ = result.op(2).tflite
    recording.write_text("no")
    with pytest.raises(CaptureError, match="not a recorded run"):
        _ = result.op(2).tflite


def test_it_stays_found_when_the_working_directory_changes(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recording.parent)
    result = load_trace(recording.name)
    monkeypatch.chdir("/")
    assert len(result.op(2).codes) == 1


def test_a_trace_says_its_verdict_and_not_its_every_field() -> None:
    said = repr(_result())
    assert said.startswith("<Trace diverged: operator 2 CONV_2D") and len(said) < 300
