"""How the samples of a trace are divided among processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.run import status
from tfldbg.run.child import limited
from tfldbg.session import measuring
from tfldbg.session.measuring import _ranges, _workers, work_of


@given(st.integers(1, 20_000), st.integers(1, 40), st.integers(1, 9))
def test_parts_follow_each_other_and_begin_where_units_do(
    count: int, unit: int, wanted: int
) -> None:
    parts = _ranges(count, unit, wanted)
    assert [n for part in parts for n in part] == list(range(count))
    assert all(part.start % unit == 0 and part for part in parts)
    assert max(map(len, parts)) <= measuring._MOST + unit
    assert len(parts) == min(-(-count // unit), max(wanted, -(-count // measuring._MOST)))


def _ready(samples: int, steps: int = 1, elements: int = 1000, **more: Any) -> Any:
    tensors = [SimpleNamespace(elements=elements)]
    job = SimpleNamespace(
        samples=SimpleNamespace(count=samples, stream_steps=steps),
        subgraph=SimpleNamespace(tensors=tensors),
        loaded=SimpleNamespace(data=b"x" * 1000),
        instrumented=None,
        values=samples * elements,
    )
    named = {"in_batches": False, "watched": {}, "bodies": None, **more}
    return SimpleNamespace(
        bench=SimpleNamespace(job=job),
        watched=named["watched"],
        bodies=named["bodies"],
        plan=SimpleNamespace(subgraph=job.subgraph, read=range(len(tensors))),
        reference=SimpleNamespace(batch=None, in_batches=named["in_batches"]),
    )


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("run", "workers"),
    [
        ({"samples": 9}, 1),
        ({"samples": 64, "elements": 1_300_000}, 1),
        ({"samples": 80, "elements": 1_300_000}, 2),
        ({"samples": 4000, "elements": 1_000_000}, 8),
        ({"samples": 1000, "elements": 1_000_000, "steps": 500}, 2),
    ],
)
def test_there_are_as_many_workers_as_pay_off(
    eight: None, run: dict[str, int], workers: int
) -> None:
    assert _workers(_ready(**run).bench.job) == workers


def test_memory_limits_the_workers(eight: None) -> None:
    gigabytes = _ready(1000, elements=1 << 27)  # five networks of half a GiB each
    with limited(memory=9):
        assert _workers(gigabytes.bench.job) == 3
    with limited(memory=0.1):
        assert _workers(gigabytes.bench.job) == 1


def test_a_process_that_shares_a_machine_with_others_takes_one_processor(
    eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_own", object())
    assert _workers(_ready(1000, elements=10**6).bench.job) == 1


@pytest.mark.parametrize("kept", [{"bodies": object()}, {"watched": {"steps": object()}}])
def test_what_only_the_session_can_measure_is_no_work_for_others(kept: dict[str, Any]) -> None:
    assert work_of(_ready(10, **kept)) is None
    assert work_of(_ready(10, watched={"pictures": object()})) is not None


def test_what_is_faster_in_batches_is_measured_in_batches() -> None:
    one, several = work_of(_ready(10)), work_of(_ready(10, in_batches=True))
    assert one is not None and several is not None
    assert (one.batch, several.batch) == (1, 10)
