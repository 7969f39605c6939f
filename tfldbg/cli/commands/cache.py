"""``tfldbg cache``."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer


def cache(
    action: Annotated[
        Literal["show", "clear"],
        typer.Argument(
            metavar="[show|clear]",
            help="show: the folder and its size; clear: remove everything in it.",
        ),
    ] = "show",
) -> None:
    """Show or clear the cache of Keras models.

    An entry saves loading and tracing the model; it is used only for the same file and versions.
    """
    from tfldbg.diagnose.words import plural
    from tfldbg.reference import cache as kept

    count, size = kept.clear() if action == "clear" else kept.held()
    done = "removed " if action == "clear" else ""
    sys.stdout.write(f"{kept.folder()}: {done}{plural(count, 'model')}, {size / 1e6:.1f} MB\n")
