"""Common parts of child processes: their search path, their limits, and the end of a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen
from time import monotonic
from typing import IO, Any

from tfldbg.errors import UsageError
from tfldbg.guard import machine_memory

_GIB = 1 << 30
_SHARE = 0.75
"""The share of the machine's memory that one child may use."""
_MOST_SAID = 1 << 16
"""The largest number of bytes to read of an ended process's output."""
_DEATH_OF_PARENT = 1
"""``PR_SET_PDEATHSIG`` of linux/prctl.h."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a child process."""

    timeout_s: float = 600.0
    """The time for one answer: loading the model, or one sample."""
    memory: int | None = None
    """The memory in bytes, or None for three quarters of that of the machine or container."""

    @property
    def memory_bytes(self) -> int | None:
        """The limit on memory, or None if the size of the machine's memory is unknown."""
        if self.memory is not None:
            return self.memory
        available = machine_memory()
        return None if available is None else int(available * _SHARE)

    def shared_by(self, processes: int) -> Limits:
        """Return the limits if several processes of this machine share them."""
        memory = self.memory_bytes
        return self if memory is None else replace(self, memory=memory // processes)


_LIMITS: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039  (frozen)


def limits() -> Limits:
    """Return the limits for children that are started now."""
    return _LIMITS.get()


@contextmanager
def limited(*, timeout: float | None = None, memory: float | None = None) -> Iterator[None]:
    """Set the limits of child processes that run models, inside the block.

    A model runs in a separate child process.  A process that does not answer in time, or needs more
    memory, is killed, and a `RunError` reports it.  All processes that run at the same time share
    the limit on memory.

    Args:
        timeout: The seconds for loading the model and for each sample, 600 by default.
        memory: The memory in GiB, by default three quarters of that of the machine or container.
            It only has an effect on Linux.

    Raises:
        UsageError: A limit is not above zero.
    """
    for name, value, example in (("timeout", timeout, 600), ("memory limit", memory, 4)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(
                f"invalid value {value} for the {name}: must be finite, and above 0",
                hint=f"for example {example}",
            )
    before = _LIMITS.get()
    wanted = Limits(
        before.timeout_s if timeout is None else timeout,
        before.memory if memory is None else int(memory * _GIB),
    )
    with within(wanted):
        yield


@contextmanager
def within(wanted: Limits) -> Iterator[None]:
    """Set the limits for children that are started inside the block."""
    token = _LIMITS.set(wanted)
    try:
        yield
    finally:
        _LIMITS.reset(token)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs the ``main`` of a module of this package in a new interpreter.

    ``python -m`` would search the working directory first, so that a ``numpy.py`` next to a
    downloaded model would run.  So the child gets its search path before it imports anything: that
    of this process, without the working directory.
    """
    root = str(Path(__file__).resolve().parents[2])
    places = [place for place in sys.path if place]
    if root not in places:
        places.insert(0, root)
    start = f"import sys; sys.path[:] = {places!r}; from {module} import main; main()"
    return [sys.executable, "-c", start, *arguments]


def output_of(log: IO[bytes]) -> str:
    """Return the beginning of what a process wrote to a file."""
    log.seek(0)
    return log.read(_MOST_SAID).decode(errors="replace")


def ending(code: int) -> str:
    """Return a return code in words: ``exit code 1``, or ``signal SIGSEGV`` for a killed child."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def killed(code: int) -> bool:
    """Return whether the child was killed from outside, as Linux does when memory runs out."""
    return code == -getattr(signal, "SIGKILL", 9)


KILLED = (
    "the system killed it (SIGKILL): most often because memory ran out, that is, the machine or "
    "the container has no more"
)


def confine(parent: int, memory: int | None = None) -> None:
    """Make this child process end with its parent and keep within its limits.

    Args:
        parent: The id of the process that started it.
        memory: The memory that it may use, bytes, or None for no limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the session handles Ctrl-C and ends this process
    if sys.platform == "linux":
        import ctypes

        # If a session is killed, the child is killed at once, even during a long invoke.
        # (Elsewhere it ends when it next reads its pipe.)
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)  # it ended before the call above
    if memory is not None and sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


class Watchdog:
    """Kills a process that does not answer a request in time.

    A separate thread watches the time, so that reading and writing pipes needs no timeout and costs
    nothing while answers arrive.

    Args:
        process: The process.
        timeout_s: The seconds that an answer may take.
        running: Returns a number that changes with everything that the process begins and that may
            take this time, None between; by default it begins one thing for each request.
    """

    def __init__(
        self, process: Popen[Any], timeout_s: float, running: Callable[[], int | None] = lambda: 0
    ) -> None:
        self._process, self._timeout_s, self._running = process, timeout_s, running
        self._asked: float | None = None
        self._closed = threading.Event()
        self.barked = False
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        self._asked = monotonic()

    def __exit__(self, *details: object) -> None:
        self._asked = None

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        seen: tuple[float | None, int | None] = (None, None)
        left, since = self._timeout_s, 0.0
        while not self._closed.wait(min(left, threading.TIMEOUT_MAX)):
            now = (self._asked, self._running())
            if None in now:
                left = self._timeout_s
            else:
                if now != seen:
                    since = monotonic() if now[0] == seen[0] else float(now[0] or 0.0)
                left = since + self._timeout_s - monotonic()
            seen = now
            if left <= 0:
                self.barked = True
                self._process.kill()
                return
