"""Recordings of earlier versions open as they did.

The two files are as tfldbg 0.1.0 of November wrote them, and stay so::

    tfldbg trace dense4_faulty.tflite --keras qat.h5 --data digits.npz --samples 2 --labels labels \
        --worst 1 --compounding --histograms --tolerance 0.5 --metric my:psnr --html k.html \
        --dump recording_keras.h5
    tfldbg trace loop.tflite --samples 2 --by-step --seed 7 --dump recording_loop.h5

The JSON beside them is what ``tfldbg report`` says of them, a key a line; ``--renew`` writes it
anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

import tfldbg
from tests.schema import assert_documented
from tfldbg.report.html import to_page
from tfldbg.report.machine import to_json
from tfldbg.report.trace_json import trace_to_dict
from tfldbg.store import schema
from tfldbg.store.evidence_json import evidence_to_json, from_json
from tfldbg.store.older import renewed

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(autouse=True)
def _no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorflow", "tf_keras", "keras"):
        monkeypatch.setitem(sys.modules, name, None)


def _essential(content: dict[str, Any]) -> dict[str, Any]:
    """Everything but the words of findings, which may be put better."""
    told = {
        "findings": [(f["code"], f["severity"], f["op"]) for f in content["findings"]],
        "first_divergence": {**content["first_divergence"], "message": None},
    }
    return {**content, **told}


def _in_lines(content: dict[str, Any]) -> str:
    """JSON with a key a line."""
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in content.items())
    return f"{{{lines}}}\n"


@pytest.mark.parametrize("name", ["keras", "loop"])
def test_a_recording_of_an_earlier_version_is_reported_as_before(
    name: str, request: pytest.FixtureRequest
) -> None:
    result = tfldbg.load_trace(GOLDEN / f"recording_{name}.h5")
    golden = GOLDEN / f"recording_{name}.json"
    found = json.loads(to_json(trace_to_dict(result)))
    if request.config.getoption("--renew"):
        golden.write_text(_in_lines(found))
    assert _essential(found) == _essential(json.loads(golden.read_text()))
    assert_documented(trace_to_dict(result))
    assert "<html" in to_page(result)


def test_the_recording_against_keras_holds_what_was_asked_for() -> None:
    evidence = tfldbg.load_trace(GOLDEN / "recording_keras.h5").evidence
    assert (evidence.run.reference_kind, evidence.run.samples) == ("keras", 2)
    sides = evidence.measures["accuracy"].sides
    assert [s.side for s in sides] == ["reference", "emulation", "tflite"]
    assert [w.sample for w in evidence.measures["worst"]] == [0] and evidence.tolerance == 0.5
    assert evidence.measures["compounding"].largest.op == 2
    dense = evidence.ops[2]
    assert dense.local is not None and dense.local.max_lsb == pytest.approx(191.59, abs=0.01)
    assert sum(dense.local.histogram) == 20 and dense.local.metrics["psnr"].samples == 2
    assert dense.weights is not None and dense.weights.arrangement == "channel 3 is negated"
    assert dense.usage is not None and dense.tensor in evidence.measures["pictures"].local


def test_the_recording_of_a_loop_holds_its_body_and_its_steps() -> None:
    evidence = tfldbg.load_trace(GOLDEN / "recording_loop.h5").evidence
    assert [(b.role, b.steps) for b in evidence.bodies] == [("cond", 6), ("body", 6)]
    inside = evidence.bodies[1].evidence
    assert inside is not None and len(inside.ops[1].breaches) == 1
    assert [s.step for s in evidence.measures["steps"]] == [0, 1, 2]
    assert evidence.ops[0].split is not None


@pytest.mark.parametrize("name", ["keras", "loop"])
def test_a_recording_of_an_earlier_version_can_be_written_again(name: str) -> None:
    evidence = tfldbg.load_trace(GOLDEN / f"recording_{name}.h5").evidence
    assert from_json(evidence_to_json(evidence)) == evidence


def test_a_group_where_the_evidence_belongs_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.attrs["format"], file.attrs["format_version"] = schema.FORMAT, schema.FORMAT_VERSION
        file.create_group(schema.EVIDENCE)
    with pytest.raises(tfldbg.CaptureError, match="is not a recorded run"):
        tfldbg.load_trace(tmp_path / "run.h5")


@pytest.mark.parametrize(
    ("recorded", "measures"),
    [
        ({"worst": [], "steps": None}, {}),
        ({"worst": [], "steps": []}, {"steps": []}),  # --by-step, and there are no time steps
        ({"worst": [1], "accuracy": None, "compounding": {}}, {"worst": [1], "compounding": {}}),
    ],
)
def test_an_older_recording_holds_the_measurements_that_were_asked_for(
    recorded: dict[str, Any], measures: dict[str, Any]
) -> None:
    assert renewed(recorded)["measures"] == measures
