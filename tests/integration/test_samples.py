"""The sample models: clean ones are clean, broken ones name the planted operator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from tests.schema import assert_documented
from tests.sound import assert_sound

CLEAN = ["dense4", "dense4_nobias", "dense5_nobias", "cnn"]
FAULTS = json.loads(
    (Path(__file__).resolve().parents[2] / "sample_models" / "faults.json").read_text()
)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", CLEAN)
def test_clean_sample_is_clean(samples: Path, name: str, suffix: str) -> None:
    result = tfldbg.trace(
        samples / f"{name}.tflite", keras=samples / f"{name}{suffix}", data=samples / "digits.npz"
    )
    plain = result.to_dict()
    assert_documented(plain)
    assert_sound(result, name)
    assert plain["first_divergence"] is None
    assert plain["coverage"]["unmatched"] == 0
    assert plain["observer"]["final_outputs_identical"]
    assert all(op["status"] == "ok" for op in plain["ops"])


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("name", FAULTS)
def test_broken_sample_names_the_planted_operator(samples: Path, name: str, runtime: str) -> None:
    result = tfldbg.trace(
        samples / name, keras=samples / "cnn.h5", data=samples / "digits.npz", runtime=runtime
    )
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    assert result.first_divergence.op == FAULTS[name]["op"]


def test_without_data_the_verdict_is_the_same_and_says_random(samples: Path) -> None:
    result = tfldbg.trace(samples / "cnn_zeroed_bias.tflite", keras=samples / "cnn.h5", samples=8)
    plain = result.to_dict()
    assert_documented(plain)
    assert plain["data"] == "random"
    assert plain["first_divergence"]["op"] == FAULTS["cnn_zeroed_bias.tflite"]["op"]


def test_five_dense_layers_without_bias_show_compounding(samples: Path) -> None:
    result = tfldbg.trace(
        samples / "dense5_nobias.tflite",
        keras=samples / "dense5_nobias.h5",
        data=np.random.default_rng(0).uniform(0, 1, (64, 28, 28)).astype(np.float32),
    )
    assert result.verdict == "clean"


def test_samples_are_small() -> None:
    folder = Path(__file__).resolve().parents[2] / "sample_models"
    assert sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) < 8 << 20


def test_live_model_equals_the_file(samples: Path) -> None:
    from tfldbg.reference.keras import load_live

    live = load_live(samples / "cnn.h5")
    data = samples / "digits.npz"
    one = tfldbg.trace(samples / "cnn.tflite", keras=live, data=data, samples=4).to_dict()
    two = tfldbg.trace(
        samples / "cnn.tflite", keras=samples / "cnn.h5", data=data, samples=4
    ).to_dict()
    assert one["ops"] == two["ops"]


def test_saved_model_folder(samples: Path, tmp_path: Path) -> None:
    from tfldbg.reference.keras import load_live

    load_live(samples / "cnn.h5").save(tmp_path / "saved", save_format="tf")
    result = tfldbg.trace(
        samples / "cnn_negated_channel.tflite", keras=tmp_path / "saved", samples=4
    )
    assert result.origins[0] == FAULTS["cnn_negated_channel.tflite"]["op"]
    assert result.to_dict()["coverage"]["unmatched"] == 0


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_recurrent_sample_is_clean_step_by_step(samples: Path, suffix: str) -> None:
    result = tfldbg.trace(
        samples / "lmu_ptq.tflite",
        keras=samples / f"lmu_ptq{suffix}",
        data=samples / "digits.npz",
        samples=16,
        by_step=True,
    )
    plain = result.to_dict()
    assert_sound(result, "lmu_ptq")
    assert plain["coverage"]["unmatched"] == 0
    assert [step["step"] for step in plain["steps"]] == list(range(14))
    assert all(step["max_local_lsb"] < 0.75 for step in plain["steps"])
