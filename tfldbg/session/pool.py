"""Several processes that share the work: those of this machine, or of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tfldbg.errors import UsageError
from tfldbg.run.child import Limits, limits
from tfldbg.session.cluster import connected
from tfldbg.session.elsewhere import Task, answer, pickled, unpacked
from tfldbg.session.processes import Processes

Item = TypeVar("Item")
Made = TypeVar("Made")


_EVERY_S = 0.2
"""The time between two looks at the progress."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Processes that do several tasks at a time."""

    submit: Callable[[Task], Future[bytes]]
    """The function that gives a task to a process, and to another one if that ends."""
    pack: Callable[[object], bytes]
    """The function that pickles an object for `Task.work`; it raises `UsageError`."""
    workers: int
    """The number of processes."""
    limits: Limits
    """The limits of the child processes of each."""
    samples_done: Callable[[], int] | None = None
    """The function that returns the number of samples measured so far, if that is known."""

    def each(
        self,
        work: Callable[[Item], Made],
        items: Sequence[Item],
        done: Callable[[int, Made], object] = lambda number, made: None,
        look: Callable[[], object] = lambda: None,
        ahead: int | None = None,
    ) -> Iterator[Made]:
        """Call a function for each item, and yield the results in the order of the items.

        Args:
            work: The function, which must be picklable with everything that it holds.
            items: Its arguments.
            done: Receives the number of an item and its result as soon as it is computed.
            look: Is called regularly.
            ahead: The largest number of items to give to processes before their results are
                yielded, None for all.

        Raises:
            TfldbgError: ``work`` raised it for the first item for which it raised an error; or a
                process ended repeatedly.
        """
        numbers: dict[Future[bytes], int] = {}
        waiting: dict[int, tuple[Exception | None, Any]] = {}
        given = following = 0
        try:
            while following < len(items):
                while given < min(len(items), following + (ahead or len(items))):
                    numbers[self.submit(Task(work, items[given], self.limits))] = given
                    given += 1
                ended, _ = wait(numbers, _EVERY_S, FIRST_COMPLETED)
                look()
                for future in ended:
                    number = numbers.pop(future)
                    waiting[number] = error, made = unpacked(future.result())
                    if error is None:
                        done(number, made)
                while following in waiting:
                    error, made = waiting.pop(following)
                    if error is not None:  # the error that a single process would raise
                        raise error
                    yield made
                    following += 1
        finally:
            for future in numbers:
                future.cancel()


@contextmanager
def open_pool(workers: int | None, scheduler: str | None) -> Iterator[Pool | None]:
    """Open the requested pool, and end its processes with the block.

    Args:
        workers: The number of processes of this machine, None if the user gave none.
        scheduler: The address of a Dask cluster.

    Yields:
        The pool, or None if none is requested.

    Raises:
        UsageError: Both are given, or there is no such cluster.
        MissingExtraError: Dask is not installed.
    """
    if scheduler is not None:
        if workers is not None:
            raise UsageError(
                "--workers are processes of this machine, but --scheduler has its own",
                hint="give one of them",
            )
        with connected(scheduler) as (executor, count):
            yield Pool(
                lambda task: executor.submit(answer, pickled(task)), pickled, count, limits()
            )
    elif workers is None:
        yield None
    else:
        with local_pool(workers) as pool:
            yield pool


@contextmanager
def local_pool(workers: int) -> Iterator[Pool]:
    """Open processes of this machine, which share its limits, and end them with the block.

    Args:
        workers: The number of processes.
    """
    with closing(Processes(workers, limits())) as processes:
        done = lambda: processes.samples_done  # noqa: E731
        yield Pool(processes.submit, processes.pack, workers, limits().shared_by(workers), done)
