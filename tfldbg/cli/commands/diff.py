"""``tfldbg diff``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.commands.report import show
from tfldbg.cli.reports import Reports, View


def diff(
    reference: Annotated[
        str, typer.Argument(metavar="A.h5", help="The recording that is right: .h5 or .npz.")
    ],
    tested: Annotated[str, typer.Argument(metavar="B.h5", help="The recording to judge.")],
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many samples.", show_default="all"),
    ] = None,
    json: o.Json = None,
    html: o.Html = None,
    csv: o.Csv = None,
    junit: o.Junit = None,
    markdown: o.Markdown = None,
    fail_on: o.FailOn = None,
    tolerances: o.Tolerances = None,
    everything: o.Everything = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    local_lsb: o.LocalLsb = 0.75,
    float_tolerance: o.FloatTolerance = 1e-4,
    hybrid_tolerance: o.HybridTolerance = 0.02,
) -> None:
    """Name the first operator whose output differs between two recordings of the same data."""
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.diagnose.limits import read_rules
    from tfldbg.session.diffing import diff as compare

    rules = read_rules(fail_on or (), tolerances)
    reports = Reports(json=json, html=html, csv=csv, junit=junit, markdown=markdown)
    reports.check(reference, tested, tolerances)
    thresholds = o.thresholds(local_lsb, float_tolerance, hybrid_tolerance)
    with ProgressBar(quiet) as progress:
        result = compare(
            reference, tested, samples=samples, thresholds=thresholds, progress=progress
        )
    show(result, rules, reports, View(everything=everything, quiet=quiet, verbose=verbose))
