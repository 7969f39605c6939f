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
from tfldbg.reference.observers import ObserverRange
from tfldbg.reference.refusals import crash
from tfldbg.run.child import KILLED, command, ending, killed
from tfldbg.run.converter import ANSWER, DATA, KERAS, LOOPS, MODEL, REQUEST

if TYPE_CHECKING:
    from tfldbg.options.convert import Convert
    from tfldbg.options.run_on import RunOn


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """One conversion."""

    keras: Path
    convert: Convert
    run_on: RunOn
    """The data; None for random samples, where ``random`` is set, or for none."""
    random: bool
    unsafe: bool


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
    ranges: tuple[ObserverRange, ...]


def convert_apart(request: Conversion, folder: Path) -> Answer:
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
            ObserverRange(r["name"], tuple(r["before"]), tuple(r["after"])) for r in reply["ranges"]
        ),
    )


def _write(request: Conversion, folder: Path) -> None:
    data, convert, run_on = request.run_on.data, request.convert, request.run_on
    if data is not None and not isinstance(data, (str, Path)):
        arrays = data if isinstance(data, Mapping) else {"x": np.asarray(data)}
        data = folder / DATA
        np.savez(data, **arrays)  # type: ignore[arg-type]
    plain = {
        "keras": str(request.keras),
        "target": asdict(convert.target),
        "random": request.random,
        "unsafe": request.unsafe,
        "recalibrate": convert.calibrate is not None,
        "save_keras": convert.save_keras is not None,
        "run_on": {
            "data": None if data is None else str(data),
            "samples": run_on.samples,
            "seed": run_on.seed,
            "signature": run_on.signature,
            "inputs": dict(run_on.inputs),
            "scale": run_on.scale,
        },
    }
    (folder / REQUEST).write_text(json.dumps(plain))


def _run(request: Conversion, folder: Path) -> tuple[int, str]:
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
                timeout=request.convert.timeout,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"the converter did not finish '{request.keras}' within "
            f"{request.convert.timeout:g} s, and was ended",
            hint="give fewer samples with --samples N, or more time with --timeout SECONDS",
        ) from error
    return done.returncode, log.read_text(errors="replace")


def _death(request: Conversion, code: int, said: str, *, loops: bool) -> KerasError:
    how = KILLED if killed(code) else ending(code)
    return crash(str(request.keras), request.convert.target.type, how, said, loops=loops)
