"""Rewriting alone, and what must never be written over."""

from __future__ import annotations

from pathlib import Path

from tfldbg.errors import UsageError
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.run.job import Loaded, ModelSource, load


def protect(target: Path | None, option: str, *sources: object) -> None:
    """Refuse to write over one of the files that are read.

    Raises:
        UsageError: The target is one of the sources.
    """
    for source in sources:
        if target is None or not isinstance(source, (str, Path)):
            continue
        if target.exists() and Path(source).exists() and target.samefile(source):
            raise UsageError(
                f"{option} {target} is a file that is read: it would be overwritten",
                hint=f"name another file with {option}",
            )


def expose_model(model: ModelSource, signature: str | None = None) -> tuple[Loaded, Exposed]:
    """Rewrite a model so that every operator output is an output of the model.

    Raises:
        ModelError: The file is no .tflite file.
        RewriteError: It cannot be rewritten.
    """
    loaded = load(model, signature)
    return loaded, expose(loaded.graph, loaded.subgraph)
