"""A recorded run by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from tfldbg.diagnose.evidence import Evidence
from tfldbg.store import schema
from tfldbg.store.evidence_json import evidence_to_json


def write_recording(
    path: Path, evidence: Evidence, tensors: Mapping[int, Mapping[str, NDArray[Any]]]
) -> None:
    """Write evidence, and by tensor its datasets."""
    with h5py.File(path, "w") as file:
        file.attrs["format"] = schema.FORMAT
        file.attrs["format_version"] = schema.FORMAT_VERSION
        file[schema.EVIDENCE] = evidence_to_json(evidence)
        for index, datasets in tensors.items():
            for name, values in datasets.items():
                file[f"{schema.tensor_path(index)}/{name}"] = values
