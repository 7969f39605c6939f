"""A process that will run a model, and the files without a name that it shares with the session.

What it takes to start one, for the most part importing NumPy and LiteRT, does not depend on the
model.  So processes can be started before it is known what they shall run.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from tfldbg.options.runtimes import LITERT
from tfldbg.run import together
from tfldbg.run.block import shared_memory
from tfldbg.run.child import Limits, command, limits

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy only holds arrays there, and the threads that it would start take half of its import."""


class WorkerProcess:
    """A process of `tfldbg.run.worker`.

    Args:
        allowed: What it may take.
        ahead: Whether it imports LiteRT at once, before it is asked anything.

    Raises:
        OSError: The system has no room for it.
    """

    def __init__(self, allowed: Limits, *, ahead: bool = False) -> None:
        self.limits, self.allowed = allowed, allowed.memory_bytes
        self.crowded: int | None = None
        """The bytes that all processes took together when it was ended for that, else None."""
        self._stack = ExitStack()
        try:
            self.model = self._model_file()
            """Where the model goes; None where a process cannot open what it has inherited."""
            self.given, self.made = self._shared(), self._shared()
            """Descriptors of memory for requests and for answers, None where none is shared."""
            self.log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            """What it writes to stderr."""
            files = [] if self.model is None else [self.model.fileno()]
            memory = [n for n in (self.given, self.made) if n is not None]
            told = (os.getpid(), self.allowed or 0, int(ahead))
            self.popen = subprocess.Popen(  # noqa: S603  (this interpreter, this package)
                command("tfldbg.run.worker", *map(str, told)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                pass_fds=(*files, *memory),
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
        """End it; whoever is asking it something finds it dead."""
        self.popen.kill()

    def _model_file(self) -> IO[bytes] | None:
        if not Path("/dev/fd").is_dir():
            return None
        return self._stack.enter_context(tempfile.TemporaryFile())

    def _shared(self) -> int | None:
        descriptor = shared_memory() if self.model is not None else None
        if descriptor is not None:
            self._stack.callback(os.close, descriptor)
        return descriptor

    def end(self) -> None:
        """End it, so that nobody waits for its answer any longer."""
        together.leave(self)
        self.popen.kill()
        self.popen.wait()

    def close(self) -> None:
        """End it, and close what it shares with this process."""
        self.end()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # it died with a request half read
        self._stack.close()


class _Ahead:
    """One process that waits for work, and then the next: all at once would only delay the first.

    Args:
        count: How many in all.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self.waiting: WorkerProcess | None = None
        self._start()

    def take(self) -> WorkerProcess | None:
        """Return the one that waits, if it lives and is within the limits, and start the next."""
        taken = self.waiting
        if taken is None or taken.limits != limits() or taken.popen.poll() is not None:
            return None
        self.waiting = None
        self._start()
        return taken

    def _start(self) -> None:
        if self._left:
            self._left -= 1
            with suppress(OSError):  # whoever needs one will say so
                self.waiting = WorkerProcess(limits(), ahead=True)

    def close(self) -> None:
        """End the one that nobody took."""
        if self.waiting is not None:
            self.waiting.close()


_AHEAD: ContextVar[_Ahead | None] = ContextVar("ahead", default=None)


def new_process(runtime: str) -> WorkerProcess:
    """Return a process: one that waits for work, where there is one for such a runtime.

    Raises:
        OSError: The system has no room for it.
    """
    ahead = _AHEAD.get() if runtime in LITERT else None
    waiting = ahead.take() if ahead is not None else None
    return waiting or WorkerProcess(limits())


@contextmanager
def started_ahead(count: int) -> Iterator[None]:
    """Start processes for what will be run while the block lasts, always one before it is needed.

    Args:
        count: How many in all.
    """
    ahead = _Ahead(count)
    token = _AHEAD.set(ahead)
    try:
        yield
    finally:
        _AHEAD.reset(token)
        ahead.close()
