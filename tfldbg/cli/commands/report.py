"""``tfldbg report``, and how a result is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.cli.reports import Reports

if TYPE_CHECKING:
    from tfldbg.diagnose.limits import Rule
    from tfldbg.diagnose.result import Result


def report(
    run: Annotated[str, typer.Argument(metavar="RUN.h5", help="A trace recorded with --dump.")],
    json: o.Json = None,
    csv: o.Csv = None,
    junit: o.Junit = None,
    markdown: o.Markdown = None,
    sarif: o.Sarif = None,
    fail_on: o.FailOn = None,
    tolerances: o.Tolerances = None,
    everything: o.Everything = False,
    local_lsb: o.LocalLsb = 0.75,
    float_tolerance: o.FloatTolerance = 1e-4,
    hybrid_tolerance: o.HybridTolerance = 0.02,
) -> None:
    """Draw a recorded trace again, with other thresholds if asked."""
    from tfldbg import session
    from tfldbg.diagnose.limits import read_rules

    thresholds = o.thresholds(local_lsb, float_tolerance, hybrid_tolerance)
    rules = read_rules(fail_on or (), tolerances)
    reports = Reports(json=json, csv=csv, junit=junit, markdown=markdown, sarif=sarif)
    reports.check(run, tolerances)
    show(session.load_trace(Path(run), thresholds=thresholds), rules, reports, everything)


def show(result: Result, rules: Sequence[Rule], reports: Reports, everything: bool) -> None:
    """Write the reports that were asked for and leave with the exit code that the rules decide."""
    from tfldbg.diagnose.gate import gated

    result = gated(result, rules)
    reports.write(result)
    if not reports.to_stdout:
        from tfldbg.report.document import build
        from tfldbg.report.terminal import draw

        draw(build(result, everything=everything), report_console())
    raise typer.Exit(0 if result.passed else 1)
