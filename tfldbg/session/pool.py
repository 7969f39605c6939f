"""Several processes that share the work: those of this machine, or of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tfldbg.errors import UsageError
from tfldbg.run.child import Limits, limits
from tfldbg.session.cluster import connected
from tfldbg.session.elsewhere import Task, answer, unpacked
from tfldbg.session.processes import Processes

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Pool:
    """Processes that do several tasks at a time."""

    submit: Callable[[Task], Future[bytes]]
    """The function that gives a task to a process, and to another one if that ends."""
    workers: int
    """The number of processes."""
    limits: Limits
    """The limits of the child processes of each."""

    def each(
        self,
        work: Callable[[Item], Made],
        items: Sequence[Item],
        done: Callable[[int, Made], object] = lambda number, made: None,
    ) -> Iterator[Made]:
        """Call a function for each item, and yield the results in the order of the items.

        Args:
            work: The function, which must be picklable with everything that it holds.
            items: Its arguments.
            done: Receives the number of an item and its result as soon as it is computed.

        Raises:
            TfldbgError: ``work`` raised it for the first item for which it raised an error; or a
                process ended repeatedly.
        """
        tasks = [Task(work, item, self.limits) for item in items]
        numbers = {self.submit(task): number for number, task in enumerate(tasks)}
        waiting: dict[int, tuple[Exception | None, Any]] = {}
        following = 0
        try:
            for future in as_completed(list(numbers)):
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
        workers: The number of processes of this machine; None or 1 for only this process.
        scheduler: The address of a Dask cluster.

    Yields:
        The pool, or None if this process is to do everything.

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
            yield Pool(lambda task: executor.submit(answer, task.packed()), count, limits())
    elif workers is None or workers == 1:
        yield None
    else:
        with closing(Processes(workers)) as processes:
            yield Pool(processes.submit, workers, limits().shared_by(workers))
