"""Convert in a child process, and turn a crash into an error that explains it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfldbg import errors
from tfldbg.errors import KerasError, RunError, TfldbgError
from tfldbg.reference.observers import Range
from tfldbg.reference.refusals import crash
from tfldbg.run.child import KILLED, command, ending, killed
from tfldbg.run.converter import ANSWER, DATA, KERAS, LOOPS, MODEL, REQUEST

if TYPE_CHECKING:
    from tfldbg.reference.conversion import Target
    from tfldbg.run.job import DataSource, Options


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One conversion."""

    keras: Path
    target: Target
    data: DataSource
    random: bool
    """True to calibrate on random samples if no data is given."""
    recalibrate: bool
    """True to first set the ranges of a quantization-aware model to those of the data."""
    save_keras: bool
    """True to also return the recalibrated Keras model."""
    options: Options
    timeout_s: float
    """The largest number of seconds for the conversion."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The result of a conversion."""

    model: bytes
    keras: bytes | None
    trained_ranges: bool
    """True if the model was trained quantization-aware."""
    samples: int
    """The number of samples given to the child, 0 without data."""
    calibrated: bool
    """True if the converter calibrated on them."""
    ranges: tuple[Range, ...]


def convert_apart(request: Request, folder: Path) -> Answer:
    """Convert in a child process.

    Args:
        request: The conversion.
        folder: An empty folder for the files that the two processes exchange.

    Raises:
        TfldbgError: The child found an error, or it crashed.
    """
    try:
        _write(request, folder)
        code, said = _run(request, folder)
    except OSError as error:
        raise RunError(
            f"cannot start the converter for '{request.keras}': {error}",
            hint="free some space in the temporary folder, or set TMPDIR to another one",
        ) from error
    if not (folder / ANSWER).exists():
        raise _death(request, code, said, loops=(folder / LOOPS).exists())
    reply = json.loads((folder / ANSWER).read_text())
    if "error" in reply:
        kind: type[TfldbgError] = getattr(errors, reply["error"])
        raise kind(reply["message"], hint=reply["hint"])
    saved = folder / KERAS
    return Answer(
        model=(folder / MODEL).read_bytes(),
        keras=saved.read_bytes() if saved.exists() else None,
        trained_ranges=reply["trained_ranges"],
        samples=reply["samples"],
        calibrated=reply["calibrated"],
        ranges=tuple(
            Range(r["name"], tuple(r["before"]), tuple(r["after"])) for r in reply["ranges"]
        ),
    )


def _write(request: Request, folder: Path) -> None:
    data = request.data
    if data is not None and not isinstance(data, (str, Path)):
        arrays = data if isinstance(data, Mapping) else {"x": np.asarray(data)}
        data = folder / DATA
        np.savez(data, **arrays)  # type: ignore[arg-type]
    plain = {
        "keras": str(request.keras),
        "target": asdict(request.target),
        "data": None if data is None else str(data),
        "random": request.random,
        "recalibrate": request.recalibrate,
        "save_keras": request.save_keras,
        "options": {**asdict(request.options), "inputs": dict(request.options.inputs)},
    }
    (folder / REQUEST).write_text(json.dumps(plain))


def _run(request: Request, folder: Path) -> tuple[int, str]:
    """Return the child's exit code and its output on stderr."""
    quieter = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    log = folder / "stderr"
    try:
        with log.open("wb") as stderr:
            done = subprocess.run(  # noqa: S603  (this interpreter, this package)
                command("tfldbg.run.converter", str(folder), str(os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**quieter, **os.environ},
                timeout=request.timeout_s,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"the converter did not finish '{request.keras}' within {request.timeout_s:g} s, and "
            "was ended",
            hint="give fewer samples with --samples N, or more time with --timeout SECONDS",
        ) from error
    return done.returncode, log.read_text(errors="replace")


def _death(request: Request, code: int, said: str, *, loops: bool) -> KerasError:
    how = KILLED if killed(code) else ending(code)
    return crash(str(request.keras), request.target.type, how, said, loops=loops)
