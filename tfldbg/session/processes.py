"""Processes of this machine, each with a thread of `concurrent.futures` that gives it the work.

`concurrent.futures.ProcessPoolExecutor` would start them as multiprocessing does: they would import
the user's script again, and search the working directory for modules (see
`tfldbg.run.child.command`).  And one killed process would end the work of all the others.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, local
from typing import BinaryIO, cast

from tfldbg.errors import RunError
from tfldbg.run.child import KILLED, command, confine, ending, killed
from tfldbg.session.elsewhere import Task, answer

_TRIES = 3
"""The number of tries of a task, which may be the reason why its process ends."""
_LOST = (EOFError, OSError, pickle.UnpicklingError)
"""The exceptions raised if a process has ended, and its pipes with it."""


class Processes:
    """Processes that are started when there is work for them, and do one task after the other.

    Args:
        count: The number of processes.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "tfldbg-worker")
        self._mine = local()
        self._started: list[_Process] = []
        self._lock, self._closed = Lock(), False

    def submit(self, task: Task) -> Future[bytes]:
        """Give a task to a process, and to another one if that ends.

        Returns:
            The result of `tfldbg.session.elsewhere.answer` there.  The future raises `RunError` if
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
            process.end()

    def _do(self, task: Task) -> bytes:
        packed, how = task.packed(), ""
        for _ in range(_TRIES):
            process = self._process()
            try:
                return process.do(packed)
            except _LOST:
                how = process.end()
        raise RunError(
            f"a worker process ended {_TRIES} times while it did the same work: {how}",
            hint="use fewer --workers: each takes the memory of a trace",
        )

    def _process(self) -> _Process:
        """Return the process of this thread, and start one if there is none or it has ended."""
        process: _Process | None = getattr(self._mine, "process", None)
        if process is None or process.ended:
            with self._lock:
                if self._closed:
                    raise RunError("the worker processes were ended")
                process = self._mine.process = _Process()
                self._started.append(process)
        return process


class _Process:
    """A process that runs `main`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter)
            command(__name__, str(os.getpid())), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def ended(self) -> bool:
        """True if `end` was called."""
        return self._process.returncode is not None

    def do(self, packed: bytes) -> bytes:
        """Give it a task, and return the answer.

        Raises:
            EOFError, OSError, pickle.UnpicklingError: It ended.
        """
        given = cast("BinaryIO", self._process.stdin)
        pickle.dump(packed, given)
        given.flush()
        answered: bytes = pickle.load(cast("BinaryIO", self._process.stdout))  # noqa: S301
        return answered

    def kill(self) -> None:
        """Kill it; a thread that waits for its answer continues."""
        self._process.kill()

    def end(self) -> str:
        """End it, close its pipes, and return in words how it ended."""
        with suppress(BrokenPipeError), self._process:  # it may not have read all its input
            self._process.kill()
        code = self._process.returncode
        return KILLED if killed(code) else ending(code)


def main() -> None:
    """Do the tasks that arrive on stdin until it is closed."""
    confine(int(sys.argv[1]))
    given, made = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps the output of libraries out of the answers
    with suppress(EOFError):
        while True:
            pickle.dump(answer(pickle.load(given)), made)  # noqa: S301  (of the session)
            made.flush()
