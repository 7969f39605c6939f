"""Keras files of other systems: tf.keras 2.13 to 2.15 wrote backslashes under Windows."""

from __future__ import annotations

import io
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tfldbg.reference.keras import load_live


@pytest.fixture
def model() -> Any:
    import tf_keras as k

    k.backend.clear_session()
    return k.Sequential([k.Input((3,)), k.layers.Dense(4, name="wide"), k.layers.Dense(2)])


def as_under_windows(path: Path) -> None:
    """Rename the groups of an archive's weights as that version of Keras called them there."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stored = io.BytesIO(members["model.weights.h5"])
    with h5py.File(stored, "r+") as file:
        for name in list(file["layers"]):
            file.move(f"layers/{name}", f"layers\\{name}")
        del file["layers"]
    members["model.weights.h5"] = stored.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_weights_with_backslashes_are_found(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    model.save(path)
    as_under_windows(path)
    before = path.read_bytes()
    loaded = load_live(path)
    for found, wanted in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(found, wanted)
    assert path.read_bytes() == before


def test_other_files_are_read_where_they_are(model: Any, tmp_path: Path) -> None:
    from tfldbg.reference.repairs import with_slashes

    path = tmp_path / "model.keras"
    model.save(path)
    shutil.copyfile(path, tmp_path / "copy.keras")
    assert with_slashes(path, tmp_path) == path


def test_a_model_of_a_thousand_layers_loads(tmp_path: Path) -> None:
    """Keras walks them one call deeper for each, and Python ends that at 1000 by itself."""
    import tf_keras as k

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * limit)
    try:
        given = seen = k.Input((2,))
        for _ in range(1100):
            seen = k.layers.ReLU()(seen)
        k.Model(given, seen).save(tmp_path / "deep.h5")
    finally:
        sys.setrecursionlimit(limit)
    assert len(load_live(tmp_path / "deep.h5").layers) == 1101
    assert sys.getrecursionlimit() == limit
