"""Rewrite a model, and protect input files from being overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import UsageError
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.run.job import Loaded, load

if TYPE_CHECKING:
    from tfldbg.options.sources import ModelSource


def protect(target: Path | None, option: str, *sources: object) -> None:
    """Refuse to overwrite a file that is read, or a file in a folder that is read.

    Raises:
        UsageError: The target is one of the sources.
    """
    for source in sources:
        if target is None or not isinstance(source, (str, Path)):
            continue
        read = Path(source)
        if target.exists() and read.exists() and _is_of(target, read):
            raise UsageError(
                f"{option} {target} is an input, or in an input folder, and would be overwritten",
                hint=f"name another file with {option}",
            )


def _is_of(target: Path, read: Path) -> bool:
    inside = read.is_dir() and target.resolve().is_relative_to(read.resolve())
    return inside or target.samefile(read)


def expose_model(model: ModelSource, signature: str | None = None) -> tuple[Loaded, Exposed]:
    """Rewrite a model so that all operator outputs are outputs of the model.

    Raises:
        ModelError: The file is not a .tflite file.
        RewriteError: It cannot be rewritten.
    """
    loaded = load(model, signature)
    return loaded, expose(loaded.graph, loaded.subgraph, named=True)
