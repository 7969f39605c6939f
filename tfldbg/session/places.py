"""Files that are given in the place of others, and the command that was meant."""

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
        command: The command, or the function of its name.
        model: What is given as the .tflite file.
        against: The reference.
        run_on: The data, which the command that is suggested repeats.

    Raises:
        UsageError: A Keras model stands where a .tflite file should, or the other way round.
    """
    keras, data = against.keras, run_on.data
    tail = ["--data", str(data)] if isinstance(data, (str, Path)) else []

    def line(*words: object) -> str:
        return shlex.join(["tfldbg", command, *map(str, words), *tail])

    if kind_of(model) == KERAS:
        if kind_of(against.named) == TFLITE:
            other = str(against.named)
            raise UsageError(
                f"'{model}' is a Keras model and '{other}' a .tflite file: they are exchanged",
                hint=line(other, "--keras", model),
            )
        raise UsageError(
            f"'{model}' is a Keras model, and {command} takes the .tflite file that was converted "
            "from it",
            hint=f"{line('MODEL.tflite', '--keras', model)}; tfldbg convert makes such a file",
        )
    if kind_of(keras) == TFLITE:
        raise UsageError(
            f"--keras '{keras}' is a .tflite file, and no Keras model",
            hint=f"to compare two .tflite files: {line(model, '--against', keras)}",
        )
