"""``tfldbg trace``."""

from __future__ import annotations

from dataclasses import replace

from tfldbg.cli import options as o
from tfldbg.cli.commands.report import show
from tfldbg.options.against import Against
from tfldbg.options.judge import Judge
from tfldbg.options.measure import Measure
from tfldbg.options.reports import Reports, View
from tfldbg.options.run_on import RunOn


@o.grouped
def trace(
    model: o.Model,
    against: Against,
    run_on: RunOn,
    reports: Reports,
    judge: Judge,
    view: View,
    measure: Measure,
) -> None:
    """Name the first operator of a .tflite file that differs from its reference.

    Without a reference, every operator is checked against its own float arithmetic.
    """
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.cli.reports import check_reports
    from tfldbg.diagnose.limits import read_rules

    rules = read_rules(judge.fail_on or (), judge.tolerances)
    read = (against.keras, against.against, run_on.data, measure.labels, judge.tolerances)
    check_reports(reports, model, *read)
    session.check_rules(rules, model)
    measure = replace(measure, pictures=reports.html is not None)
    recording = (reports.dump, reports.dump_exact)
    request = session.Request(model, against, run_on, measure, judge, *recording)
    with ProgressBar(view.quiet) as progress:
        result = session.trace(request, progress)
    show(result, rules, reports, view, histograms=measure.histograms)
