"""``tfldbg report``, and showing a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.cli.reports import WRITTEN, check_reports, to_stdout, write_reports
from tfldbg.options.judge import Judge
from tfldbg.options.measure import Measure
from tfldbg.options.reports import Reports, View

if TYPE_CHECKING:
    from tfldbg.diagnose.limits import Rule
    from tfldbg.diagnose.result import Result


@o.grouped
def report(
    run: Annotated[str, typer.Argument(metavar="RUN.h5", help="A trace recorded with --dump.")],
    reports: Annotated[Reports, o.some(*WRITTEN)],
    judge: Judge,
    view: View,
    measure: Annotated[Measure, o.some("histograms")],
) -> None:
    """Show a recorded trace again, with other thresholds if given."""
    from tfldbg import session
    from tfldbg.diagnose.limits import read_rules

    rules = read_rules(judge.fail_on or (), judge.tolerances)
    check_reports(reports, run, judge.tolerances)
    result = session.load_trace(Path(run), thresholds=judge.thresholds)
    show(result, rules, reports, view, histograms=measure.histograms)


def show(
    result: Result,
    rules: Sequence[Rule],
    reports: Reports,
    view: View,
    *,
    histograms: bool = False,
) -> None:
    """Write the requested reports, and exit with the code that the rules decide."""
    from tfldbg.diagnose.result import gated

    result = gated(result, rules)
    try:
        write_reports(reports, result)
    finally:  # the verdict is shown even if a report cannot be written
        if not to_stdout(reports):
            _draw(result, view, histograms)
    raise typer.Exit(0 if result.passed else 1)


def _draw(result: Result, view: View, histograms: bool) -> None:
    from tfldbg.report.document import build_document
    from tfldbg.report.terminal import draw, draw_brief

    document = build_document(
        result,
        everything=view.everything,
        histograms=histograms,
        verbose=view.verbose,
    )
    (draw_brief if view.quiet else draw)(document, report_console())
