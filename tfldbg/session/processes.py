"""Processes of this machine, each with a thread of `concurrent.futures` that gives it the work.

`concurrent.futures.ProcessPoolExecutor` would start them as multiprocessing does: they would import
the user's script again, and search the working directory for modules (see
`tfldbg.run.child.command`).  And one killed process would end the work of all the others.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Lock, local
from typing import BinaryIO, cast

from tfldbg.errors import RunError
from tfldbg.run import together
from tfldbg.run.child import KILLED, Limits, Watchdog, command, confine, ending, killed, output_of
from tfldbg.run.litert import crowded, late
from tfldbg.run.placed import Packed
from tfldbg.run.status import Status, share_status, status_file
from tfldbg.session.elsewhere import Task, UnpicklableError, answer, pickled

_TRIES = 3
"""The number of tries of a task, which may be the reason why its process ends."""
_LOST = (EOFError, OSError)
"""The exceptions raised if a process has ended, and its pipes with it."""


_SIZE = struct.Struct("<Q")
"""The size of a message before it."""


class LostError(RunError):
    """A process has ended during a task.

    Args:
        how: The way in which it ended, in words.
        sample: The sample that it computed.
    """

    def __init__(self, how: str, sample: int) -> None:
        super().__init__(how, hint="use fewer processes: --workers 1; each takes memory")
        self.sample = sample


class Processes:
    """Processes that are started when there is work for them, and do one task after the other.

    Args:
        count: The number of processes.
        allowed: The limits of all of them together.
    """

    def __init__(self, count: int, allowed: Limits) -> None:
        self._threads = ThreadPoolExecutor(count, "tfldbg-worker")
        self._mine = local()
        self._allowed = allowed
        self._started: list[_Process] = []
        self._lock, self._closed = Lock(), False
        self._placed: list[Packed] = []

    @property
    def samples_done(self) -> int:
        """The number of samples that all processes have measured."""
        return sum(process.done for process in self._started)

    def pack(self, given: object) -> bytes:
        """Return an object for `Task.work`, without copies of models and of large arrays.

        Raises:
            UnpicklableError: It cannot be pickled.
        """
        try:
            self._placed.append(Packed(given))
        except Exception as error:  # models and functions may raise anything
            raise UnpicklableError(error) from error
        return self._placed[-1].content

    def submit(self, task: Task) -> Future[bytes]:
        """Give a task to a process, and to another one if that ends.

        Returns:
            The result of `tfldbg.session.elsewhere.answer` there.  The future raises `LostError` if
            all processes that tried ended, and `UsageError` if the task cannot be pickled.
        """
        return self._threads.submit(self._do, task)

    def close(self) -> None:
        """End the processes, even during a task."""
        with self._lock:
            self._closed = True
            for process in self._started:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._started:
            with suppress(RunError):  # its thread has raised it
                process.end()

    def _do(self, task: Task) -> bytes:
        given = pickled(task)
        lost = LostError("", 0)
        for _ in range(_TRIES):
            process = self._process()
            try:
                return process.do(given)
            except _LOST:
                lost = process.end()
        said = f"a worker process ended {_TRIES} times while it did the same work: {lost.message}"
        raise LostError(said, lost.sample)

    def _process(self) -> _Process:
        """Return the process of this thread, and start one if there is none or it has ended."""
        process: _Process | None = getattr(self._mine, "process", None)
        if process is None or process.ended:
            with self._lock:
                if self._closed:
                    raise RunError("the worker processes were ended")
                process = self._mine.process = _Process(self._allowed)
                self._started.append(process)
        return process


class _Process:
    """A process that runs `main`."""

    def __init__(self, allowed: Limits) -> None:
        self._limits, self.allowed = allowed, allowed.memory_bytes
        self.crowded: int | None = None
        """The memory of all processes when it was ended for exceeding the limit, or None."""
        self._over = False
        self._stack = ExitStack()
        page = self._stack.enter_context(status_file())
        self._log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._status = Status(page.fileno())
        told = (os.getpid(), self.allowed or 0, page.fileno())
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter)
            command(__name__, *map(str, told)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            pass_fds=[page.fileno()],
        )
        self._watchdog = Watchdog(self._process, allowed.timeout_s, lambda: self._status.running)
        self._stack.callback(self._watchdog.close)
        together.join(self)

    @property
    def number(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True if `end` was called."""
        return self._over

    @property
    def done(self) -> int:
        """The number of samples that it has measured."""
        return self._status.done

    def do(self, given: bytes) -> bytes:
        """Give it a task, and return the answer.

        Raises:
            EOFError, OSError: It ended.
        """
        stdin = cast("BinaryIO", self._process.stdin)
        with self._watchdog:
            _write(stdin, given)
            return _read(cast("BinaryIO", self._process.stdout))

    def kill(self) -> None:
        """Kill it; a thread that waits for its answer continues."""
        self._process.kill()

    def end(self) -> LostError:
        """End it, close its pipes, and return how it ended.

        Raises:
            RunError: It was ended because it took too long, or too much memory.
        """
        together.leave(self)
        if self._over:
            return LostError("it was ended", self._status.sample)
        self._over = True
        with suppress(BrokenPipeError), self._process:  # it may not have read all its input
            self._process.kill()
        code, sample, said = self._process.returncode, self._status.sample, self._said()
        self._stack.close()
        if self._watchdog.barked:
            raise late(f"sample {sample}: {self._status.words}", self._limits.timeout_s)
        if self.crowded is not None:
            raise crowded(self.crowded)
        how = KILLED if killed(code) else f"{ending(code)}{said}"
        doing = self._status.words.removeprefix("the ").replace(" did not finish ", " ran ")
        where = f" (sample {sample}: the {doing})" if doing else ""
        return LostError(f"{how}{where}", sample)

    def _said(self) -> str:
        """Return the last line of its output on stderr."""
        lines = output_of(self._log).strip().splitlines()
        return f"; it said: {lines[-1][:200]}" if lines else ""


def main() -> None:
    """Do the tasks that arrive on stdin until it is closed.

    The arguments are the parent's process id, the limit on memory in bytes (0 for none), and the
    descriptor of the page for `Status`.
    """
    parent, memory, page = map(int, sys.argv[1:])
    confine(parent, memory or None)
    share_status(page)
    given, made = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps the output of libraries out of the answers
    with suppress(EOFError):
        while True:
            _write(made, answer(_read(given)))


def _write(stream: BinaryIO, message: bytes) -> None:
    stream.write(_SIZE.pack(len(message)))
    stream.write(message)
    stream.flush()


def _read(stream: BinaryIO) -> bytes:
    """Return the next message.

    Raises:
        EOFError: The other side has closed the pipe.
    """
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError("the other side closed the pipe")
    (size,) = _SIZE.unpack(head)
    message = stream.read(size)
    if len(message) < size:
        raise EOFError("the other side closed the pipe")
    return message
