"""Processes that do several things at a time; what one of them leaves undone, another does again.

The processes are this machine's own, or those of a Dask cluster.  What they are given and what they
return is pickled: a pool is trusted like this process itself.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from tfldbg.errors import RunError, UsageError
from tfldbg.run.child import command, ending, prepare

Item = TypeVar("Item")
Made = TypeVar("Made")
_TRIES = 3
"""How often an item is given out: whatever it is, it may be the item that ends its process."""
_LENGTH = struct.Struct("<Q")
_LOST = (EOFError, OSError, pickle.UnpicklingError)


class Pool(Protocol):
    """Who does several things at a time."""

    workers: int
    """How many at a time."""

    def each(
        self, work: Callable[[Item], Made], items: Sequence[Item]
    ) -> Iterator[tuple[int, Made]]:
        """Do something with every item; yield its number and what came of it, in any order.

        Raises:
            TfldbgError: What ``work`` raised, or a process ended again and again.
        """


@contextmanager
def open_pool(workers: int | None, scheduler: str | None) -> Iterator[Pool | None]:
    """Start processes, and end them with the block.

    Args:
        workers: How many on this machine; None or 1 for none but this one.
        scheduler: The address of a Dask cluster.

    Yields:
        The pool, None where this process is to do everything.

    Raises:
        UsageError: Both are given, or there is no such number or cluster.
        MissingExtraError: Dask is not installed.
    """
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise UsageError(f"{workers} workers are too few", hint="ask for some: --workers 2")
    if scheduler is not None:
        if workers is not None:
            raise UsageError(
                "--workers are processes of this machine, and --scheduler has its own",
                hint="keep one of them",
            )
        from tfldbg.session.cluster import dask_pool

        with dask_pool(scheduler) as pool:
            yield pool
        return
    if workers is None or workers == 1:
        yield None
        return
    with ExitStack() as stack:
        yield LocalPool(workers, stack)


class LocalPool:
    """Processes of this machine.

    Args:
        workers: How many.
        stack: Ends them.
    """

    def __init__(self, workers: int, stack: ExitStack) -> None:
        self.workers = workers
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when there is something to do
        self._started: set[_Process] = set()
        self._closed = False
        stack.callback(self._close)

    def each(
        self, work: Callable[[Item], Made], items: Sequence[Item]
    ) -> Iterator[tuple[int, Made]]:
        """Do something with every item; yield its number and what came of it, in any order."""
        tasks = [_pickled(work, item) for item in items]
        with ThreadPoolExecutor(self.workers, "tfldbg-pool") as threads:
            futures: dict[Future[Made], int] = {
                threads.submit(self._do, task): number for number, task in enumerate(tasks)
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BaseException:  # Ctrl-C, too, and whoever stops to ask
                for future in futures:
                    future.cancel()
                self._close()
                raise

    def _do(self, task: bytes) -> Any:
        process = self._idle.get()
        try:
            for _ in range(_TRIES):
                if self._closed:
                    break
                if process is None:
                    process = _Process()
                    self._started.add(process)
                try:
                    return process.do(task)
                except _LOST:
                    said = process.end()
                    self._started.discard(process)
                    process = None
            else:
                raise RunError(
                    f"a worker process ended {_TRIES} times while it did the same: {said}",
                    hint="fewer --workers take less memory",
                )
            raise RunError("the workers were ended")
        finally:
            self._idle.put(process)

    def _close(self) -> None:
        self._closed = True
        for process in tuple(self._started):
            process.end()


class _Process:
    """One process, which does one thing after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter)
            command(__name__, str(os.getpid())), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def do(self, task: bytes) -> Any:
        """Do a task that was pickled.

        Raises:
            Exception: What the task raised.
            EOFError, OSError: The process ended.
        """
        given, made = self._pipes
        given.write(_LENGTH.pack(len(task)) + task)
        given.flush()
        error, value = pickle.load(made)  # noqa: S301  (of a process of this program)
        if error is not None:
            raise error from _ElsewhereError(value)
        return value

    def end(self) -> str:
        """End it, and say how it ended."""
        self._process.kill()
        code = self._process.wait()
        for pipe in self._pipes:
            with suppress(OSError):  # what it did not read is still to be written
                pipe.close()
        return ending(code)

    @property
    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        given, made = self._process.stdin, self._process.stdout
        return cast("BinaryIO", given), cast("BinaryIO", made)


class _ElsewhereError(Exception):
    """Holds the traceback of another process, for those who look for a bug."""


def _pickled(work: Callable[[Item], Made], item: Item) -> bytes:
    try:
        return pickle.dumps((work, item))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"other processes cannot be given what this trace was given: {error}",
            hint="give paths in place of models, and functions that a module defines",
        ) from error


def main() -> None:
    """Do what is asked for on stdin until it is closed: a process of a `LocalPool`."""
    prepare(int(sys.argv[1]))
    given, made = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not come between
    while (task := _read(given)) is not None:
        made.write(_answer(task))
        made.flush()


def _read(given: BinaryIO) -> bytes | None:
    """Read a task with its length before it; None at the end."""
    size = given.read(_LENGTH.size)
    return given.read(_LENGTH.unpack(size)[0]) if len(size) == _LENGTH.size else None


def _answer(task: bytes) -> bytes:
    """Do a task and return what came of it, both pickled."""
    try:
        work, item = pickle.loads(task)  # noqa: S301  (of the process that started this one)
    except (ImportError, AttributeError) as error:
        return _raised(unloadable(error))
    try:
        return pickle.dumps((None, work(item)))
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> bytes:
    return pickle.dumps((error, traceback.format_exc()))


def unloadable(error: Exception) -> UsageError:
    """Word what another process says that lacks what it was given."""
    return UsageError(
        f"another process cannot load what this trace was given: {error}",
        hint="define functions in a module that is installed there, and not in a script",
    )
