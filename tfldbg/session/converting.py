"""Convert a Keras model to .tflite, calibrated on data where it has no ranges of its own."""

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
from tfldbg.reference.conversion import Target, save_live
from tfldbg.run.conversion import Answer, Request, convert_apart
from tfldbg.run.job import ALL_SAMPLES, DataSource, Options, check_options
from tfldbg.session.exposing import protect
from tfldbg.session.tracing import trace

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Finding
    from tfldbg.reference.observers import Range

RANDOM = "random"
"""As data: seeded random samples, unless a file of that name exists."""

ALL_VALUES = "all-values"
PATIENCE_S = 2 * 3600.0
"""Longer than any conversion seen (minutes): only a converter that hangs reaches it."""

CALIBRATIONS = (ALL_VALUES,)
"""How the ranges of a quantization-aware model can be replaced."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion wrote, and how it came about."""

    path: str
    target: Target
    size: int
    """In bytes."""
    operators: int
    """Of the main subgraph."""
    calibration: str
    """In words: where the ranges come from."""
    random: bool
    """Whether random samples were used for them."""
    ranges: tuple[Range, ...]
    """Those that were replaced."""
    save_keras: str | None
    """Where the recalibrated Keras model is."""


def convert(
    keras: Any,
    output: Path | str,
    *,
    data: DataSource = None,
    target: Target | None = None,
    calibrate: str | None = None,
    save_keras: Path | str | None = None,
    options: Options | None = None,
    timeout: float = PATIENCE_S,
    progress: Progress | None = None,
) -> Converted:
    """Convert a Keras model to a .tflite file, which is written whole or not at all.

    Args:
        keras: Path of a ``.h5``, ``.keras`` or SavedModel, or a live model.
        output: The file to write.
        data: As for `trace`, or ``"random"``; needed where the model has no ranges of its own.
        target: Type and form of the file; int8 with integer inputs and outputs by default.
        calibrate: ``"all-values"`` to set the ranges of a quantization-aware model to those of all
            values that the data gives.
        save_keras: Where to write the recalibrated Keras model (.h5).
        options: Samples (all by default), seed, inputs, signature and unsafe, as for `trace`.
        timeout: Seconds that the converter may take.
        progress: Is told how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options, or the converter
            refuses the model or crashes.
    """
    target, options, progress = target or Target(), options or Options(), progress or Silent()
    check_options(options)
    if not 0 < timeout < float("inf"):
        raise UsageError(f"the timeout is {timeout}", hint="give seconds above 0")
    saved = Path(save_keras) if save_keras is not None else None
    _check(data, calibrate, saved)
    _protect(Path(output), saved, keras, data)
    random = isinstance(data, (str, Path)) and str(data) == RANDOM and not Path(data).exists()
    given = None if random else data
    progress.stage("converting")
    with ExitStack() as stack:
        written = stack.enter_context(replacing(Path(output)))
        kept = stack.enter_context(replacing(saved)) if saved is not None else None
        folder = stack.enter_context(scratch_folder())
        path, options = _saved(keras, folder, options)
        again = calibrate is not None
        request = Request(path, target, given, random, again, saved is not None, options, timeout)
        answer = convert_apart(request, folder)
        written.write_bytes(answer.model)
        if kept is not None and answer.keras is not None:
            kept.write_bytes(answer.keras)
    used = answer.calibrated or bool(answer.ranges)
    return Converted(
        path=str(output),
        target=target,
        size=len(answer.model),
        operators=len(load_graph(answer.model, str(output)).main.operators),
        calibration=_calibration(answer, target, _source(data, random, options)),
        random=random and used,
        ranges=answer.ranges,
        save_keras=str(saved) if saved is not None else None,
    )


def range_findings(
    made: Converted, data: DataSource, *, options: Options, progress: Progress | None = None
) -> tuple[Finding, ...]:
    """Trace what was converted on the data of its calibration; return what is wrong with ranges.

    Random data says nothing about ranges, and a file that has none is not run.

    Args:
        made: What `convert` returned.
        data: As for `convert`.
        options: As for `convert`.
        progress: Is told how far the work is.

    Raises:
        TfldbgError: The file does not run.
    """
    if data is None or made.random or not made.target.integer:
        return ()
    traced = trace(
        made.path,
        data=data,
        samples=options.samples or ALL_SAMPLES,
        signature=options.signature,
        inputs=options.inputs,
        scale=options.scale,
        progress=progress,
    )
    codes = {about.code for family in (ranges, inputs) for about in explanations(family)}
    return tuple(f for f in traced.diagnosis.findings if f.code in codes and f.severity != "info")


def _saved(keras: Any, folder: Path, options: Options) -> tuple[Path, Options]:
    """Return a path to load the model from; whoever holds a live model trusts its code."""
    if isinstance(keras, (str, Path)):
        return Path(keras), options
    return save_live(keras, folder), replace(options, unsafe=True)


def _check(data: DataSource, calibrate: str | None, save_keras: Path | None) -> None:
    if calibrate is not None and calibrate not in CALIBRATIONS:
        raise UsageError(
            f"there is no calibration '{calibrate}'", hint=f"say --calibrate {ALL_VALUES}"
        )
    if calibrate is not None and data is None:
        raise UsageError(
            f"--calibrate {calibrate} takes its ranges from data, and none was given",
            hint="add --data D.npz",
        )
    if save_keras is not None and calibrate is None:
        raise UsageError(
            "--save-keras writes the recalibrated model, and nothing is recalibrated",
            hint=f"add --calibrate {ALL_VALUES}, or leave --save-keras out",
        )
    if save_keras is not None and save_keras.suffix != ".h5":
        raise UsageError(
            f"--save-keras {save_keras} is no .h5 file", hint="for example --save-keras OUT.h5"
        )


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


def _source(data: DataSource, random: bool, options: Options) -> str:
    if random:
        return f"random samples (seed {options.seed})"
    return f"samples of {data}" if isinstance(data, (str, Path)) else "samples"


def _calibration(answer: Answer, target: Target, source: str) -> str:
    """Say where the ranges come from."""
    counted = f"{answer.samples} {source}"
    rest = f", the others calibrated on {counted}" if answer.calibrated else ""
    if answer.ranges:
        return f"{len(answer.ranges)} ranges are the extremes of {counted}{rest}"
    if answer.trained_ranges:
        return f"ranges as trained{rest}"
    return f"calibrated on {counted}" if target.integer else "no ranges needed"
