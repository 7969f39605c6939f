"""Frozen Keras models, kept from run to run in the user's cache folder.

Loading a Keras file and tracing its layers takes longer than the rest of a small trace.  An entry
is only used for the same bytes and the same versions of the packages that made it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from tfldbg.errors import TfldbgError
from tfldbg.files import replacing, sha256_of_path
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.graphdef import Outline, ref_graph
from tfldbg.reference.protos import GraphDef

FOLDER_VARIABLE = "TFLDBG_CACHE_DIR"
"""The environment variable that names another cache folder."""
_FORMAT = 5
_LARGEST = 1 << 30
"""The largest graph that is kept, bytes; a protocol buffer holds at most twice as many."""
_MOST = 4 << 30
"""The largest total size of all entries, bytes; the least recently used are removed first."""
_PACKAGES = ("keras", "tensorflow", "tensorflow-model-optimization", "tf-keras", "tfldbg")
_ABOUT, _GRAPH = "about.json", "graph.pb"
_SUFFIX = ".frozen"


def folder() -> Path:
    """Return the folder of the entries, which may not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_path("tfldbg", appauthor=False))


def entry_key(path: Path) -> str:
    """Return the key of an entry: a hash of everything that determines its content.

    Args:
        path: The Keras file, which must not depend on code outside it.
    """
    versions = {name: metadata.version(name) for name in _PACKAGES}
    decisive = [_FORMAT, versions, sha256_of_path(path), path.suffix]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def read(key: str) -> Frozen | None:
    """Return an entry, or None if there is none that can be trusted.

    A damaged entry is removed.
    """
    entry = folder() / f"{key}{_SUFFIX}"
    if not _is_own(entry.parent) or not entry.is_file():
        return None
    from google.protobuf.message import DecodeError

    try:
        frozen = _read(entry)
        os.utime(entry)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, DecodeError):
        with suppress(OSError):  # it stays and will be replaced
            entry.unlink()
        return None
    return frozen


def _is_own(place: Path) -> bool:
    """Return whether only this user can write to a folder, since the graph of an entry is run."""
    if not hasattr(os, "getuid"):
        return True
    try:
        found = place.stat()
    except OSError:
        return False
    shared = stat.S_IWGRP | stat.S_IWOTH
    return found.st_uid == os.getuid() and not found.st_mode & shared


def _read(entry: Path) -> Frozen:
    with zipfile.ZipFile(entry) as archive:
        about = json.loads(archive.read(_ABOUT))
        definition = GraphDef.FromString(archive.read(_GRAPH))
    outlines = {
        name: tuple(Outline(None if s is None else tuple(s), *rest) for s, *rest in ports)
        for name, ports in about["outlines"].items()
    }
    inputs, outputs = tuple(about["inputs"]), tuple(about["outputs"])
    return Frozen(
        graph_def=definition,
        graph=ref_graph(definition, inputs, outputs, outlines, whole=about["batch"] == 1),
        input_names=tuple(about["input_names"]),
        input_shapes=tuple(tuple(shape) for shape in about["input_shapes"]),
        input_dtypes=tuple(about["input_dtypes"]),
        output_names=tuple(about["output_names"]),
        batch=about["batch"],
        framework=about["framework"],
    )


def write(key: str, frozen: Frozen) -> None:
    """Keep a model.  If that fails, nothing is kept and the next run takes longer.

    Args:
        key: The key of the model from `entry_key`.
        frozen: The model.
    """
    if frozen.graph_def.ByteSize() > _LARGEST:
        return
    with suppress(OSError, TfldbgError):
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(place):
            return
        with (
            replacing(place / f"{key}{_SUFFIX}") as target,
            zipfile.ZipFile(target, "w") as archive,
        ):
            archive.writestr(_ABOUT, json.dumps(_about(frozen)))
            archive.writestr(_GRAPH, frozen.graph_def.SerializeToString())
        _prune()


def _about(frozen: Frozen) -> dict[str, Any]:
    return {
        "inputs": frozen.graph.inputs,
        "outputs": frozen.graph.outputs,
        "outlines": {
            name: [(o.shape, o.dtype, o.counted) for o in (n.first, *n.others)]
            for name, n in frozen.graph.nodes.items()
        },
        "input_names": frozen.input_names,
        "input_shapes": frozen.input_shapes,
        "input_dtypes": frozen.input_dtypes,
        "output_names": frozen.output_names,
        "batch": frozen.batch,
        "framework": frozen.framework,
    }


def _entries() -> Iterator[tuple[float, int, Path]]:
    """Yield the time of last use, the size and the path of every entry."""
    for path in folder().glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another process has removed it
            found = path.stat()
            yield found.st_mtime, found.st_size, path


def _prune() -> None:
    total = 0
    for _, size, path in sorted(_entries(), reverse=True):
        total += size
        if total > _MOST:
            path.unlink(missing_ok=True)


def held() -> tuple[int, int]:
    """Return the number of entries and their total size in bytes."""
    sizes = [size for _, size, _ in _entries()]
    return len(sizes), sum(sizes)


def clear() -> tuple[int, int]:
    """Remove all entries; return their number and their total size in bytes.

    Raises:
        TfldbgError: An entry cannot be removed.
    """
    count, total = 0, 0
    for _, size, path in _entries():
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise TfldbgError(
                f"cannot remove '{path}': {error.strerror or error}",
                hint="remove the folder yourself, or name another one with " + FOLDER_VARIABLE,
            ) from error
        count, total = count + 1, total + size
    return count, total
