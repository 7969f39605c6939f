"""``tfldbg dump``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import ProgressBar, report_console
from tfldbg.report.plain import printable


def dump(
    model: o.Model,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="RUN.h5", help="The file to write.")
    ],
    data: o.Data = None,
    given: o.Input = None,
    samples: o.Samples = None,
    seed: o.Seed = 0,
    runtime: o.Runtime = "xnnpack",
    signature: o.Signature = None,
) -> None:
    """Record every tensor of a model to HDF5; compare nothing."""
    from tfldbg import session
    from tfldbg.run.job import Options

    options = Options(samples, seed, runtime, signature, o.parse_inputs(given))
    with ProgressBar() as progress:
        run = session.record(model, output, data=data, options=options, progress=progress)
    line = f"{output}: {run.samples} samples of {run.data} data, {run.runtime} runtime"
    report_console().print(Text(printable(line)))
    if run.repair is not None:
        report_console().print(Text(printable(f"  repaired: {run.repair}")))
