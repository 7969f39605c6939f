"""A process that will run a model, and the nameless files that it shares with the session.

Starting one mostly consists of importing NumPy and LiteRT, and does not depend on the model.  So
processes can be started before the model is known.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar

from tfldbg.options.runtimes import LITERT
from tfldbg.run import together
from tfldbg.run.block import shared_memory
from tfldbg.run.child import Limits, command, limits

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy only holds arrays there, and starting its threads takes half of its import."""


class WorkerProcess:
    """A process of `tfldbg.run.worker`.

    Args:
        allowed: The limits of the process.
        ahead: True to import LiteRT at once, before the first request.

    Raises:
        OSError: The system cannot start it.
    """

    def __init__(self, allowed: Limits, *, ahead: bool = False) -> None:
        self.limits, self.allowed = allowed, allowed.memory_bytes
        self.crowded: int | None = None
        """The memory of all processes when it was ended for exceeding the limit, or None."""
        self._stack = ExitStack()
        try:
            self.given, self.made = self._shared(), self._shared()
            """The descriptors of memory for requests and answers, or None if none is shared."""
            self.log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            """The output of the process on stderr."""
            memory = [n for n in (self.given, self.made) if n is not None]
            told = (os.getpid(), self.allowed or 0, int(ahead))
            self.popen = subprocess.Popen(  # noqa: S603  (this interpreter, this package)
                command("tfldbg.run.worker", *map(str, told)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                pass_fds=memory,
                env={**os.environ, **_ENVIRONMENT},
            )
        except BaseException:
            self._stack.close()
            raise
        together.join(self)

    @property
    def number(self) -> int:
        """The process id."""
        return self.popen.pid

    def kill(self) -> None:
        """End the process; a pending request fails."""
        self.popen.kill()

    def _shared(self) -> int | None:
        descriptor = shared_memory()
        if descriptor is not None:
            self._stack.callback(os.close, descriptor)
        return descriptor

    def end(self) -> None:
        """End the process, so that no thread waits for its answer."""
        together.leave(self)
        self.popen.kill()
        self.popen.wait()

    def close(self) -> None:
        """End the process, and close the files that it shares with this one."""
        self.end()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # it ended while reading a request
        self._stack.close()


class _Ahead:
    """Starts one process in advance, and the next when it is taken, so as not to delay the first.

    Args:
        count: The total number of processes.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self.waiting: WorkerProcess | None = None
        self._start()

    def take(self) -> WorkerProcess | None:
        """Return the waiting process if it is alive with the current limits, and start the next."""
        taken = self.waiting
        if taken is None or taken.limits != limits() or taken.popen.poll() is not None:
            return None
        self.waiting = None
        self._start()
        return taken

    def _start(self) -> None:
        if self._left:
            self._left -= 1
            with suppress(OSError):  # the error is raised when one is needed
                self.waiting = WorkerProcess(limits(), ahead=True)

    def close(self) -> None:
        """End the process that was not taken."""
        if self.waiting is not None:
            self.waiting.close()


_AHEAD: ContextVar[_Ahead | None] = ContextVar("ahead", default=None)


def new_process(runtime: str) -> WorkerProcess:
    """Return a process, if possible one that was started in advance.

    Raises:
        OSError: The system cannot start it.
    """
    ahead = _AHEAD.get() if runtime in LITERT else None
    waiting = ahead.take() if ahead is not None else None
    return waiting or WorkerProcess(limits())


@contextmanager
def started_ahead(count: int) -> Iterator[None]:
    """Start processes in advance inside the block, always one before it is needed.

    Args:
        count: The total number of processes.
    """
    ahead = _Ahead(count)
    token = _AHEAD.set(ahead)
    try:
        yield
    finally:
        _AHEAD.reset(token)
        ahead.close()
