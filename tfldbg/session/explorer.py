"""A trace, with the file that it traced, as node data for Model Explorer."""

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
        model: The file that was traced, where it does not lie at the path that it was traced at.

    Raises:
        ModelError: The file is missing, or is not the one that was traced.
    """
    run = result.evidence.run
    path = Path(model if model is not None else run.model_path)
    if model is None and not path.is_file():
        raise ModelError(
            f"'{path}', the file that was traced, is not there, and nodes are called as in it",
            hint="tfldbg view MODEL.tflite RUN.h5 takes it from wherever it is",
        )
    content = read_file(path)
    if sha256(memoryview(content)) != run.model_sha256:
        raise ModelError(
            f"'{path}' is not the file that was traced: its SHA-256 is another",
            hint="give the file that was traced, or trace this one",
        )
    return explorer.node_data(result, load_graph(content, str(path)))


def write_node_data(result: Result, target: str) -> None:
    """Write Model Explorer's node data of a trace, to ``target`` and beside it.

    Raises:
        ModelError: The file that was traced is missing, or another stands there.
        TfldbgError: A file cannot be written.
    """
    explorer.write_node_data(node_data(result), target)
