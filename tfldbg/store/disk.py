"""A file that hides failed writes from HDF5.

The HDF5 library cannot recover from a failed write: it prints its own error stack on every later
call and may crash the process at exit.  This file remembers the first error instead, so that the
writer can close the library in order and raise the error then.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


class Disk(io.FileIO):
    """A binary file for h5py that remembers the first failed write instead of raising it.

    Args:
        path: An existing file, which is overwritten.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+")
        self._failure: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; bytes that were never written read as zeros."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def write(self, content: Any) -> int:
        """Write all of ``content``, or remember the error; report success either way."""
        view = memoryview(content).cast("B")
        rest = view
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._failure = self._failure or error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or remember the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size or 0

    def check(self) -> None:
        """Raise the error of the first failed write.

        Raises:
            OSError: A write has failed.
        """
        if self._failure is not None:
            raise OSError(*self._failure.args)
