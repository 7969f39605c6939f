"""``tfldbg params``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.options.against import Against
from tfldbg.options.reports import Reports, View
from tfldbg.options.run_on import RunOn


@o.grouped
def params(
    model: o.Model,
    against: Annotated[
        Against,
        o.some(
            *("keras", "against", "unsafe", "cached"),
            against={"help": "A sound .tflite made from the same model."},
        ),
    ],
    run_on: Annotated[
        RunOn,
        o.some(
            *("data", "scale", "inputs", "samples", "signature", "timeout", "memory_limit"),
            samples={"shown": "all"},
        ),
    ],
    reports: Annotated[Reports, o.some("json")],
    view: Annotated[
        View, o.some("everything", everything={"help": "Show the weights channel by channel."})
    ],
) -> None:
    """Compare quantization parameters with those of the reference.

    With --data, also compare them with those of a float pass and of a fake-quantized pass over
    the data, and tell which of them the file follows. Without --data, nothing is run.
    """
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.report.params import Sources, draw_params, params_to_dict

    with ProgressBar() as progress:
        table = session.compare_parameters(model, against=against, run_on=run_on, progress=progress)
    other, json = against.against, reports.json
    reference = None if against.named is None else str(against.named)
    sources = Sources(model, reference, "tflite" if other else "keras")
    if json is not None:
        from tfldbg.report.machine import write_json

        write_json(params_to_dict(table, sources), json)
    if json != "-":
        draw_params(table, sources, view.everything, report_console())
    raise typer.Exit(1 if table.differing or table.unrelated else 0)
