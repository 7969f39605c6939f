"""Files that say one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

SAMPLE = Path(__file__).resolve().parents[3] / "sample_models" / "dense4.tflite"


def damaged(change: Callable[[Any], None], path: Path = SAMPLE) -> bytes:
    """Return a sample model after a change of its object form."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    change(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
