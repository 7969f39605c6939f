"""Read a recorded run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import guard
from tfldbg.errors import CaptureError
from tfldbg.reference.capture_hdf5 import check_version
from tfldbg.store import schema
from tfldbg.store.evidence_json import from_json

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence, Run

_HINT = "record one with tfldbg trace MODEL.tflite --keras QAT.h5 --dump RUN.h5"


def read_evidence(path: Path) -> Evidence:
    """Return the evidence of a recorded trace.

    Raises:
        CaptureError: The file is missing, damaged, of another format or of another version.
    """
    with _opened(path) as file:
        return from_json(file[schema.EVIDENCE].asstr()[()])


def read_values(path: Path, run: Run, tensor: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the recorded values (N, ...) of one tensor by dataset, without those that are missing.

    Args:
        path: The recording.
        run: The run that the recording must hold.
        tensor: The tensor's index in the traced file.
        names: Datasets of `tfldbg.store.schema`.

    Raises:
        CaptureError: The file is missing or damaged, or holds another run.
    """
    with _opened(path) as file:
        if guard.parse_json(file[schema.EVIDENCE].asstr()[()])["run"] != _plain(run):
            raise CaptureError(
                f"'{path}' holds another run than that of this result: it has been overwritten",
                hint=f"tfldbg.load_trace({str(path)!r}) reads its present content; or trace again",
            )
        group = file.get(schema.tensor_path(tensor), {})
        return {name: np.asarray(group[name]) for name in names if name in group}


def _plain(run: Run) -> Any:
    """Return a run as it comes back from JSON; its timing distinguishes it from other runs."""
    return json.loads(json.dumps(asdict(run)))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            guard.check_hdf5(file, whole=False)
            _check_format(file, path)
            yield file
    except FileNotFoundError as error:
        raise CaptureError(f"the recording '{path}' does not exist", hint=_HINT) from error
    except (AttributeError, *guard.UNREADABLE) as error:  # a group where a dataset belongs
        raise CaptureError(f"'{path}' is not a recorded run: {error}", hint=_HINT) from error


def _check_format(file: Any, path: Path) -> None:
    found = file.attrs.get("format")
    if found != schema.FORMAT:
        raise CaptureError(
            f"'{path}' is an HDF5 file of format {found!r}, expected {schema.FORMAT!r}", hint=_HINT
        )
    check_version(path, int(file.attrs.get("format_version", 0)))
