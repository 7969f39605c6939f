"""What every child process shares: where it finds this package, its limits, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen
from time import monotonic
from typing import Any

from tfldbg.errors import UsageError
from tfldbg.guard import machine_memory

_GIB = 1 << 30
_SHARE = 0.75
"""Of the machine's memory that one child may take."""
_DEATH_OF_PARENT = 1
"""PR_SET_PDEATHSIG of linux/prctl.h."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child process may take."""

    timeout_s: float = 600.0
    """For one answer: loading the model, or one sample."""
    memory: int | None = None
    """Bytes; None for three quarters of what the machine, or the container, has."""

    @property
    def memory_bytes(self) -> int | None:
        """The limit on memory; None where the machine does not tell what it has."""
        if self.memory is not None:
            return self.memory
        available = machine_memory()
        return None if available is None else int(available * _SHARE)

    def shared_by(self, processes: int) -> Limits:
        """Return what each of some processes of this machine may give its children."""
        memory = self.memory_bytes
        return self if memory is None else replace(self, memory=memory // processes)


_LIMITS: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039  (frozen)


def limits() -> Limits:
    """Return the limits of the children that are started now."""
    return _LIMITS.get()


@contextmanager
def limited(*, timeout: float | None = None, memory: float | None = None) -> Iterator[None]:
    """Set what the child processes that run models may take, while the block lasts.

    A model runs in a child process of its own.  One that gives no answer in time, or wants more
    memory, is ended, and a `RunError` says so.  The limit on memory is one for all that run at the
    same time.

    Args:
        timeout: Seconds for loading the model and for each sample, 600 by default.
        memory: GiB, three quarters of the machine's or the container's by default.  Takes effect
            on Linux.

    Raises:
        UsageError: A limit is not above zero.
    """
    for name, value in (("timeout", timeout), ("memory limit", memory)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"the {name} is {value}", hint="give a number above 0")
    before = _LIMITS.get()
    wanted = Limits(
        before.timeout_s if timeout is None else timeout,
        before.memory if memory is None else int(memory * _GIB),
    )
    with within(wanted):
        yield


@contextmanager
def within(wanted: Limits) -> Iterator[None]:
    """Set the limits of the children that are started while the block lasts."""
    token = _LIMITS.set(wanted)
    try:
        yield
    finally:
        _LIMITS.reset(token)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs the ``main`` of a module of this package in a new interpreter.

    ``python -m`` would put the working directory in front of everything, so that a ``numpy.py``
    that lies beside a downloaded model would be run.  So the child is told where to look before it
    imports anything: where this process looks, the working directory left out.
    """
    root = str(Path(__file__).resolve().parents[2])
    places = [place for place in sys.path if place]
    if root not in places:
        places.insert(0, root)
    start = f"import sys; sys.path[:] = {places!r}; from {module} import main; main()"
    return [sys.executable, "-c", start, *arguments]


def ending(code: int) -> str:
    """Word a return code: ``exit code 1``, or ``signal SIGSEGV`` of a child that was killed."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def killed(code: int) -> bool:
    """Return whether somebody else ended the child, as Linux does for want of memory."""
    return code == -getattr(signal, "SIGKILL", 9)


KILLED = (
    "the system killed it (SIGKILL): most often for want of memory, which is when the machine or "
    "the container has no more to give"
)


def prepare(parent: int, memory: int | None = None) -> None:
    """Make this process, a child, end with its parent and within its limits.

    Args:
        parent: The process that started it.
        memory: Bytes that it may take, None for any.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the session's, which ends this process
    if sys.platform == "linux":
        import ctypes

        # Where a session is killed, so is the child at once, even in the midst of a long invoke.
        # (Elsewhere it ends when it next reads its pipe.)
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)  # it died before this process could ask to be told
    if memory is not None and sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


class Watchdog:
    """Kills a process that is asked something and does not answer in time.

    A thread of its own sees to it, so that pipes can be read and written without an eye on the
    clock, and costs nothing while answers come.

    Args:
        process: The process.
        timeout_s: Seconds that an answer may take.
    """

    def __init__(self, process: Popen[Any], timeout_s: float) -> None:
        self._process, self._timeout_s = process, timeout_s
        self._asked: float | None = None
        self._closed = threading.Event()
        self.barked = False
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        self._asked = monotonic()

    def __exit__(self, *details: object) -> None:
        self._asked = None

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _watch(self) -> None:
        left = self._timeout_s
        while not self._closed.wait(min(left, threading.TIMEOUT_MAX)):
            asked = self._asked
            left = self._timeout_s if asked is None else asked + self._timeout_s - monotonic()
            if left <= 0:
                self.barked = True
                self._process.kill()
                return
