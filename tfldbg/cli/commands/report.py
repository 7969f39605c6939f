"""``tfldbg report``, and how a result is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result


def report(
    run: Annotated[str, typer.Argument(metavar="RUN.h5", help="A trace recorded with --dump.")],
    json: o.Json = None,
    model_explorer: o.ModelExplorer = None,
    everything: o.Everything = False,
    local_lsb: o.LocalLsb = 0.75,
    float_tolerance: o.FloatTolerance = 1e-4,
    hybrid_tolerance: o.HybridTolerance = 0.02,
) -> None:
    """Draw a recorded trace again, with other thresholds if asked."""
    from tfldbg import session

    thresholds = o.thresholds(local_lsb, float_tolerance, hybrid_tolerance)
    result = session.load_trace(Path(run), thresholds=thresholds)
    write_model_explorer(result, model_explorer)
    show(result, json, everything)


def write_model_explorer(result: Result, target: str | None) -> None:
    """Write node data for Model Explorer, where it was asked for."""
    if target is not None:
        from tfldbg import session
        from tfldbg.report.explorer import write_node_data

        write_node_data(session.node_data(result), target)


def show(result: Result, json: str | None, everything: bool) -> None:
    """Write the reports that were asked for and leave with the verdict's exit code."""
    if json is not None:
        from tfldbg.report.machine import write_json

        write_json(result.to_dict(), json)
    if json != "-":
        from tfldbg.report.document import build
        from tfldbg.report.terminal import draw

        draw(build(result, everything=everything), report_console())
    raise typer.Exit(1 if result.verdict == "diverged" else 0)
