"""Let a thread do a part of the work while the session does another, in the order as without."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")
_MOST_THREADS = 4


class Behind:
    """A thread that does one thing at a time, while whoever asked for it goes on."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "tfldbg")

    def do(self, work: Callable[[Given], Made], given: Given) -> Future[Made]:
        """Begin something.  What was asked for earlier is done before it."""
        return self._pool.submit(copy_context().run, work, given)  # with the limits of children

    def close(self, *, wait: bool = True) -> None:
        """Drop what has not begun, and wait for what has, unless something else will end it."""
        self._pool.shutdown(wait, cancel_futures=True)


class Crew:
    """Threads that share work whose pieces may be done in any order.  Use as a context manager.

    Args:
        most: How many threads at most, whoever asks among them, one for every two processors.
    """

    def __init__(self, most: int = _MOST_THREADS) -> None:
        self._others = max(1, min(most, (os.cpu_count() or 1) // 2)) - 1
        self._pool = ThreadPoolExecutor(max(1, self._others), "tfldbg-crew")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def do(self, pieces: Iterable[Callable[[], None]]) -> None:
        """Do all pieces, and return when they are done.

        Raises:
            Exception: What one of them raises, when the others are done as far as they go.
        """
        left: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for piece in pieces:
            left.put(piece)

        def work() -> None:
            while not left.empty():
                try:
                    piece = left.get_nowait()
                except Empty:  # another thread was faster
                    return
                piece()

        begun = [self._pool.submit(copy_context().run, work) for _ in range(self._others)]
        try:
            work()
        finally:
            wait(begun)
        for future in begun:
            future.result()


@contextmanager
def ahead(
    make: Callable[[Given], Made], items: Iterable[Given], interrupt: Callable[[], None]
) -> Iterator[Iterator[Made]]:
    """Make one thing more than is asked for, while the last one is used.

    Args:
        make: Makes one, in a thread.
        items: What to make them of.
        interrupt: Ends what the thread waits for, where nobody will take it.
    """
    behind = Behind()

    def made() -> Iterator[Made]:
        coming: Future[Made] | None = None
        for item in items:
            following = behind.do(make, item)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()

    try:
        yield made()
    except BaseException:  # Ctrl-C, too
        interrupt()
        raise
    finally:
        behind.close()


@contextmanager
def one_behind(work: Callable[[Given], None]) -> Iterator[Callable[[Given], None]]:
    """Return what hands things to a thread and waits, before it does, for the one handed before.

    In the end the last one is waited for.

    Args:
        work: What the thread does with a thing.
    """
    behind = Behind()
    last: list[Future[None]] = []

    def hand(given: Given) -> None:
        finish()
        last.append(behind.do(work, given))

    def finish() -> None:
        while last:
            last.pop().result()

    try:
        yield hand
        finish()
    finally:
        behind.close()
