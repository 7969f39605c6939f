"""``tfldbg expose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.options.run_on import RunOn
from tfldbg.report.plain import printable


@o.grouped
def expose(
    model: o.Model,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT.tflite", help="The file to write.")
    ],
    run_on: Annotated[RunOn, o.some("signature")],
) -> None:
    """Write a copy of a model in which all operator outputs are model outputs."""
    from tfldbg import session
    from tfldbg.files import replacing

    session.protect(Path(output), "--output", model)
    loaded, exposed = session.expose_model(model, run_on.signature)
    with replacing(Path(output)) as temporary, temporary.open("wb") as file:
        exposed.content.write(file)
    console = report_console()
    console.print(
        Text(
            printable(
                f"{output}: {len(exposed.taps)} of "
                f"{len(exposed.taps) + len(exposed.skipped)} operator outputs are now model outputs"
            )
        )
    )
    if exposed.repair is not None:
        console.print(Text(printable(f"  repaired: {exposed.repair.said}")))
    for skipped in exposed.skipped:
        name = loaded.subgraph.tensors[skipped.tensor].name
        line = f"  skipped tensor {skipped.tensor} '{name}': {skipped.reason}"
        console.print(Text(printable(line)))
