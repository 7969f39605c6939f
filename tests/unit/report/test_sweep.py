"""What a sweep shows and writes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.outcome import Case, Outcome, reduced, spreads
from tfldbg.diagnose.result import Result
from tfldbg.errors import ModelError
from tfldbg.options.against import Against
from tfldbg.options.judge import Thresholds
from tfldbg.options.run_on import RunOn
from tfldbg.report.machine import write_csv
from tfldbg.report.sweep import draw_sweep, summary
from tfldbg.report.sweep_files import write_sweep_csv, write_sweep_json

CASE = Case("m/a.tflite", Against(keras="a.h5"), RunOn(samples=4), 0, "m/a.tflite")


def _row(drift: float = 2.0, broken: int | None = None, **changed: object) -> Outcome:
    ops = [operator(i, local=40.0 if i == broken else 0.5, accumulated=drift) for i in range(3)]
    made = evidence(*ops)
    found = reduced(Result(made, diagnose(made, Thresholds())), [102])
    return Outcome(replace(CASE, **changed), 1.5, found, None)  # type: ignore[arg-type]


FAILED = Outcome(
    replace(CASE, model="m/=bad\x1b.tflite"), 0.1, None, ModelError("it is text", hint="try")
)


def _drawn(rows: list[Outcome], width: int = 80) -> str:
    console = Console(
        file=io.StringIO(), width=width, highlight=False, force_terminal=True, color_system=None
    )
    draw_sweep(rows, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_holds_the_figures_of_the_output_alone() -> None:
    made = evidence(
        operator(0, local=0.5, accumulated=90.0),
        operator(1, local=0.25, accumulated=3.0),
        operator(2, local=0.25, accumulated=2.0),
    )
    found = reduced(Result(made, diagnose(made, Thresholds())), [101, 102])
    assert found.figures.accumulated_max_lsb == pytest.approx(90)
    assert found.figures.local_max_lsb == pytest.approx(0.5)
    assert found.figures.output_max_lsb == pytest.approx(3)  # The worse of two outputs.
    assert (found.matched, found.unmatched, found.unchecked) == (3, 0, 0)


def test_spread_over_the_rows_of_a_model_and_runtime() -> None:
    rows = [_row(d, seed=i) for i, d in enumerate((2.0, 8.0, 3.0))]
    rows += [_row(50.0, run_on=RunOn(runtime="builtin")), FAILED]
    found = {s.figure: s for s in spreads(rows)}
    assert {s.runtime for s in found.values()} == {"xnnpack"}
    drift = found["output_max_lsb"]
    assert (drift.rows, drift.minimum, drift.median, drift.maximum) == (
        3,
        pytest.approx(2),
        pytest.approx(3),
        pytest.approx(8),
    )


def test_the_table_fits_80_columns_and_names_what_failed() -> None:
    rows = [_row(), _row(broken=1, seed=1), replace(FAILED, case=replace(CASE, model="m/c.tflite"))]
    drawn = _drawn(rows)
    assert max(map(len, drawn.splitlines())) <= 80
    assert "1 CONV_2D" in drawn and "m/c.tflite: it is text (hint: try)" in drawn
    assert drawn.splitlines()[-1] == "FAILED: 3 traces in 3 s: 1 clean, 1 diverged, 1 failed"
    assert summary(rows[:2])[0] == "DIVERGED" and summary(rows[:1])[0] == "CLEAN"


def test_names_cannot_drive_the_terminal_or_a_spreadsheet(tmp_path: Path) -> None:
    assert "\x1b" not in _drawn([FAILED], 300)
    path = tmp_path / "f.csv"
    write_csv(["a"], [[t] for t in ("=1+1", "+1", "-x", "@x", "a\nb", None, -1.5, 2)], str(path))
    cells = [row[0] if row else "" for row in csv.reader(path.open())]
    assert cells == ["a", "'=1+1", "'+1", "'-x", "'@x", "a\ufffdb", "", "-1.5", "2"]
    write_csv(["a", "b"], [[float("nan"), float("inf")]], str(path))
    assert path.read_text() == "a,b\n,\n"


def test_csv_and_json_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [_row(broken=1), FAILED]
    write_sweep_csv(rows, str(tmp_path / "f.csv"))
    write_sweep_json(rows, str(tmp_path / "f.json"))
    found, failed = csv.DictReader((tmp_path / "f.csv").open())
    plain = json.loads((tmp_path / "f.json").read_text())
    assert (plain["format"], plain["format_version"]) == ("tfldbg.sweep", 1)
    assert plain["totals"] == {"rows": 2, "clean": 0, "diverged": 1, "error": 1}
    one, two = plain["rows"]
    assert int(found["first_op"]) == one["first_divergence"]["op"] == 1
    for name, value in one["figures"].items():
        assert float(found[name]) == value
    assert found["message"] == one["sentence"] and found["findings"].split() == one["findings"]
    assert (failed["verdict"], failed["message"], failed["hint"]) == ("error", "it is text", "try")
    assert two["error"] == {"type": "ModelError", "message": "it is text", "hint": "try"}
    assert failed["local_max_lsb"] == "" and two["figures"] is None


def test_a_clean_row_says_how_much_was_not_checked() -> None:
    made = evidence(operator(0, local=0.5), operator(1, local=None))
    found = reduced(Result(made, diagnose(made, Thresholds())), [101])
    assert (found.verdict, found.unchecked) == ("clean", 1)
    assert "(1 unchecked)" in _drawn([Outcome(CASE, 1.0, found, None)])
