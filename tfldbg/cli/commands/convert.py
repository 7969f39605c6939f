"""``tfldbg convert``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.errors import TfldbgError
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tfldbg.progress import Progress
    from tfldbg.run.job import Options
    from tfldbg.session.converting import Converted


def convert(
    keras: Annotated[
        str, typer.Argument(metavar="KERAS", help="The .h5, .keras or SavedModel folder.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="M.tflite", help="The file to write.")
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="What to calibrate on, as for trace; or random."),
    ] = None,
    scale: o.Scale = None,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="int8|uint8|int16x8|dynamic|float16|float32",
            help="What to convert to.",
            autocompletion=lambda: ["int8", "uint8", "int16x8", "dynamic", "float16", "float32"],
        ),
    ] = "int8",
    given: o.Input = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many samples.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of --data random.")] = 0,
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="One scale a weight tensor, not one a channel.")
    ] = False,
    float_io: Annotated[
        bool, typer.Option("--float-io", help="Float inputs and outputs for an integer type.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="all-values",
            help="Set a QAT model's ranges to the extremes of all values that --data gives.",
        ),
    ] = None,
    save_keras: Annotated[
        str | None,
        typer.Option(metavar="OUT.h5", help="Write the recalibrated Keras model, to trace with."),
    ] = None,
    signature: o.Signature = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long the converter may take.")
    ] = 7200,
    unsafe: o.Unsafe = False,
) -> None:
    """Convert a Keras model to .tflite."""
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.reference.conversion import Target
    from tfldbg.run.job import Options

    options = Options(
        samples,
        seed,
        signature=signature,
        inputs=o.parse_inputs(given),
        unsafe=unsafe,
        scale=o.parse_scale(scale),
    )
    with ProgressBar() as progress:
        made = session.convert(
            keras,
            output,
            data=data,
            target=Target(kind, per_tensor, float_io),
            calibrate=calibrate,
            save_keras=save_keras,
            options=options,
            timeout=timeout,
            progress=progress,
        )
        warnings = _range_warnings(made, data, options, progress)
    words = ["tfldbg", "trace", output, "--keras", save_keras or keras]
    words += ["--data", data] if data and not made.random else []
    words += ["--scale", scale] if scale and not made.random else []
    for pair in given or ():
        words += ["--input", pair]
    words += ["--signature", signature] if signature else []
    words += ["--unsafe"] if unsafe else []
    _show(made, warnings, shlex.join(words))


def _range_warnings(
    made: Converted, data: str | None, options: Options, progress: Progress
) -> list[str]:
    """Say what is wrong with the ranges; a file that does not run is converted all the same."""
    from tfldbg import session

    try:
        found = session.range_findings(made, data, options=options, progress=progress)
    except TfldbgError as error:
        return [f"note: the ranges could not be checked: {error.message}"]
    return [f"{f.code} {f.severity}: {f.message}; {f.suggestion}" for f in found]


def _show(made: Converted, warnings: Sequence[str], following: str) -> None:
    lines = [
        f"{made.path}: {made.target.type}, {made.size:,} bytes, {made.operators} operators; "
        f"{made.calibration}"
    ]
    if made.random:
        lines.append("note: random samples give ranges that mean nothing for real data")
    if made.ranges:
        most = max(made.ranges, key=lambda r: r.moved)
        (a, b), (c, d) = most.before, most.after
        lines.append(f"moved most: {most.name} from {a:.4g}..{b:.4g} to {c:.4g}..{d:.4g}")
        if made.save_keras is None:
            lines.append(
                "note: the Keras file still holds the old ranges; --save-keras OUT.h5 writes the "
                "model that this file was made from"
            )
    lines += [*warnings, f"next: {following}"]
    console = report_console()
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)
