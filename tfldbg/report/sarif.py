"""SARIF 2.1.0: the findings for code scanning.

A .tflite file has no lines.  A finding's place is therefore the logical location, operator and
tensor; the physical one, which code scanning asks for, is the file's first line.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tfldbg.diagnose.rules import CATALOG
from tfldbg.diagnose.words import op_name
from tfldbg.files import sha256
from tfldbg.report.machine import write_json
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Run
    from tfldbg.diagnose.gate import Broken
    from tfldbg.diagnose.model import Finding
    from tfldbg.diagnose.result import Result

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_GATE = "gate"
_GATE_RULE = {
    "id": _GATE,
    "name": "Gate",
    "shortDescription": {"text": "an operator does not keep to a rule of the gate"},
    "fullDescription": {
        "text": "A rule given with --fail-on or --tolerances limits a figure of this operator."
    },
    "help": {"text": "Look at the operator with tfldbg trace, or change the rule."},
    "defaultConfiguration": {"level": "error"},
}


def write_sarif(result: Result, target: str) -> None:
    """Write SARIF 2.1.0.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_json(to_sarif(result), target)


def to_sarif(result: Result) -> dict[str, Any]:
    """Return a SARIF log with one run: a result a finding, and one a broken rule of the gate."""
    run = result.evidence.run
    findings = result.diagnosis.findings
    broken = result.gate.broken if result.gate is not None else ()
    codes = sorted({f.code for f in findings}) + [_GATE] * bool(broken)
    kinds = {op.op: op.kind for op in result.evidence.ops}
    results = [_of_finding(f, kinds, codes, run) for f in findings]
    results += [_of_broken(b, codes, run) for b in broken]
    _number_fingerprints(results)
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tfldbg",
                        "version": run.versions.get("tfldbg", "unknown"),
                        "rules": [_rule(code) for code in codes],
                    }
                },
                "artifacts": [_artifact(run)],
                "results": results,
                "columnKind": "unicodeCodePoints",
                "properties": {
                    "verdict": result.verdict,
                    "sentence": printable(result.diagnosis.sentence),
                },
            }
        ],
    }


def _rule(code: str) -> dict[str, Any]:
    if code == _GATE:
        return _GATE_RULE
    about = CATALOG[code]
    return {
        "id": code,
        "shortDescription": {"text": about.title},
        "fullDescription": {"text": about.meaning},
        "help": {"text": f"{about.evidence} {about.suggestion[:1].upper()}{about.suggestion[1:]}."},
        "defaultConfiguration": {"level": _LEVELS[about.severity]},
    }


def _artifact(run: Run) -> dict[str, Any]:
    artifact: dict[str, Any] = {"location": {"uri": _uri(run.model_path)}}
    if run.model_sha256:
        artifact["hashes"] = {"sha-256": run.model_sha256}
    return artifact


def _of_finding(
    finding: Finding, kinds: dict[int, str], codes: list[str], run: Run
) -> dict[str, Any]:
    place = None
    if finding.op is not None:
        place = op_name(finding.op, kinds.get(finding.op, "operator"), finding.tensor or "")
    said = finding.message[:1].upper() + finding.message[1:]
    advice = finding.suggestion[:1].upper() + finding.suggestion[1:]
    text = f"{said}. {advice}."
    level = _LEVELS[finding.severity]
    return _result(finding.code, codes, level, text, _location(run, place, finding.tensor))


def _of_broken(broken: Broken, codes: list[str], run: Run) -> dict[str, Any]:
    name = op_name(broken.op, broken.kind, broken.tensor)
    place = name if broken.loop is None else f"{name} inside operator {broken.loop}"
    text = f"{place}: {broken.message} (rule {broken.rule})"
    return _result(_GATE, codes, "error", text, _location(run, place, broken.tensor))


def _result(
    code: str, codes: list[str], level: str, text: str, location: dict[str, Any]
) -> dict[str, Any]:
    place = location.get("logicalLocations", [{}])[0].get("name", "")
    return {
        "ruleId": code,
        "ruleIndex": codes.index(code),
        "level": level,
        "message": {"text": _message(text)},
        "locations": [location],
        "partialFingerprints": {
            # Figures change from run to run, so the message is no part of it.
            "primaryLocationLineHash": sha256(f"{code}\n{place}".encode())[:16]
        },
    }


def _message(text: str) -> str:
    """Return a message in which no brackets are a link and no braces a placeholder (SARIF 3.11)."""
    return printable(text).replace("](", "] (").replace("{", "{{").replace("}", "}}")


def _location(run: Run, place: str | None, tensor: str | None) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(run.model_path), "index": 0},
            "region": {"startLine": 1},
        }
    }
    if place is not None:
        logical = {"name": printable(place), "kind": "element"}
        if tensor:
            logical["fullyQualifiedName"] = printable(f"{place}/{tensor}")
        location["logicalLocations"] = [logical]
    return location


def _uri(path: str) -> str:
    """Return a relative reference where the file lies below the working folder."""
    given = Path(path)
    if given.is_absolute():
        if not given.is_relative_to(Path.cwd()):
            return "file:///" + quote(given.as_posix().lstrip("/"), safe="/:", errors="replace")
        given = given.relative_to(Path.cwd())
    return quote(given.as_posix(), errors="replace")


def _number_fingerprints(results: list[dict[str, Any]]) -> None:
    """Tell apart results of the same rule at the same place, as code scanning does itself."""
    seen: Counter[str] = Counter()
    for result in results:
        prints = result["partialFingerprints"]
        seen[prints["primaryLocationLineHash"]] += 1
        prints["primaryLocationLineHash"] += f":{seen[prints['primaryLocationLineHash']]}"
