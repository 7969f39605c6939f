"""``tfldbg report``, and how a result is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.cli.reports import Reports, View

if TYPE_CHECKING:
    from tfldbg.diagnose.limits import Rule
    from tfldbg.diagnose.result import Result


def report(
    run: Annotated[str, typer.Argument(metavar="RUN.h5", help="A trace recorded with --dump.")],
    json: o.Json = None,
    html: o.Html = None,
    csv: o.Csv = None,
    junit: o.Junit = None,
    markdown: o.Markdown = None,
    model_explorer: o.ModelExplorer = None,
    fail_on: o.FailOn = None,
    tolerances: o.Tolerances = None,
    everything: o.Everything = False,
    histograms: o.Histograms = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    local_lsb: o.LocalLsb = 0.75,
    float_tolerance: o.FloatTolerance = 1e-4,
    hybrid_tolerance: o.HybridTolerance = 0.02,
) -> None:
    """Draw a recorded trace again, with other thresholds if asked."""
    from tfldbg import session
    from tfldbg.diagnose.limits import read_rules

    thresholds = o.thresholds(local_lsb, float_tolerance, hybrid_tolerance)
    rules = read_rules(fail_on or (), tolerances)
    reports = Reports(
        json=json,
        html=html,
        csv=csv,
        junit=junit,
        markdown=markdown,
        model_explorer=model_explorer,
    )
    reports.check(run, tolerances)
    result = session.load_trace(Path(run), thresholds=thresholds)
    show(
        result,
        rules,
        reports,
        View(everything=everything, histograms=histograms, quiet=quiet, verbose=verbose),
    )


def show(result: Result, rules: Sequence[Rule], reports: Reports, view: View) -> None:
    """Write the reports that were asked for and leave with the exit code that the rules decide."""
    from tfldbg.diagnose.result import gated

    result = gated(result, rules)
    try:
        reports.write(result)
    finally:  # a report that cannot be written costs nobody the verdict
        if not reports.to_stdout:
            _draw(result, view)
    raise typer.Exit(0 if result.passed else 1)


def _draw(result: Result, view: View) -> None:
    from tfldbg.report.document import build
    from tfldbg.report.terminal import draw, draw_brief

    document = build(
        result,
        everything=view.everything,
        histograms=view.histograms,
        verbose=view.verbose,
    )
    (draw_brief if view.quiet else draw)(document, report_console())
