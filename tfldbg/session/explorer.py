"""Node data for Model Explorer, from a trace and the traced file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.errors import ModelError
from tfldbg.files import sha256
from tfldbg.graph.load import load_graph, read_file
from tfldbg.report import explorer

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result


def node_data(result: Result, model: Path | str | None = None) -> dict[str, dict[str, Any]]:
    """Return Model Explorer's node data of a trace, by data set.

    Args:
        result: The trace.
        model: The traced file, if it is no longer at its path.

    Raises:
        ModelError: The file is missing, or is not the one that was traced.
    """
    run = result.evidence.run
    path = Path(model if model is not None else run.model_path)
    if model is None and not path.is_file():
        raise ModelError(
            f"the traced file '{path}' does not exist, and the names of nodes are taken from it",
            hint="give its new path: tfldbg view MODEL.tflite RUN.h5",
        )
    content = read_file(path)
    if sha256(memoryview(content)) != run.model_sha256:
        raise ModelError(
            f"'{path}' is not the file that was traced: its SHA-256 differs",
            hint="give the file that was traced, or trace this one",
        )
    return explorer.node_data(result, load_graph(content, str(path)))


def write_node_data(result: Result, target: str) -> None:
    """Write Model Explorer's node data of a trace, to ``target`` and files next to it.

    Raises:
        ModelError: The traced file is missing, or has been replaced by another.
        TfldbgError: A file cannot be written.
    """
    explorer.write_node_data(node_data(result), target)
