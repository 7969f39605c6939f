"""``tfldbg import``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.options.run_on import RunOn
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.session import Imported


@o.grouped
def import_(
    result: Annotated[
        str,
        typer.Argument(
            metavar="RESULT", help="The folder written by benchmark_model, or a serial log."
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DEVICE.npz", help="The file to write.")
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="EXPOSED.tflite", help="The exposed model that ran.")
    ],
    run_on: Annotated[
        RunOn,
        o.some(
            *("data", "scale", "inputs", "samples"),
            samples={"help": "Only the first N samples.", "shown": "all"},
        ),
    ],
    untouched: Annotated[
        str | None,
        typer.Option(
            metavar="RESULT",
            help="The result of the untouched model, to check that both have the same outputs.",
        ),
    ] = None,
) -> None:
    """Convert the result of a device to a recording for trace --against and diff."""
    from tfldbg import session

    made = session.import_run(result, output, model=model, untouched=untouched, run_on=run_on)
    lines = [f"{output}: {made.tensors} tensors, {made.samples} samples"]
    if not made.has_inputs:
        lines.append("it holds no inputs: give the same data to trace, or --data here")
    if made.differing is not None:
        lines.append(_compared(made, untouched or ""))
    for line in lines:
        report_console().print(Text(printable(line)), soft_wrap=True)
    if made.differing:
        raise typer.Exit(1)


def _compared(made: Imported, untouched: str) -> str:
    if not made.differing:
        return f"final outputs identical to those of '{untouched}'"
    return (
        f"WARNING: the final outputs differ from those of '{untouched}' in {len(made.differing)} "
        f"of {made.samples} samples, the first in sample {made.differing[0]}: the device runs the "
        "exposed model differently (other fusions, another part on the delegate), and the "
        "recording is of that run"
    )
