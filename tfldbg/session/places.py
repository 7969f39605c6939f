"""Detect files given in the wrong place, and suggest the intended command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import UsageError
from tfldbg.kinds import KERAS, TFLITE, kind_of

if TYPE_CHECKING:
    from tfldbg.options.against import Against
    from tfldbg.options.run_on import RunOn


def check_places(command: str, model: object, against: Against, run_on: RunOn) -> None:
    """Refuse models that are given in each other's place.

    Args:
        command: The name of the command or function.
        model: The model given as the .tflite file.
        against: The reference.
        run_on: The data, which the suggested command repeats.

    Raises:
        UsageError: A Keras model is given as a .tflite file, or the other way round.
    """
    keras, data = against.keras, run_on.data
    tail = ["--data", str(data)] if isinstance(data, (str, Path)) else []

    def line(*words: object) -> str:
        return shlex.join(["tfldbg", command, *map(str, words), *tail])

    if kind_of(model) == KERAS:
        if kind_of(against.named) == TFLITE:
            other = str(against.named)
            raise UsageError(
                f"'{model}' is a Keras model and '{other}' a .tflite file: they are swapped",
                hint=line(other, "--keras", model),
            )
        raise UsageError(
            f"'{model}' is a Keras model, but {command} takes the .tflite file converted from it",
            hint=f"{line('MODEL.tflite', '--keras', model)}; tfldbg convert makes such a file",
        )
    if kind_of(keras) == TFLITE:
        raise UsageError(
            f"--keras '{keras}' is a .tflite file, not a Keras model",
            hint=f"to compare two .tflite files: {line(model, '--against', keras)}",
        )
