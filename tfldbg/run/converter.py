"""The child process that converts: if the converter crashes, only this process ends.

`tfldbg.run.child.command` starts it with a folder and the process that started it.  The folder
holds ``request.json`` and, if arrays were given instead of a path, ``data.npz``; the results are
written to the same folder.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.errors import TfldbgError, UsageError
from tfldbg.options.convert import Target
from tfldbg.options.run_on import RunOn
from tfldbg.reference.conversion import Convertible, convert, open_source, save_whole
from tfldbg.reference.observers import recalibrate
from tfldbg.run.child import confine
from tfldbg.run.keras_data import batches, keras_samples, single

if TYPE_CHECKING:
    from tfldbg.run.samples import Samples

REQUEST, ANSWER, LOOPS = "request.json", "answer.json", "loops"
MODEL, KERAS, DATA = "model.tflite", "recalibrated.h5", "data.npz"


def _convert(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Convert as requested, write the files into the folder, and return a description."""
    run_on, unsafe = RunOn(**request["run_on"]), request["unsafe"]
    source = open_source(Path(request["keras"]), unsafe=unsafe, signature=run_on.signature)
    if source.loops:
        (folder / LOOPS).touch()
    samples = None
    if run_on.data is not None or request["random"]:
        samples = keras_samples(source.name, _inputs(source), run_on)
    ranges = _recalibrated(source, samples) if request["recalibrate"] and samples else ()
    if request["save_keras"]:
        save_whole(source.model, folder / KERAS)
    examples = (lambda: single(samples)) if samples is not None else None
    content, calibrated = convert(source, Target(**request["target"]), examples)
    (folder / MODEL).write_bytes(content)
    return {
        "trained_ranges": source.trained_ranges,
        "samples": samples.count if samples is not None else 0,
        "calibrated": calibrated,
        "ranges": [asdict(r) for r in ranges],
    }


def _inputs(source: Convertible) -> list[tuple[str, tuple[int | None, ...], str]]:
    frozen = source.frozen
    return list(zip(frozen.input_names, frozen.input_shapes, frozen.input_dtypes, strict=True))


def _recalibrated(source: Convertible, samples: Samples) -> Any:
    if source.model is None:
        raise UsageError(
            f"the ranges of the SavedModel '{source.name}' cannot be changed",
            hint="give the .h5 or .keras file that it was made from",
        )
    fixed = source.frozen.batch is not None
    return recalibrate(source.model, batches(samples, fixed=fixed))


def main() -> None:
    """Serve the one request in the folder."""
    faulthandler.enable()
    confine(int(sys.argv[2]))
    os.dup2(2, 1)  # the output of Keras and the converter is only read after a crash
    folder = Path(sys.argv[1])
    try:
        reply = _convert(json.loads((folder / REQUEST).read_text()), folder)
    except TfldbgError as error:
        reply = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    (folder / ANSWER).write_text(json.dumps(reply))
