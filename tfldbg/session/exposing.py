"""Rewriting alone, and what must never be written over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import UsageError
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.run.job import Loaded, load

if TYPE_CHECKING:
    from tfldbg.options.sources import ModelSource


def protect(target: Path | None, option: str, *sources: object) -> None:
    """Refuse to write over one of the files that are read, or over one in a folder that is read.

    Raises:
        UsageError: The target is one of the sources.
    """
    for source in sources:
        if target is None or not isinstance(source, (str, Path)):
            continue
        read = Path(source)
        if target.exists() and read.exists() and _is_of(target, read):
            raise UsageError(
                f"{option} {target} is read, or lies in a folder that is: it would be overwritten",
                hint=f"name another file with {option}",
            )


def _is_of(target: Path, read: Path) -> bool:
    inside = read.is_dir() and target.resolve().is_relative_to(read.resolve())
    return inside or target.samefile(read)


def expose_model(model: ModelSource, signature: str | None = None) -> tuple[Loaded, Exposed]:
    """Rewrite a model so that every operator output is an output of the model.

    Raises:
        ModelError: The file is no .tflite file.
        RewriteError: It cannot be rewritten.
    """
    loaded = load(model, signature)
    return loaded, expose(loaded.graph, loaded.subgraph, named=True)
