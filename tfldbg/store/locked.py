"""A file that one process at a time may write, and that says which."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from tfldbg.errors import CaptureError

PREAMBLE = "tfldbg unfinished 2, process {:>10}\n"
"""The first line: of fixed length, so that whoever takes the file over can write it anew."""
LENGTH = len(PREAMBLE.format(0))
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""A symbolic link of that name could lead to a file of somebody else's."""


def open_locked(path: Path, target: Path) -> FileIO:
    """Open a file, new or old, and lock it until it is closed.

    Args:
        path: The file.
        target: What shall come of it, for the message.

    Raises:
        CaptureError: Another process has it.
        OSError: It cannot be opened.
    """
    while True:
        file = FileIO(os.open(path, _OPEN, 0o666), "r+b")
        if not lock(file):
            holder = file.read(LENGTH).decode("ascii", "replace").split()
            file.close()
            raise CaptureError(
                f"another run (process {holder[-1] if holder else 'unknown'}) is recording to "
                f"'{target}'",
                hint="wait for it to end, or name another file",
            )
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # whoever had it has just removed it


def lock(file: BinaryIO | FileIO) -> bool:
    """Lock a file until it is closed; return False if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def begin(file: FileIO) -> None:
    """Write the first line, and move to the end."""
    file.seek(0)
    pour(file, PREAMBLE.format(os.getpid()).encode())
    file.seek(0, os.SEEK_END)


def begun(file: BinaryIO | FileIO) -> bool:
    """Read the first line; return whether it is one."""
    file.seek(0)
    return file.read(LENGTH).startswith(PREAMBLE.partition(",")[0].encode())


def pour(file: FileIO, content: Any) -> None:
    """Write all of it: a plain file may take a part, and tells with the next that it is full."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
