"""Which operators cause the final error: shares that add up, and the planted operator first."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from tests.schema import assert_documented
from tfldbg.measures.compounding import replaying
from tfldbg.measures.compounding.shares import Compounding
from tfldbg.reference.keras import load_frozen

ROOT = Path(__file__).resolve().parents[2]
FAULTS = json.loads((ROOT / "sample_models" / "faults.json").read_text())


@pytest.fixture(scope="module")
def cnn_keras() -> Any:
    return load_frozen(ROOT / "sample_models" / "cnn.h5")


def _measured(model: Path, **options: Any) -> Compounding:
    found = tfldbg.trace(model, compounding=True, **options).evidence.measures["compounding"]
    assert found is not None
    return found


def _tfldbg(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tfldbg", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _sum(found: Compounding) -> float:
    return math.fsum(s.share for s in found.shares if s.share is not None)


def test_in_a_linear_chain_the_shares_add_up(samples: Path) -> None:
    found = _measured(samples / "dense5_nobias_ptq.tflite", data=samples / "digits.npz")
    assert _sum(found) == pytest.approx(1, abs=1e-3)
    assert found.replay_error < 1e-5
    assert [s.op for s in found.shares] == list(range(6))
    for share in found.shares[1:]:
        assert share.own is not None and share.share is not None
        assert share.own.rmse > 0


def test_five_dense_layers_against_keras(samples: Path) -> None:
    name = "dense5_nobias_ptq"
    found = _measured(
        samples / f"{name}.tflite", keras=samples / f"{name}.h5", data=samples / "digits.npz"
    )
    assert found.samples == 16
    assert found.interaction is not None
    assert _sum(found) + found.interaction == pytest.approx(1)
    assert abs(found.interaction) < 1e-3
    # The last layer's range was calibrated on other data: it saturates.
    last = found.largest
    assert last is not None and last.op == 5
    assert last.own is not None and last.clipped is not None
    assert last.clipped.rmse > 0.9 * last.own.rmse
    assert last.left is not None and last.left < 0.5


def test_the_rounding_of_the_input_has_a_row(samples: Path) -> None:
    name = "dense5_nobias_ptq"
    data = np.random.default_rng(0).uniform(0, 0.5, (4, 28, 28)).astype(np.float32)
    found = _measured(samples / f"{name}.tflite", keras=samples / f"{name}.h5", data=data)
    given = found.shares[0]
    assert given.op is None and given.own is not None and given.own.rmse_lsb is not None
    assert given.own.rmse_lsb == pytest.approx(1 / math.sqrt(12), rel=0.05)
    assert given.share is not None and given.share != 0
    assert _sum(found) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", FAULTS)
def test_the_planted_operator_has_the_largest_share(
    name: str, samples: Path, cnn_keras: Any
) -> None:
    found = _measured(samples / name, keras=cnn_keras, data=samples / "digits.npz", samples=8)
    largest = found.largest
    assert largest is not None and largest.op == FAULTS[name]["op"]
    assert largest.share is not None and largest.left is not None
    assert largest.share > 0.9 and largest.left < 0.1
    assert found.replay_error < 1e-4
    # Nothing but that operator shows in the shares of the others and the interaction.
    assert all(abs(s.share or 0) < 0.2 for s in found.shares if s is not largest)


def test_readers_of_a_wrong_scale_are_charged_to_its_writer(samples: Path, cnn_keras: Any) -> None:
    options = {"data": samples / "digits.npz", "samples": 4}
    wrong = _measured(samples / "cnn_wrong_scale.tflite", keras=cnn_keras, **options)
    assert {s.op: s.misread_by for s in wrong.shares if s.misread_by} == {3: (4, 5)}
    sound = _measured(samples / "cnn.tflite", keras=cnn_keras, **options)
    assert not any(s.misread_by for s in sound.shares)


def test_accumulated_is_own_and_inherited_and_concat_amplifies_nothing(
    samples: Path, cnn_keras: Any
) -> None:
    found = _measured(
        samples / "cnn_zeroed_bias.tflite",
        keras=cnn_keras,
        data=samples / "digits.npz",
        samples=4,
    )
    by_op = {s.op: s for s in found.shares}
    assert by_op[6].kind == "CONCATENATION"
    assert by_op[6].amplification == pytest.approx(1, abs=1e-3)
    for share in found.shares:
        assert share.own and share.accumulated
        inherited = share.inherited.rmse if share.inherited else 0.0
        assert share.accumulated.rmse <= share.own.rmse + inherited + 1e-7


def test_against_a_sound_file(samples: Path) -> None:
    found = _measured(
        samples / "cnn_negated_channel.tflite",
        against=samples / "cnn.tflite",
        data=samples / "digits.npz",
        samples=4,
    )
    assert found.largest is not None and found.largest.op == 5
    assert all(s.share == 0 for s in found.shares[:5])


def test_of_too_many_operators_the_rest_is_said_to_be_unmeasured(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "MOST_OPERATORS", 3)
    found = _measured(samples / "cnn.tflite", data=samples / "digits.npz", samples=2)
    assert sum(s.share is not None for s in found.shares) == 3
    assert len(found.unmeasured) == 9
    assert any(note.startswith("9 operators") for note in found.notes)


def test_what_has_no_float_copy_is_said(shared_models: Path) -> None:
    found = _measured(shared_models / "tflite" / "aeq_sdpa_composite.tflite", samples=1)
    assert any("has no float copy" in note for note in found.notes)
    assert found.unmeasured


def test_it_survives_the_recording_and_the_json(samples: Path, tmp_path: Path) -> None:
    model, target = samples / "dense5_nobias_ptq.tflite", tmp_path / "run.h5"
    traced = tfldbg.trace(model, samples=2, compounding=True, dump=target)
    again = tfldbg.load_trace(target)
    assert again.to_dict()["compounding"] == traced.to_dict()["compounding"]
    assert_documented(traced.to_dict())
    largest = max(traced.to_dict()["compounding"]["ops"], key=lambda op: op["share"])
    assert tfldbg.trace(model, samples=2).to_dict()["compounding"] is None
    done = _tfldbg("report", target)
    assert done.returncode == 0
    assert f"compounding: operator {largest['op']} {largest['kind']}" in done.stdout


@pytest.mark.parametrize("option", ["--against-runtime=builtin", "--against={run}"])
def test_references_that_cannot_be_run_on_other_values_are_refused(
    option: str, samples: Path, tmp_path: Path
) -> None:
    model, run = samples / "dense4.tflite", tmp_path / "run.h5"
    tfldbg.record(model, run)
    done = _tfldbg("trace", model, option.format(run=run), "--compounding")
    assert done.returncode == 2
    assert "leave --compounding out" in done.stderr
