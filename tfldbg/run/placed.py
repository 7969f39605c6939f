"""Files that hold models and data for the processes that use them, written once for all of them."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tfldbg.rewrite.pieces import Pieces

_OPEN_FILES = Path("/proc/self/fd")
"""Linux shows the open files of each process, so that others open files that have no name."""


_LARGE = 1 << 20
"""The size of an array from which it is not copied."""


class PlacedFile:
    """A file for other processes, which disappears with this object.

    Args:
        write: Writes the content.

    Raises:
        OSError: The disk is full or fails.
    """

    def __init__(self, write: Callable[[IO[bytes]], object]) -> None:
        self._stack = ExitStack()
        try:
            self.path = self._written(write)
            """The path at which the processes of this machine open it."""
        except BaseException:
            self._stack.close()
            raise

    def _written(self, write: Callable[[IO[bytes]], object]) -> str:
        if _OPEN_FILES.is_dir():
            file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            write(file)
            file.flush()
            return f"/proc/{os.getpid()}/fd/{file.fileno()}"
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tfldbg-")))
        with (folder / "placed").open("wb") as named:
            write(named)
        return named.name

    def __del__(self) -> None:
        """Remove the file."""
        self._stack.close()


class _Elsewhere(Pieces):
    """The content of a file that another process of this machine has placed."""

    path: str


_PLACED: WeakKeyDictionary[Pieces, PlacedFile] = WeakKeyDictionary()


def path_of(content: Pieces) -> str:
    """Return the path of a file with some content, which is written when it is first asked for.

    Raises:
        OSError: The disk is full or fails.
    """
    if isinstance(content, _Elsewhere):
        return content.path
    if content not in _PLACED:
        _PLACED[content] = PlacedFile(content.write)
    return _PLACED[content].path


class Packed:
    """An object for other processes of this machine, which must end before this one.

    Models and large arrays are not copied into it: the other processes open their files.

    Args:
        given: The object.

    Raises:
        OSError: A model or an array cannot be placed.
        Exception: As for `pickle.dumps`.
    """

    def __init__(self, given: object) -> None:
        self._files: list[PlacedFile] = []
        written = io.BytesIO()
        _Pickler(written, self._files).dump(given)
        self.content = written.getvalue()
        """The object for `pickle.loads`."""


class _Pickler(pickle.Pickler):
    """Writes the paths of models and of large arrays, and not their bytes.

    Args:
        written: Receives the bytes.
        files: Receives the files that hold arrays.
    """

    def __init__(self, written: IO[bytes], files: list[PlacedFile]) -> None:
        super().__init__(written, pickle.HIGHEST_PROTOCOL)
        self._files = files

    def reducer_override(self, given: Any) -> Any:
        """Return how to restore an object, or `NotImplemented` for the usual way."""
        if isinstance(given, Pieces):
            return _elsewhere, (path_of(given),)
        if isinstance(given, np.ndarray) and given.nbytes >= _LARGE and given.dtype != object:
            return _mapped, (*self._place(given), given.dtype, given.shape)
        return NotImplemented

    def _place(self, array: NDArray[Any]) -> tuple[str, int]:
        """Return a file with the values of an array, and where they begin."""
        owner = _mapping(array)
        if owner is not None and owner.filename is not None and array.flags.c_contiguous:
            start = owner.offset + array.ctypes.data - owner.ctypes.data
            return str(Path(owner.filename).absolute()), start
        self._files.append(PlacedFile(np.ascontiguousarray(array).tofile))
        return self._files[-1].path, 0


def _mapping(array: NDArray[Any]) -> Any:
    """Return the array that maps a file and that an array is a part of, or None.

    Parts of it say that they begin where it begins, so the first of all is needed.
    """
    found: Any = None
    part: Any = array
    while part is not None:
        found = part if isinstance(part, np.memmap) else found
        part = getattr(part, "base", None)
    return found


def _elsewhere(path: str) -> Pieces:
    made = _Elsewhere(())
    object.__setattr__(made, "path", path)
    return made


def _mapped(path: str, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.memmap(path, dtype, "r", start, shape)
