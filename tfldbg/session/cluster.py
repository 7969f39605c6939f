"""The workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tfldbg.errors import MissingExtraError, RunError, UsageError

_PATIENCE_S = 10
"""The seconds to wait for a scheduler to answer."""


@contextmanager
def connected(address: str) -> Iterator[tuple[Executor, int]]:
    """Connect to a scheduler, and disconnect at the end of the block.

    The task of a lost worker is given to another worker.

    Args:
        address: The address, for example ``tcp://10.0.0.1:8786``.

    Yields:
        The cluster as an executor, and the number of its workers.

    Raises:
        MissingExtraError: Dask is not installed.
        UsageError: No scheduler answers, it has no workers, or tfldbg is not installed there.
        RunError: The workers or the scheduler ended.
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
        workers = _checked(client, address)
        try:
            yield client.get_executor(pure=False), workers
        except dask.KilledWorker as error:
            raise RunError(
                f"workers ended repeatedly on the same task: {error}",
                hint="read the logs of the workers; most often they lack memory",
            ) from error
        except CancelledError as error:
            raise RunError(
                f"the Dask scheduler at '{address}' was lost",
                hint="read its log, start it again and repeat the command",
            ) from error


def _checked(client: Any, address: str) -> int:
    """Return the number of workers, after checking that they can do the work.

    Raises:
        UsageError: There are no workers, or tfldbg is not installed everywhere.  (A worker without
            it would end, and its task would never be done.)
    """
    workers = len(client.nthreads())
    if not workers:
        raise UsageError(
            f"the Dask scheduler at '{address}' has no workers",
            hint=f"start some: dask worker {address}",
        )
    installed = client.run(find_spec, "tfldbg").values()
    if None in (client.run_on_scheduler(find_spec, "tfldbg"), *installed):
        raise UsageError(
            f"the Dask scheduler at '{address}', or one of its workers, runs without tfldbg",
            hint="install the same version there: python3 -m pip install 'tfldbg[distributed]'",
        )
    return workers
