"""``tfldbg diff``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.commands.report import show
from tfldbg.cli.reports import check_reports
from tfldbg.options.judge import Judge
from tfldbg.options.reports import Reports, View
from tfldbg.options.run_on import RunOn


@o.grouped
def diff(
    reference: Annotated[
        str, typer.Argument(metavar="A.h5", help="The recording to compare with: .h5 or .npz.")
    ],
    tested: Annotated[str, typer.Argument(metavar="B.h5", help="The recording to judge.")],
    run_on: Annotated[RunOn, o.some("samples", samples={"shown": "all"})],
    judge: Judge,
    reports: Annotated[Reports, o.some("json", "html", "csv", "junit", "markdown")],
    view: View,
) -> None:
    """Name the first operator whose output differs between two recordings of the same data."""
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.diagnose.limits import read_rules
    from tfldbg.session.diffing import diff as compare

    rules = read_rules(judge.fail_on or (), judge.tolerances)
    check_reports(reports, reference, tested, judge.tolerances)
    with ProgressBar(view.quiet) as progress:
        result = compare(
            reference,
            tested,
            samples=run_on.samples,
            thresholds=judge.thresholds,
            progress=progress,
        )
    show(result, rules, reports, view)
