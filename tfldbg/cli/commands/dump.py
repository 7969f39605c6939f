"""``tfldbg dump``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.report.plain import printable


def dump(
    model: o.Model,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="RUN.h5", help="The file to write.")
    ],
    data: o.Data = None,
    scale: o.Scale = None,
    given: o.Input = None,
    samples: o.Samples = None,
    steps: o.Steps = 1,
    seed: o.Seed = 0,
    runtime: o.Runtime = "xnnpack",
    delegate: o.Delegate = None,
    delegate_option: o.DelegateOption = None,
    signature: o.Signature = None,
    timeout: o.Timeout = 600,
    memory_limit: o.MemoryLimit = None,
) -> None:
    """Record every tensor of a model to HDF5; compare nothing."""
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.run.job import Options
    from tfldbg.run.runtimes import delegate_of

    options = Options(
        samples,
        seed,
        runtime,
        signature,
        o.parse_inputs(given),
        stream_steps=steps,
        delegate=delegate_of(delegate, delegate_option),
        scale=o.parse_scale(scale),
    )
    with session.limited(timeout=timeout, memory=memory_limit), ProgressBar() as progress:
        run = session.record(model, output, data=data, options=options, progress=progress)
    line = f"{output}: {run.samples} samples of {run.data} data, {options.kernels} runtime"
    if run.stream_steps > 1:
        line += f", {run.streams}"
    repaired = () if run.repair is None else (f"repaired: {run.repair}",)
    for text in (line, *(f"  {note}" for note in (*run.notes, *repaired))):
        report_console().print(Text(printable(text)))
