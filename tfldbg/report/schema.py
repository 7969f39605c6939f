"""The JSON Schema of the output of ``--json``."""

from __future__ import annotations

from importlib import resources


def read_schema() -> str:
    """Return the schema of format ``tfldbg.trace`` (JSON Schema, draft 2020-12)."""
    place = resources.files("tfldbg.report") / "schemas" / "trace.schema.json"
    return place.read_text(encoding="utf-8")
