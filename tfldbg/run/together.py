"""One limit for the memory that all processes take together which run models at the same time.

Each has the limit for itself as well (`tfldbg.run.child.prepare`), but several that keep within it
can take more than the machine has.  So what they hold is added up from time to time, and when it is
too much, the largest is ended.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Protocol

_EVERY_S = 0.1
_PROCESSES = Path("/proc")


class Member(Protocol):
    """A process that runs a model."""

    allowed: int | None
    """The limit in bytes, None for none."""
    crowded: int | None
    """The bytes that all took together when it was ended for it; None if it was not."""

    @property
    def number(self) -> int:
        """Its process id."""

    def kill(self) -> None:
        """End it."""


_lock = threading.Lock()
_members: list[Member] = []
_watching = False


def join(member: Member) -> None:
    """Count a process from now on; takes effect on Linux."""
    global _watching
    if member.allowed is None or not _PROCESSES.joinpath("self/statm").exists():
        return
    with _lock:
        _members.append(member)
        if not _watching:
            _watching = True
            threading.Thread(target=_watch, name="tfldbg-memory", daemon=True).start()


def leave(member: Member) -> None:
    """Count a process no longer, which has ended."""
    with _lock:
        if member in _members:
            _members.remove(member)


def _watch() -> None:
    """Look from time to time, as long as there are processes."""
    global _watching
    pause = threading.Event()
    while True:
        pause.wait(_EVERY_S)
        with _lock:
            if not _members:
                _watching = False
                return
            _check()


def _check() -> None:
    """End the largest process if all of them take more than the least limit among them."""
    sizes = [(_private_bytes(member.number), member) for member in _members]
    limit = min(m.allowed for m in _members if m.allowed is not None)
    whole = sum(size for size, _ in sizes)
    if len(sizes) > 1 and whole > limit:  # one alone meets its own limit
        largest = max(sizes, key=lambda pair: pair[0])[1]
        largest.crowded = whole
        largest.kill()


def _private_bytes(number: int) -> int:
    """Return the bytes in memory of a process that it shares with no other, 0 if it has ended."""
    try:
        pages = (_PROCESSES / str(number) / "statm").read_text().split()
    except OSError:
        return 0
    # proc_pid_statm(5): size, resident, shared, ...
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 2 else 0
