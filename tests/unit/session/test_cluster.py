"""What is found out about a Dask cluster before it is given work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from tfldbg.errors import RunError, TfldbgError, UsageError
from tfldbg.session.cluster import connected


class KilledWorker(Exception):  # noqa: N818  (the name that Dask gives it)
    """Stands for the error of Dask."""


class Client:
    """Stands for the client of Dask.

    Args:
        lacking: Who has no tfldbg: "worker", "scheduler" or nobody.
        workers: The number of workers.
    """

    def __init__(self, lacking: str, workers: int) -> None:
        self._lacking, self._workers = lacking, [f"tcp://host:{n}" for n in range(workers)]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *details: object) -> None:
        pass

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self._workers, 1)

    def run(self, call: Callable[[str], Any], name: str) -> dict[str, Any]:
        found = dict.fromkeys(self._workers, call(name))
        return {**found, "tcp://host:1": None} if self._lacking == "worker" else found

    def run_on_scheduler(self, call: Callable[[str], Any], name: str) -> Any:
        return None if self._lacking == "scheduler" else call(name)

    def get_executor(self, pure: bool) -> Executor:
        assert not pure  # equal tasks would be done once
        return ThreadPoolExecutor(1)


def dask(monkeypatch: pytest.MonkeyPatch, lacking: str = "", workers: int = 2) -> None:
    """Let a client stand for a cluster."""
    client = Client(lacking, workers)
    module = SimpleNamespace(Client=lambda *_, **__: client, KilledWorker=KilledWorker)
    monkeypatch.setitem(sys.modules, "distributed", module)


def test_a_cluster_is_an_executor_with_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    dask(monkeypatch)
    with connected("tcp://host:8786") as (executor, workers):
        assert (workers, executor.submit(abs, -1).result()) == (2, 1)


@pytest.mark.parametrize(
    ("lacking", "workers", "words"),
    [
        ("", 0, "has no workers"),
        ("worker", 2, "without tfldbg"),
        ("scheduler", 2, "without tfldbg"),
    ],
)
def test_a_cluster_that_cannot_do_the_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, lacking: str, workers: int, words: str
) -> None:
    dask(monkeypatch, lacking, workers)
    with (
        pytest.raises(UsageError, match=f"'tcp://host:8786'.*{words}"),
        connected("tcp://host:8786"),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (KilledWorker("a task"), RunError, "workers ended repeatedly"),
        (CancelledError(), RunError, "'tcp://host:8786' was lost"),
        (UsageError("of the work"), UsageError, "of the work"),
    ],
)
def test_the_end_of_a_cluster_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[TfldbgError], words: str
) -> None:
    dask(monkeypatch)
    with pytest.raises(raised, match=words), connected("tcp://host:8786"):
        raise error
