"""The processes of a Dask cluster as a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any, TypeVar

from tfldbg.errors import MissingExtraError, RunError, UsageError
from tfldbg.run.child import Limits, limits
from tfldbg.session.pool import Pool, unloadable

Item = TypeVar("Item")
Made = TypeVar("Made")
_PATIENCE_S = 10
"""Seconds to wait for a scheduler to answer."""
_ONE_AT_A_TIME = Lock()
"""A worker of a cluster may have several threads, and loading a model changes what they share."""


@contextmanager
def dask_pool(address: str) -> Iterator[Pool]:
    """Connect with a scheduler, and leave it with the block.

    Args:
        address: For example ``tcp://10.0.0.1:8786``.

    Raises:
        MissingExtraError: Dask is not installed.
        UsageError: No scheduler answers there, or it has no workers.
    """
    try:
        dask: Any = import_module("distributed")
    except ImportError as error:
        raise MissingExtraError("--scheduler", "distributed", "distributed") from error
    try:
        client = dask.Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"no Dask scheduler answers at '{address}': {error}",
            hint="give the address that `dask scheduler` prints: --scheduler tcp://HOST:8786",
        ) from error
    with client:
        workers = len(client.nthreads())
        if not workers:
            raise UsageError(
                f"the Dask scheduler at '{address}' has no workers",
                hint=f"start some: dask worker {address}",
            )
        yield _DaskPool(dask, client, workers)


class _DaskPool:
    """The workers of a cluster.

    Args:
        dask: The package.
        client: Who knows the scheduler.
        workers: How many there are.
    """

    def __init__(self, dask: Any, client: Any, workers: int) -> None:
        self._dask, self._client, self.workers = dask, client, workers

    def limits(self) -> Limits:
        """Return what this session may: they are on other machines."""
        return limits()

    def each(
        self, work: Callable[[Item], Made], items: Sequence[Item]
    ) -> Iterator[tuple[int, Made]]:
        """Do something with every item; yield its number and what came of it, in any order.

        The scheduler gives what a lost worker was doing to another one.
        """
        futures = {
            self._client.submit(_alone, work, item, pure=False): number
            for number, item in enumerate(items)
        }
        try:
            for future in self._dask.as_completed(futures, loop=self._client.loop):
                try:
                    made = future.result()
                except self._dask.KilledWorker as error:
                    raise RunError(
                        f"workers ended again and again while they did the same: {error}",
                        hint="look at what the workers log; most often they lack memory",
                    ) from error
                except ModuleNotFoundError as error:
                    raise unloadable(error) from error
                yield futures[future], made
        finally:
            self._client.cancel(list(futures))


def _alone(work: Callable[[Item], Made], item: Item) -> Made:
    """Do one thing at a time in a process."""
    with _ONE_AT_A_TIME:
        return work(item)
