"""JUnit XML for CI systems, with one test case per operator output.

The elements are those that Jenkins' xUnit plugin and GitLab read; GitLab shows ``classname`` as the
suite, ``name`` as the test, and the text of a failure.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tfldbg.diagnose.words import number, short
from tfldbg.report.machine import write_text
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.gate import Broken
    from tfldbg.diagnose.model import Status
    from tfldbg.diagnose.result import Result

_NO_REASON = "it holds no values of the network, or was not compared"


def write_junit(result: Result, target: str) -> None:
    """Write JUnit XML.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_text(to_junit(result), target)


def to_junit(result: Result) -> str:
    """Return JUnit XML, in which operators that could not be checked are skipped.

    Without rules the origins fail; with rules, the operators that break one.
    """
    run = result.evidence.run
    suite = ET.Element("testsuite", name=printable(run.model_path))
    properties = ET.SubElement(suite, "properties")
    for name, value in _facts(result).items():
        ET.SubElement(properties, "property", name=name, value=printable(value))
    for case in _cases(result):
        suite.append(case)
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": 0,
        "skipped": len(suite.findall("testcase/skipped")),
    }
    suite.attrib.update({name: str(count) for name, count in counts.items()})
    suite.set("time", f"{run.timing.get('total_s', 0.0):.3f}")
    root = ET.Element("testsuites", name="tfldbg")
    root.append(suite)
    ET.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return declaration + ET.tostring(root, encoding="unicode") + "\n"


def _facts(result: Result) -> dict[str, str]:
    run = result.evidence.run
    facts = {
        "verdict": result.verdict,
        "sentence": result.diagnosis.sentence,
        "reference": f"{run.reference_path} ({run.reference_kind})",
        "runtime": run.runtime,
        **({"delegate": run.delegate.path} if run.delegate else {}),
        "data": f"{run.data}, {run.extent}",
        "model_sha256": run.model_sha256,
    }
    if result.gate is not None:
        facts["rules"] = ", ".join(result.gate.rules)
    return facts


def _cases(result: Result) -> list[ET.Element]:
    ops = result.evidence.ops
    names = [f"{op.op} {op.kind} {short(op.name) or f'tensor {op.tensor}'}" for op in ops]
    seen = Counter(names)
    broken = _by_op(result)
    cases = []
    for name, op, status in zip(names, ops, result.diagnosis.statuses, strict=True):
        unique = name if seen[name] == 1 else f"{name} (tensor {op.tensor})"
        case = ET.Element("testcase", classname=_class_name(result), name=printable(unique))
        _fill(case, result, op, status, broken)
        cases.append(case)
    return cases


def _fill(
    case: ET.Element,
    result: Result,
    op: OpEvidence,
    status: Status,
    broken: dict[int, list[Broken]],
) -> None:
    """Add the result of one operator output to its test case."""
    failures = _failures(result, op, broken)
    skipped = status == "unchecked" or _unseen(result, op)
    if failures:
        said = printable(failures[0][1]) + (" ..." if len(failures) > 1 else "")
        failure = ET.SubElement(case, "failure", type=failures[0][0], message=said)
        failure.text = "\n".join(printable(text) for _, text in (*failures, *_about(op)))
    elif skipped:
        reason = op.local_reason or op.unmatched_reason or _NO_REASON
        ET.SubElement(case, "skipped", message=printable(reason))
    lines = [text for _, text in _about(op)] if not failures else []
    if status in ("origin", "inherited") and not failures and not skipped:
        lines.insert(0, _NOTES[status])
    if lines:
        ET.SubElement(case, "system-out").text = "\n".join(printable(line) for line in lines)


_NOTES = {
    "inherited": "inherited: its own arithmetic is right, its inputs are not",
    "origin": "tfldbg's verdict: an origin, but within the rules of the gate",
}


def _unseen(result: Result, op: OpEvidence) -> bool:
    """Return whether the operator's own arithmetic was not checked."""
    return op.activation and op.local is None and op.op not in result.evidence.covered


def _failures(
    result: Result, op: OpEvidence, broken: dict[int, list[Broken]]
) -> list[tuple[str, str]]:
    """Return the type and message of each failure of an operator output."""
    outputs = {o.tensor for o in result.evidence.ops if o.op == op.op}

    def concerns(tensor: int) -> bool:
        """Return whether a failure is of this output, or of no output and so of each of them."""
        return tensor == op.tensor or tensor not in outputs

    if result.gate is None:
        found = [d for d in result.diagnosis.divergences if d.op == op.op]
        return [(d.signal, d.message) for d in found if concerns(d.tensor_index)]
    failures = []
    for b in broken.get(op.op, ()):
        if b.loop is not None or concerns(b.tensor_index):
            inside = f"operator {b.op} {b.kind} in it: " if b.loop is not None else ""
            failures.append((b.metric, f"{inside}{b.message} (rule {b.rule})"))
    return failures


def _by_op(result: Result) -> dict[int, list[Broken]]:
    found: dict[int, list[Broken]] = {}
    for broken in result.gate.broken if result.gate is not None else ():
        found.setdefault(broken.main_op, []).append(broken)
    return found


def _about(op: OpEvidence) -> list[tuple[str, str]]:
    """Return lines of context: the full name, and the figures."""
    lines = [("tensor", f"tensor {op.tensor} '{op.name}'")]
    for side, stats in (("local", op.local), ("accumulated", op.accumulated)):
        if stats is not None:
            lsb = f"{number(stats.max_lsb)} LSB, " if stats.max_lsb is not None else ""
            sqnr = f", SQNR {stats.sqnr_db:.1f} dB" if stats.sqnr_db is not None else ""
            lines.append((side, f"{side} error: {lsb}{number(stats.max_abs)}{sqnr}"))
    return lines


def _class_name(result: Result) -> str:
    """Return ``tfldbg.MODEL``, since Jenkins takes the part before the last dot as a package."""
    stem = PurePath(result.evidence.run.model_path).stem.replace(".", "_")
    return f"tfldbg.{printable(stem) or 'model'}"
