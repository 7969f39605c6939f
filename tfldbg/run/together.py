"""One memory limit for all processes that run models at the same time.

Each process has the limit for itself as well (`tfldbg.run.child.confine`), but several processes
within it can use more than the machine has.  So their memory is added up regularly, and if it
exceeds the limit, the largest process is killed.
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
    """The limit in bytes, or None for no limit."""
    crowded: int | None
    """The memory of all processes when this one was killed for it, or None."""

    @property
    def number(self) -> int:
        """The process id."""

    def kill(self) -> None:
        """Kill the process."""


_lock = threading.Lock()
_members: list[Member] = []
_watching = False


def join(member: Member) -> None:
    """Count a process from now on; it only has an effect on Linux."""
    global _watching
    if member.allowed is None or not _PROCESSES.joinpath("self/statm").exists():
        return
    with _lock:
        _members.append(member)
        if not _watching:
            _watching = True
            threading.Thread(target=_watch, name="tfldbg-memory", daemon=True).start()


def leave(member: Member) -> None:
    """Stop counting a process, which has ended."""
    with _lock:
        if member in _members:
            _members.remove(member)


def _watch() -> None:
    """Check regularly while there are processes."""
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
    """Kill the largest process if all together exceed the smallest limit among them."""
    sizes = [(_private_bytes(member.number), member) for member in _members]
    limit = min(m.allowed for m in _members if m.allowed is not None)
    whole = sum(size for size, _ in sizes)
    if len(sizes) > 1 and whole > limit:  # a single process has its own limit
        largest = max(sizes, key=lambda pair: pair[0])[1]
        largest.crowded = whole
        largest.kill()


def _private_bytes(number: int) -> int:
    """Return the resident bytes of a process that are not shared, 0 if it has ended."""
    try:
        pages = (_PROCESSES / str(number) / "statm").read_text().split()
    except OSError:
        return 0
    # proc_pid_statm(5): size, resident, shared, ...
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 2 else 0
