"""Evidence to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.accuracy import Accuracy, Disagreement, SideAccuracy
from tfldbg.compare.compounding.shares import Compounding, FinalError, OpShare, Size
from tfldbg.compare.constants.checks import BiasCheck, WeightCheck
from tfldbg.compare.custom import metrics_from_json
from tfldbg.compare.metrics import Line
from tfldbg.compare.outputs import OutputStats, PairStats
from tfldbg.compare.patterns import Pattern
from tfldbg.compare.points import Extreme, Points
from tfldbg.compare.relation import Port, Recording
from tfldbg.compare.steps import Step
from tfldbg.compare.tally import Split
from tfldbg.compare.trials import Trial
from tfldbg.compare.usage import Usage
from tfldbg.compare.worst import Parting, WorstSample
from tfldbg.diagnose.bounds import Bound
from tfldbg.diagnose.evidence import Body, Delegated, Evidence, InputEvidence, OpEvidence, Run
from tfldbg.diagnose.model import Finding, Subject
from tfldbg.graph.lint import Breach
from tfldbg.guard import parse_json
from tfldbg.store.older import with_subjects
from tfldbg.store.typed import check_types


def to_json(evidence: Evidence) -> str:
    """Return everything but the values as JSON; infinities and NaN as JSON's extension names."""
    return json.dumps(asdict(evidence))


def from_json(text: str) -> Evidence:
    """Rebuild the evidence.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: The text is not what `to_json` writes.
    """
    evidence = _evidence(with_subjects(parse_json(text)))
    check_types(evidence, "evidence")
    return evidence


def _evidence(plain: dict[str, Any]) -> Evidence:
    steps = plain.get("steps")
    return Evidence(
        run=_run(plain["run"]),
        inputs=tuple(_input(i) for i in plain["inputs"]),
        ops=tuple(_op(o) for o in plain["ops"]),
        file=tuple(_finding(f) for f in plain["file"]),
        ports=tuple(Port(**p) for p in plain["ports"]),
        recording=_recording(plain["recording"]),
        trials=tuple(Trial(**t) for t in plain["trials"]),
        patterns=tuple(Pattern(**p) for p in plain.get("patterns", ())),
        outputs=tuple(_output(o) for o in plain.get("outputs", ())),
        accuracy=_accuracy(plain.get("accuracy")),
        worst=tuple(_worst(w) for w in plain.get("worst", ())),
        tolerance=plain.get("tolerance"),
        compounding=_compounding(plain.get("compounding")),
        steps=None if steps is None else tuple(_step(s) for s in steps),
        bodies=tuple(_body(b) for b in plain.get("bodies", ())),
    )


def _run(plain: dict[str, Any]) -> Run:
    delegate = plain.get("delegate")
    made = Delegated(**_tuples(delegate)) if delegate else None
    return Run(**{**plain, "notes": tuple(plain["notes"]), "delegate": made})


def _finding(plain: dict[str, Any]) -> Finding:
    subject = plain.get("subject")
    return Finding(**{**plain, "subject": Subject(**subject) if subject else None})


def _step(plain: dict[str, Any]) -> Step:
    return Step(**{**plain, "ops": tuple(plain["ops"])})


def _body(plain: dict[str, Any]) -> Body:
    inner = plain["evidence"]
    return Body(**{**plain, "evidence": _evidence(inner) if inner else None})


def _input(plain: dict[str, Any]) -> InputEvidence:
    read = {"expected": _pair(plain), "usage": _usage(plain["usage"])}
    return InputEvidence(**{**plain, **read, "trained": _tuple(plain.get("trained"))})


def _recording(plain: dict[str, Any] | None) -> Recording | None:
    if plain is None:
        return None
    return Recording(plain["half_precision"], tuple(tuple(pair) for pair in plain["copies"]))


def _usage(plain: dict[str, Any] | None) -> Usage | None:
    return Usage(**_tuples(plain)) if plain else None


def _output(plain: dict[str, Any]) -> OutputStats:
    return OutputStats(**{**plain, "pairs": tuple(PairStats(**p) for p in plain["pairs"])})


def _accuracy(plain: dict[str, Any] | None) -> Accuracy | None:
    if plain is None:
        return None
    sides = tuple(SideAccuracy(**_tuples(s)) for s in plain["sides"])
    changed = tuple(Disagreement(**_tuples(d)) for d in plain["disagreements"])
    return Accuracy(**{**plain, "sides": sides, "disagreements": changed})


def _worst(plain: dict[str, Any]) -> WorstSample:
    return WorstSample(**{**plain, "ops": tuple(Parting(**_tuples(o)) for o in plain["ops"])})


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in plain.items()}


def _pair(plain: dict[str, Any]) -> tuple[float, int] | None:
    expected = plain["expected"]
    return (float(expected[0]), int(expected[1])) if expected else None


def _op(plain: dict[str, Any]) -> OpEvidence:
    return OpEvidence(
        **{
            **plain,
            "reads": tuple(plain["reads"]),
            "joint": tuple(plain["joint"]),
            "marks": tuple(plain.get("marks", ())),
            "shape": tuple(plain["shape"]),
            "expected_shape": _tuple(plain["expected_shape"]),
            "bound": Bound(**_tuples(plain["bound"])),
            "split": Split(**plain["split"]) if plain["split"] else None,
            "breaches": tuple(
                Breach(**{**b, "expected": _pair(b), "ties": tuple(b["ties"])})
                for b in plain["breaches"]
            ),
            "expected": _pair(plain),
            "local": _stats(plain["local"]),
            "accumulated": _stats(plain["accumulated"]),
            "weights": _weights(plain["weights"]),
            "usage": _usage(plain["usage"]),
            "trained": _tuple(plain["trained"]),
            "local_points": _points(plain.get("local_points")),
            "accumulated_points": _points(plain.get("accumulated_points")),
        }
    )


def _points(plain: dict[str, Any] | None) -> Points | None:
    if plain is None:
        return None
    worst = Extreme(**_tuples(plain["worst"])) if plain["worst"] else None
    return Points(**{**_tuples(plain), "worst": worst})


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
    line = Line(**plain["line"]) if plain["line"] else None
    metrics = metrics_from_json(plain.get("metrics", {}))
    return TensorStats(**{**_tuples(plain), "line": line, "metrics": metrics})
