"""``tfldbg kit``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console
from tfldbg.options.run_on import RunOn
from tfldbg.report.plain import printable

_NEXT = {
    "board": (
        "copy the folder to the device and type there:",
        "  python3 record.py exposed.tflite inputs.npz --untouched model.tflite -o device.npz",
        "copy device.npz back and type here:",
    ),
    "android": (
        "push the folder and type, with LiteRT's benchmark_model on the device:",
        "  adb push {folder} /data/local/tmp",
        "  adb shell sh /data/local/tmp/{name}/run.sh /data/local/tmp/benchmark_model",
        "  adb pull /data/local/tmp/{name}/outputs {folder}",
        "  adb pull /data/local/tmp/{name}/untouched {folder}",
        "  tfldbg import {folder}/outputs --model {folder}/exposed.tflite "
        "--data {folder}/inputs.npz --untouched {folder}/untouched -o device.npz",
    ),
    "micro": (
        "build tfldbg_record.h and exposed.tflite into the firmware, call",
        "tfldbg_record(interpreter) and log the serial line; do the same with model.tflite:",
        "  tfldbg import exposed.log --model {folder}/exposed.tflite --data {folder}/inputs.npz "
        "--untouched untouched.log -o device.npz",
    ),
}


@o.grouped
def kit(
    model: o.Model,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")
    ],
    target: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="board|android|micro",
            help="board: a machine with Python; android: LiteRT's benchmark_model; micro: a "
            "microcontroller.",
        ),
    ] = "board",
    *,
    run_on: Annotated[
        RunOn, o.some("data", "scale", "inputs", "samples", "seed", samples={"shown": "8"})
    ],
) -> None:
    """Write a folder for a device: the exposed model, samples, and a script that records a run."""
    from tfldbg import session

    made = session.write_kit(model, output, target, run_on=run_on)
    console = report_console()
    held = ", ".join(name for name in made.files if "/" not in name)
    lines = [
        f"{output}: {held}",
        f"{made.exposed} of {made.exposed + made.skipped} operator outputs, {made.samples} samples "
        f"of {made.data} data",
    ]
    if made.repair is not None:
        lines.append(f"repaired: {made.repair}")
    places = {"folder": shlex.quote(output), "name": shlex.quote(Path(output).resolve().name)}
    lines += [line.format_map(places) for line in _NEXT[target]]
    lines.append(f"  tfldbg trace {shlex.quote(model)} --against device.npz")
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)
