"""Evidence to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict

from tfldbg.diagnose.evidence import Evidence
from tfldbg.guard import parse_json
from tfldbg.store.older import renewed
from tfldbg.store.typed import build


def evidence_to_json(evidence: Evidence) -> str:
    """Return everything but the values as JSON; infinities and NaN as JSON's extension names."""
    return json.dumps(asdict(evidence))


def from_json(text: str) -> Evidence:
    """Rebuild the evidence.

    Raises:
        ValueError, TypeError: The text is not what `evidence_to_json` writes.
    """
    return build(Evidence, renewed(parse_json(text)), "evidence")
