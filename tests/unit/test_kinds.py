"""Files are known by their content, and by their suffix where there is none."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tfldbg.kinds import DATA, KERAS, RECORDING, TFLITE, kind_of

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"


def test_content_decides(tmp_path: Path) -> None:
    (tmp_path / "odd.h5").write_bytes((SAMPLES / "dense4.tflite").read_bytes())
    np.save(tmp_path / "x.npy", np.zeros(2))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    (tmp_path / "text.tflite").write_text("no model at all")
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_group("tensors")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(2)
    found = {path.name: kind_of(path) for path in sorted(tmp_path.iterdir())}
    assert found == {
        "odd.h5": TFLITE,
        "x.npy": DATA,
        "saved": KERAS,
        "text.tflite": None,
        "run.h5": RECORDING,
        "data.h5": DATA,
    }
    assert kind_of(str(SAMPLES / "dense4.h5")) == KERAS
    assert kind_of(SAMPLES / "digits.npz") == kind_of(tmp_path) == DATA


@pytest.mark.parametrize(
    ("source", "kind"),
    [("gone.tflite", TFLITE), ("gone.KERAS", KERAS), ("gone.npz", DATA), ("gone", None)],
)
def test_the_suffix_decides_where_nothing_is(source: str, kind: str | None) -> None:
    assert kind_of(source) == kind


def test_no_link_to_another_file_is_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["tensors"] = h5py.ExternalLink("/nowhere.h5", "/x")
    assert kind_of(tmp_path / "link.h5") == RECORDING


def test_what_is_no_path_is_of_no_kind() -> None:
    assert kind_of(b"TFL3") is kind_of(None) is kind_of(3) is None
