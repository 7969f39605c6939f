"""Convert a Keras model to .tflite, calibrated on data if it has no ranges of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.diagnose.rules import explanations, inputs, ranges
from tfldbg.errors import UsageError
from tfldbg.files import replacing, scratch_folder
from tfldbg.graph.load import load_graph
from tfldbg.progress import Progress, Silent
from tfldbg.reference.conversion import save_live
from tfldbg.run.conversion import Answer, Conversion, convert_apart
from tfldbg.run.job import ALL_SAMPLES
from tfldbg.session.exposing import protect
from tfldbg.session.request import Request
from tfldbg.session.tracing import trace

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Finding
    from tfldbg.options.convert import Convert, Target
    from tfldbg.options.run_on import RunOn
    from tfldbg.reference.observers import ObserverRange

RANDOM = "random"
"""The data value for seeded random samples, unless a file of that name exists."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The result of a conversion, and the source of its ranges."""

    path: str
    target: Target
    size: int
    """The size of the file, bytes."""
    operators: int
    """The number of operators in the main subgraph."""
    calibration: str
    """The source of the ranges, in words."""
    random: bool
    """True if the ranges are from random samples."""
    ranges: tuple[ObserverRange, ...]
    """The replaced ranges."""
    save_keras: str | None
    """The path of the recalibrated Keras model."""


def convert(
    keras: Any,
    output: Path | str,
    options: Convert,
    run_on: RunOn,
    *,
    unsafe: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert a Keras model to a .tflite file, which is written completely or not at all.

    Args:
        keras: The path of a ``.h5``, ``.keras`` or SavedModel, or a live model.
        output: The file to write.
        options: The options of the conversion.
        run_on: The data, or ``"random"``; required if the model has no ranges of its own.  All
            samples are used unless ``samples`` is given.
        unsafe: As for `trace`.
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid, or the converter refuses the model
            or crashes.
    """
    data, progress = run_on.data, progress or Silent()
    saved = Path(options.save_keras) if options.save_keras is not None else None
    if options.calibrate is not None and data is None:
        raise UsageError(
            f"--calibrate {options.calibrate} needs data, but none is given",
            hint="add --data D.npz",
        )
    _protect(Path(output), saved, keras, data)
    random = isinstance(data, (str, Path)) and str(data) == RANDOM and not Path(data).exists()
    given = replace(run_on, data=None) if random else run_on
    progress.stage("converting")
    with ExitStack() as stack:
        written = stack.enter_context(replacing(Path(output)))
        kept = stack.enter_context(replacing(saved)) if saved is not None else None
        folder = stack.enter_context(scratch_folder())
        trusted = unsafe or not isinstance(keras, (str, Path))  # a live model's code is trusted
        path = Path(keras) if isinstance(keras, (str, Path)) else save_live(keras, folder)
        request = Conversion(path, options, given, random=random, unsafe=trusted)
        answer = convert_apart(request, folder)
        written.write_bytes(answer.model)
        if kept is not None and answer.keras is not None:
            kept.write_bytes(answer.keras)
    target = options.target
    used = answer.calibrated or bool(answer.ranges)
    return Converted(
        path=str(output),
        target=target,
        size=len(answer.model),
        operators=len(load_graph(answer.model, str(output)).main.operators),
        calibration=_calibration(answer, target, _source(run_on, random)),
        random=random and used,
        ranges=answer.ranges,
        save_keras=str(saved) if saved is not None else None,
    )


def range_findings(
    made: Converted, run_on: RunOn, *, progress: Progress | None = None
) -> tuple[Finding, ...]:
    """Trace a converted file on the data of its calibration, and return findings about ranges.

    Random data says nothing about ranges, and a file without ranges is not run.

    Args:
        made: The result of `convert`.
        run_on: As for `convert`.
        progress: Receives the progress.

    Raises:
        TfldbgError: The file does not run.
    """
    if run_on.data is None or made.random or not made.target.integer:
        return ()
    whole = replace(run_on, samples=run_on.samples or ALL_SAMPLES)
    traced = trace(Request(made.path, run_on=whole), progress)
    codes = {about.code for family in (ranges, inputs) for about in explanations(family)}
    return tuple(f for f in traced.diagnosis.findings if f.code in codes and f.severity != "info")


def _protect(output: Path, saved: Path | None, *sources: object) -> None:
    read = [file for source in sources for file in _files(source)]
    protect(output, "--output", *read)
    protect(saved, "--save-keras", *read)
    if saved is not None and saved.resolve() == output.resolve():
        raise UsageError(
            f"--output and --save-keras both name {output}", hint="name two different files"
        )


def _files(source: object) -> Iterator[Path]:
    if not isinstance(source, (str, Path)):
        return
    path = Path(source)
    yield path
    if path.is_dir():
        yield from (p for p in path.rglob("*") if p.is_file())


def _source(run_on: RunOn, random: bool) -> str:
    if random:
        return f"random samples (seed {run_on.seed})"
    return f"samples of {run_on.data}" if isinstance(run_on.data, (str, Path)) else "samples"


def _calibration(answer: Answer, target: Target, source: str) -> str:
    """Return the source of the ranges in words."""
    counted = f"{answer.samples} {source}"
    rest = f", the others calibrated on {counted}" if answer.calibrated else ""
    if answer.ranges:
        return f"{len(answer.ranges)} ranges are the extremes of {counted}{rest}"
    if answer.trained_ranges:
        return f"ranges as trained{rest}"
    return f"calibrated on {counted}" if target.integer else "no ranges needed"
