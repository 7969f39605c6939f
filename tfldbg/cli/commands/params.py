"""``tfldbg params``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console


def params(
    model: o.Model,
    keras: o.Keras = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A sound .tflite made from the same model."),
    ] = None,
    data: o.Data = None,
    scale: o.Scale = None,
    given: o.Input = None,
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many samples.", show_default="all"),
    ] = None,
    signature: o.Signature = None,
    timeout: o.Timeout = 600,
    memory_limit: o.MemoryLimit = None,
    json: o.Json = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The weights channel by channel.")
    ] = False,
    unsafe: o.Unsafe = False,
    no_cache: o.NoCache = False,
) -> None:
    """Show quantization parameters beside those of the reference.

    Nothing runs, unless --data is given: then also beside those that a float pass and a
    fake-quantized pass over it give, with the answer which of them the file follows.
    """
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.report.params import Sources, draw_params, params_to_dict
    from tfldbg.run.job import Options

    options = Options(
        samples,
        signature=signature,
        inputs=o.parse_inputs(given),
        unsafe=unsafe,
        cached=not no_cache,
        scale=o.parse_scale(scale),
    )
    with session.limited(timeout=timeout, memory=memory_limit), ProgressBar() as progress:
        table = session.compare_parameters(
            model, keras=keras, against=against, data=data, options=options, progress=progress
        )
    sources = Sources(model, keras or against, "tflite" if against else "keras")
    if json is not None:
        from tfldbg.report.machine import write_json

        write_json(params_to_dict(table, sources), json)
    if json != "-":
        draw_params(table, sources, everything, report_console())
    raise typer.Exit(1 if table.differing or table.unrelated else 0)
