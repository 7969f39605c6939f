"""Evidence to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.weights import WeightCheck
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence, Run


def to_json(evidence: Evidence) -> str:
    """Return everything but the values as JSON; infinities and NaN as JSON's extension names."""
    return json.dumps(asdict(evidence))


def from_json(text: str) -> Evidence:
    """Rebuild the evidence.

    Raises:
        ValueError, TypeError, KeyError: The text is not what `to_json` writes.
    """
    plain = json.loads(text)
    return Evidence(
        run=Run(**plain["run"]),
        inputs=tuple(InputEvidence(**{**i, "expected": _pair(i)}) for i in plain["inputs"]),
        ops=tuple(_op(o) for o in plain["ops"]),
    )


def _pair(plain: dict[str, Any]) -> tuple[float, int] | None:
    expected = plain["expected"]
    return (float(expected[0]), int(expected[1])) if expected else None


def _op(plain: dict[str, Any]) -> OpEvidence:
    weights = plain["weights"]
    return OpEvidence(
        **{
            **plain,
            "reads": tuple(plain["reads"]),
            "allowance_lsb": tuple(plain["allowance_lsb"]),
            "expected": _pair(plain),
            "local": _stats(plain["local"]),
            "accumulated": _stats(plain["accumulated"]),
            "weights": WeightCheck(**weights) if weights else None,
        }
    )


def _stats(plain: dict[str, Any] | None) -> TensorStats | None:
    if plain is None:
        return None
    return TensorStats(**{**plain, "channel_max_abs": tuple(plain["channel_max_abs"])})
