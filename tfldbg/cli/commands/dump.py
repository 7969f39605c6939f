"""``tfldbg dump``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.options.run_on import RunOn
from tfldbg.report.plain import printable


@o.grouped
def dump(
    model: o.Model,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="RUN.h5", help="The file to write.")
    ],
    run_on: Annotated[RunOn, o.without("workers", "scheduler")],
) -> None:
    """Record all tensors of a model to HDF5, without a comparison."""
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar

    with ProgressBar() as progress:
        run = session.record(model, output, run_on=run_on, progress=progress)
    line = f"{output}: {run.samples} samples of {run.data} data, {run_on.kernels} runtime"
    if run.stream_steps > 1:
        line += f", {run.streams}"
    repaired = () if run.repair is None else (f"repaired: {run.repair}",)
    for text in (line, *(f"  {note}" for note in (*run.notes, *repaired))):
        report_console().print(Text(printable(text)))
