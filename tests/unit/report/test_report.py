"""What is shown: the view model, and one golden picture of the terminal."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.diagnose.evidence import OpEvidence
from tfldbg.diagnose.limits import read_rules
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Finding, Subject
from tfldbg.diagnose.result import Result, gated
from tfldbg.options.judge import Thresholds
from tfldbg.report.document import build_document
from tfldbg.report.machine import write_json
from tfldbg.report.notebook import trace_html
from tfldbg.report.terminal import draw, draw_brief

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def _result(count: int = 6, broken: int | None = 3) -> Result:
    ops = [operator(i, local=40.0 if i == broken else 0.5) for i in range(count)]
    made = evidence(*ops)
    return Result(made, diagnose(made, Thresholds()))


def _drawn(result: Result, *, width: int = 80, everything: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, highlight=False, force_terminal=True, color_system=None
    )
    draw(build_document(result, everything=everything), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_at_80_columns(request: pytest.FixtureRequest) -> None:
    drawn = _drawn(_result())
    path = GOLDEN / "trace_80.txt"
    if request.config.getoption("--renew"):
        path.write_text(drawn)
    assert drawn == path.read_text()
    assert max(len(line) for line in drawn.splitlines()) <= 80


def test_the_terminal_says_once_what_differs_first_and_why() -> None:
    result = _result()
    first = result.first_divergence
    assert first is not None
    cause = Finding("TFL052", "error", 3, None, "a cause: it was shifted", {}, "shift it back")
    other = replace(cause, op=1, subject=Subject(1, "CONV_2D", "net/layer_1/Relu"))
    findings = (cause, *result.diagnosis.findings, other)
    result = replace(result, diagnosis=replace(result.diagnosis, findings=findings))
    lines = [" ".join(line.split()) for line in _drawn(result, width=300).splitlines()]
    assert lines[1:3] == ["", "why TFL052 a cause: it was shifted"]
    assert "TFL052 error: see above. Shift it back." in lines
    assert any(line.startswith("TFL001 error: operator 3: see above.") for line in lines)
    assert "TFL052 error: operator 1 CONV_2D 'layer_1': a cause: it was shifted." in lines


def test_a_long_table_shows_the_origin_its_surroundings_and_gaps() -> None:
    rows = build_document(_result(100, broken=50)).rows
    shown = {row.op for row in rows}
    assert {"48", "49", "50", "51", "52", "99"} <= shown
    assert len(rows) < 25
    gaps = [row.kind for row in rows if row.status is None]
    assert gaps and all("ok" in gap or "inherited" in gap for gap in gaps)
    assert len(build_document(_result(100, broken=50), everything=True).rows) == 100


def test_names_cannot_drive_the_terminal_or_the_page() -> None:
    evil = replace(operator(0, local=9.0), name="x/\x1b[31m<script>alert(1)</script>/[bold]y")
    made = evidence(evil)
    result = Result(made, diagnose(made, Thresholds()))
    assert "\x1b" not in _drawn(result)
    assert "[bold]" in _drawn(replace_name(result, "[bold]y"), width=300)
    assert "<script>" not in trace_html(result)


def replace_name(result: Result, name: str) -> Result:
    made = evidence(replace(result.evidence.ops[0], name=name))
    return Result(made, diagnose(made, Thresholds()))


def test_json_holds_no_infinity(tmp_path: Path) -> None:
    write_json({"a": math.inf, "b": [math.nan, 1.5]}, str(tmp_path / "f.json"))
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": None, "b": [None, 1.5]}


def _of(*ops: OpEvidence) -> Result:
    made = evidence(*ops)
    return Result(made, diagnose(made, Thresholds()))


def test_verbose_tells_what_was_matched_the_versions_and_the_time() -> None:
    lost = replace(
        operator(1, local=None), reference=None, match_rule=None, unmatched_reason="no such layer"
    )
    document = build_document(_of(operator(0, local=0.4), lost), verbose=True)
    facts = dict(document.facts)
    assert (facts["versions"], facts["time"]) == ("tfldbg 0", "total 1.0 s")
    (matching,) = (s for s in document.sections if s.title == "matching")
    assert [row[3:] for row in matching.rows] == [
        ("net/layer_0/FakeQuant", "name"),
        ("- (no such layer)", "-"),
    ]
    assert "versions" not in dict(build_document(_of(operator(0, local=0.4))).facts)


def test_quiet_prints_the_verdict_and_the_gate_alone() -> None:
    result = gated(_of(operator(0, local=0.4)), read_rules(["local<=0.3lsb"]))
    console = Console(file=io.StringIO(), width=200)
    draw_brief(build_document(result), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.partition(":")[0] for line in lines] == ["CLEAN", "gate"]


def test_histograms_are_shown_where_they_are_asked_for() -> None:
    op = operator(0, local=0.4)
    assert op.local is not None
    counted = replace(op, local=replace(op.local, histogram=(1,) * 19))
    titles = [
        [s.title for s in build_document(_of(counted), histograms=asked).sections]
        for asked in (True, False)
    ]
    assert titles == [["histograms of the error in LSB"], []]
