"""Let a thread do a part of the work while the session does another, in the order as without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


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
