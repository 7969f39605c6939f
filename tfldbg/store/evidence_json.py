"""Evidence to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.checks import BiasCheck, WeightCheck
from tfldbg.compare.shares import Compounding, FinalError, OpShare, Size
from tfldbg.compare.stream import Split
from tfldbg.diagnose.bounds import Bound
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence, Run
from tfldbg.graph.lint import Breach


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
        run=Run(**{**plain["run"], "notes": tuple(plain["run"]["notes"])}),
        inputs=tuple(InputEvidence(**{**i, "expected": _pair(i)}) for i in plain["inputs"]),
        ops=tuple(_op(o) for o in plain["ops"]),
        compounding=_compounding(plain.get("compounding")),
    )


def _pair(plain: dict[str, Any]) -> tuple[float, int] | None:
    expected = plain["expected"]
    return (float(expected[0]), int(expected[1])) if expected else None


def _op(plain: dict[str, Any]) -> OpEvidence:
    return OpEvidence(
        **{
            **plain,
            "reads": tuple(plain["reads"]),
            "joint": tuple(plain["joint"]),
            "shape": tuple(plain["shape"]),
            "expected_shape": _tuple(plain["expected_shape"]),
            "bound": Bound(**{k: _tuple(v) for k, v in plain["bound"].items()}),
            "split": Split(**plain["split"]) if plain["split"] else None,
            "breaches": tuple(
                Breach(**{**b, "expected": _pair(b), "ties": tuple(b["ties"])})
                for b in plain["breaches"]
            ),
            "expected": _pair(plain),
            "local": _stats(plain["local"]),
            "accumulated": _stats(plain["accumulated"]),
            "weights": _weights(plain["weights"]),
        }
    )


def _breach(plain: dict[str, Any]) -> Breach:
    return Breach(**{**plain, "expected": _pair(plain), "ties": tuple(plain["ties"])})


def _weights(plain: dict[str, Any] | None) -> WeightCheck | None:
    if plain is None:
        return None
    bias = plain["bias"]
    return WeightCheck(**{**plain, "bias": BiasCheck(**bias) if bias else None})


def _compounding(plain: dict[str, Any] | None) -> Compounding | None:
    if plain is None:
        return None
    finals = (FinalError(**{**f, "error": Size(**f["error"])}) for f in plain["finals"])
    shares = tuple(_share(s) for s in plain["shares"])
    notes = tuple(plain["notes"])
    return Compounding(**{**plain, "finals": tuple(finals), "shares": shares, "notes": notes})


def _share(plain: dict[str, Any]) -> OpShare:
    sizes = {
        key: Size(**plain[key]) if plain[key] else None
        for key in ("own", "clipped", "inherited", "accumulated")
    }
    lists = {key: tuple(plain[key]) for key in ("joint", "misread_by")}
    return OpShare(**{**plain, **sizes, **lists})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _stats(plain: dict[str, Any] | None) -> TensorStats | None:
    if plain is None:
        return None
    return TensorStats(**{**plain, "channel_max_abs": tuple(plain["channel_max_abs"])})
