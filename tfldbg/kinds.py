"""Detect the kind of a file, so that error messages can name a file in the wrong place."""

from __future__ import annotations

import zipfile
from pathlib import Path

TFLITE, KERAS, RECORDING, DATA = "a .tflite file", "a Keras model", "a recording", "data"

_TFLITE_MARK = b"TFL3"  # at byte 4
_HDF5_MARK = b"\x89HDF\r\n\x1a\n"
_ZIP_MARK = b"PK\x03\x04"
_BY_SUFFIX = {
    ".tflite": TFLITE,
    ".lite": TFLITE,
    ".keras": KERAS,
    ".h5": KERAS,
    ".hdf5": KERAS,
    ".npz": DATA,
    ".npy": DATA,
}


def kind_of(source: object) -> str | None:
    """Return the kind of a file by its content, or by its suffix if it does not exist.

    Args:
        source: A path; anything else has no kind.

    Returns:
        ``TFLITE``, ``KERAS``, ``RECORDING``, ``DATA``, or None if the kind is unknown.
    """
    if not isinstance(source, (str, Path)):
        return None
    path = Path(source)
    try:
        if path.is_dir():
            return KERAS if (path / "saved_model.pb").exists() else DATA
        with path.open("rb") as file:
            return _of_content(path, file.read(8))
    except FileNotFoundError:
        return _BY_SUFFIX.get(path.suffix.lower())
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def _of_content(path: Path, head: bytes) -> str | None:
    if head[4:] == _TFLITE_MARK:
        return TFLITE
    if head == _HDF5_MARK:
        import h5py

        with h5py.File(path, "r") as file:
            exists = file.id.links.exists  # follows no link to another file
            if "model_config" in file.attrs or exists(b"model_weights"):
                return KERAS
            return RECORDING if exists(b"tensors") else DATA
    if head.startswith(_ZIP_MARK):
        with zipfile.ZipFile(path) as archive:
            return KERAS if "config.json" in archive.namelist() else DATA
    return DATA if head.startswith(b"\x93NUMPY") else None


def keras_suffix(path: Path) -> str:
    """Return the suffix that matches the content of a Keras file, or the file's own suffix.

    Keras 2 wrote HDF5 into files with any suffix.
    """
    if path.is_dir() or kind_of(path) != KERAS:
        return path.suffix
    return ".keras" if zipfile.is_zipfile(path) else ".h5"
