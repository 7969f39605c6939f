"""Convert evidence to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from tfldbg.diagnose.evidence import Evidence
from tfldbg.guard import parse_json
from tfldbg.measures import MEASUREMENTS
from tfldbg.store.older import renewed
from tfldbg.store.typed import build


def evidence_to_json(evidence: Evidence) -> str:
    """Return the evidence as JSON, with Python's names for infinity and NaN."""
    return json.dumps(asdict(evidence))


def from_json(text: str) -> Evidence:
    """Return the evidence from JSON.

    Raises:
        ValueError, TypeError: The text is not what `evidence_to_json` writes.
    """
    evidence = build(Evidence, renewed(parse_json(text)), "evidence")
    return replace(evidence, measures=_measures(evidence.measures))


def _measures(plain: Any) -> dict[str, Any]:
    """Return the results of measurements; those that this version does not know are left out."""
    kinds = {one.name: one.result for one in MEASUREMENTS if one.result is not None}
    known = {name: value for name, value in plain.items() if name in kinds}
    return {name: build(kinds[name], v, f"evidence.measures.{name}") for name, v in known.items()}
