"""Read a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfldbg.diagnose.evidence import Evidence
from tfldbg.errors import CaptureError
from tfldbg.store import schema
from tfldbg.store.evidence_json import from_json

_HINT = "record one with tfldbg trace MODEL.tflite --keras QAT.h5 --dump RUN.h5"


def read_evidence(path: Path) -> Evidence:
    """Return what a recorded trace measured.

    Raises:
        CaptureError: The file is missing, damaged, of another format or of another version.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _check_format(file, path)
            return from_json(file[schema.EVIDENCE].asstr()[()])
    except FileNotFoundError as error:
        raise CaptureError(f"the recording '{path}' does not exist", hint=_HINT) from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CaptureError(f"'{path}' is no recorded run: {error}", hint=_HINT) from error


def _check_format(file: Any, path: Path) -> None:
    found = file.attrs.get("format")
    if found != schema.FORMAT:
        raise CaptureError(
            f"'{path}' is an HDF5 file of format {found!r}, expected {schema.FORMAT!r}", hint=_HINT
        )
    version = int(file.attrs.get("format_version", 0))
    if version != schema.FORMAT_VERSION:
        raise CaptureError(
            f"'{path}' has format version {version}, this tfldbg reads {schema.FORMAT_VERSION}",
            hint="record it again, or install the tfldbg that wrote it",
        )
