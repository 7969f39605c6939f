"""``tfldbg convert``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.errors import TfldbgError
from tfldbg.options.against import Against
from tfldbg.options.convert import Convert
from tfldbg.options.run_on import RunOn
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tfldbg.progress import Progress
    from tfldbg.session.converting import Converted


@o.grouped
def convert(
    keras: Annotated[
        str, typer.Argument(metavar="KERAS", help="The .h5, .keras or SavedModel folder.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="M.tflite", help="The file to write.")
    ],
    options: Convert,
    run_on: Annotated[
        RunOn,
        o.some(
            *("data", "scale", "inputs", "samples", "seed", "signature"),
            data={"help": "The data for calibration, as for trace; or random."},
            samples={"shown": "all"},
            seed={"help": "The seed of --data random."},
        ),
    ],
    against: Annotated[Against, o.some("unsafe")],
) -> None:
    """Convert a Keras model to .tflite."""
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar

    with ProgressBar() as progress:
        made = session.convert(
            keras, output, options, run_on, unsafe=against.unsafe, progress=progress
        )
        warnings = _range_warnings(made, run_on, progress)
    words = ["tfldbg", "trace", output, "--keras", str(options.save_keras or keras)]
    if run_on.data is not None and not made.random:
        words += ["--data", str(run_on.data)]
        words += ["--scale", "{:g},{:g}".format(*run_on.scale)] if run_on.scale else []
    for name, key in run_on.inputs.items():
        words += ["--input", f"{name}={key}"]
    words += ["--signature", run_on.signature] if run_on.signature else []
    words += ["--unsafe"] if against.unsafe else []
    _show(made, warnings, shlex.join(words))


def _range_warnings(made: Converted, run_on: RunOn, progress: Progress) -> list[str]:
    """Return warnings about the ranges; the file is kept even if it does not run."""
    from tfldbg import session

    try:
        found = session.range_findings(made, run_on, progress=progress)
    except TfldbgError as error:
        return [f"note: the ranges could not be checked: {error.message}"]
    return [f"{f.code} {f.severity}: {f.message}; {f.suggestion}" for f in found]


def _show(made: Converted, warnings: Sequence[str], following: str) -> None:
    lines = [
        f"{made.path}: {made.target.type}, {made.size:,} bytes, {made.operators} operators; "
        f"{made.calibration}"
    ]
    if made.random:
        lines.append("note: ranges from random samples do not suit real data")
    if made.ranges:
        most = max(made.ranges, key=lambda r: r.moved)
        (a, b), (c, d) = most.before, most.after
        lines.append(f"largest change: {most.name} from {a:.4g}..{b:.4g} to {c:.4g}..{d:.4g}")
        if made.save_keras is None:
            lines.append(
                "note: the Keras file still holds the old ranges; --save-keras OUT.h5 writes the "
                "model that this file was made from"
            )
    lines += [*warnings, f"next: {following}"]
    console = report_console()
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)
