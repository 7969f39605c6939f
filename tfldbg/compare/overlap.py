"""Overlap work in threads, with the results in the same order as without threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Behind:
    """A thread that does one task at a time, while the caller continues."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "tfldbg")

    def do(self, work: Callable[[Given], Made], given: Given) -> Future[Made]:
        """Start a task after the earlier ones, and return its future."""
        return self._pool.submit(copy_context().run, work, given)  # with the limits of children

    def close(self, *, wait: bool = True) -> None:
        """Cancel tasks that have not started, and wait for the running one unless told not to."""
        self._pool.shutdown(wait, cancel_futures=True)


@contextmanager
def ahead(
    make: Callable[[Given], Made], items: Iterable[Given], interrupt: Callable[[], None]
) -> Iterator[Iterator[Made]]:
    """Compute the next result in a thread while the caller uses the last one.

    Args:
        make: The function that computes a result, in a thread.
        items: The arguments of its calls.
        interrupt: The function that ends the thread's call if its result is not needed.
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
    """Return a function that passes work to a thread after waiting for the previous work.

    The last work is waited for at the end.

    Args:
        work: The function that the thread calls.
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
