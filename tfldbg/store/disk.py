"""A file that never tells HDF5 of a full disk.

The HDF5 library cannot recover from a failed write: it prints its own error stack on every later
call and crashes the process at exit.  This file swallows what cannot be written and remembers the
error, so that the writer can close the library in order and then raise it.
"""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back Ctrl-C, and whatever else asks this process to end, until the block is left.

    While HDF5 is at work it calls `TolerantFile`, and an exception there would be a failed write.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal is handled here
        return
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: held.append(number))
        for name in _ENDING
        if (number := getattr(signal, name, None)) is not None
        and callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in held:
        signal.raise_signal(number)


def h5py_file(disk: TolerantFile) -> Any:
    """Open an HDF5 file to be written to ``disk``."""
    import h5py

    return h5py.File(disk, "w")


class TolerantFile(io.RawIOBase):
    """A binary file for h5py that remembers the first failed write instead of raising it.

    Args:
        path: An existing file, which is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self.failure: OSError | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; what was never written reads as zeros."""
        view = memoryview(buffer).cast("B")
        count = self._file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def write(self, content: Any) -> int:
        """Write ``content`` whole, or remember why not; report success either way."""
        view = memoryview(content).cast("B")
        end = self._file.tell() + len(view)
        rest = view
        try:
            while rest and self.failure is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.failure = error
        self._file.seek(end)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
