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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from queue import SimpleQueue
from threading import Lock
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from tfldbg.errors import RunError, UsageError, unexpected
from tfldbg.run.child import Limits, command, confine, ending, limits

Item = TypeVar("Item")
Made = TypeVar("Made")
_TRIES = 3
"""How often an item is given out: whatever it is, it may be the item that ends its process."""
_LENGTH = struct.Struct("<Q")
_LOST = (EOFError, OSError, ValueError, pickle.UnpicklingError)
"""Raised where a process has ended, and its pipes with it."""


class Pool(Protocol):
    """Who does several things at a time."""

    workers: int
    """How many at a time."""

    def limits(self) -> Limits:
        """Return what each may give the processes that it starts."""

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
    with closing(LocalPool(workers)) as pool:
        yield pool


def in_order(found: Iterable[tuple[int, Made]]) -> Iterator[Made]:
    """Yield what came of items 0, 1, 2, ... as soon as it and all before it are there.

    Args:
        found: Numbers and what came of them, in any order.
    """
    waiting: dict[int, Made] = {}
    following = 0
    for number, made in found:
        waiting[number] = made
        while following in waiting:
            yield waiting.pop(following)
            following += 1


class LocalPool:
    """Processes of this machine, until it is closed.

    Args:
        workers: How many.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when there is something to do
        self._started: set[_Process] = set()
        self._lock, self._closed = Lock(), False

    def limits(self) -> Limits:
        """Return an equal part of what this session may: the machine is one."""
        return limits().shared_by(self.workers)

    def each(
        self, work: Callable[[Item], Made], items: Sequence[Item]
    ) -> Iterator[tuple[int, Made]]:
        """Do something with every item; yield its number and what came of it, in any order."""
        with ThreadPoolExecutor(self.workers, "tfldbg-pool") as threads:
            futures: dict[Future[Made], int] = {
                threads.submit(self._do, work, item): number for number, item in enumerate(items)
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BaseException:  # Ctrl-C, too, and whoever stops to ask
                for future in futures:
                    future.cancel()
                self.close()
                raise

    def _do(self, work: Callable[[Item], Made], item: Item) -> Made:
        """Let a process do a task, and another one if it ends.

        Raises:
            Exception: What the task raised.
            RunError: Every process that did it ended.
            UsageError: It cannot be pickled.
        """
        task = _pickled(work, item)
        process, said = self._idle.get(), ""
        try:
            for _ in range(_TRIES):
                process = process or self._start()
                try:
                    error, value = process.do(task)
                except _LOST:
                    said = self._end(process)
                    process = None
                    continue
                if error is not None:
                    raise error from _ElsewhereError(value)
                return cast("Made", value)
        finally:
            self._idle.put(process)
        raise RunError(
            f"a worker process ended {_TRIES} times while it did the same: {said}",
            hint="fewer --workers take less memory",
        )

    def _start(self) -> _Process:
        with self._lock:
            if self._closed:
                raise RunError("the workers were ended")
            process = _Process()
            self._started.add(process)
        return process

    def _end(self, process: _Process) -> str:
        with self._lock:
            self._started.discard(process)
        return process.end()

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._closed = True
            for process in self._started:
                process.end()


class _Process:
    """One process, which does one thing after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter)
            command(__name__, str(os.getpid())), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def do(self, task: bytes) -> tuple[Exception | None, Any]:
        """Do a task that was pickled.

        Returns:
            What it raised, with its traceback as text; or None, with what it returned.

        Raises:
            EOFError, OSError, ValueError, pickle.UnpicklingError: The process ended.
        """
        given, made = self._pipes
        given.write(_LENGTH.pack(len(task)) + task)
        given.flush()
        answer: tuple[Exception | None, Any] = pickle.load(made)  # noqa: S301  (of this program)
        return answer

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
    except Exception as error:  # what holds the models and functions decides what it raises
        raise UsageError(
            f"other processes cannot be given what this trace was given: {error}",
            hint="give paths in place of models, and functions that a module defines",
        ) from error


def main() -> None:
    """Do what is asked for on stdin until it is closed: a process of a `LocalPool`."""
    confine(int(sys.argv[1]))
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
    told = traceback.format_exc()
    try:
        return pickle.dumps((error, told))
    except Exception:  # an exception of somebody else's that cannot be pickled
        return pickle.dumps((unexpected(error), told))


def unloadable(error: Exception) -> UsageError:
    """Word what another process says that lacks what it was given."""
    return UsageError(
        f"another process cannot load what this trace was given: {error}",
        hint="define functions in a module that is installed there, and not in a script",
    )
