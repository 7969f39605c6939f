"""Processes that are started before it is known what they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfldbg.options.run_on import RunOn
from tfldbg.run import process
from tfldbg.run.child import limited
from tfldbg.run.job import prepare
from tfldbg.run.litert import Runner
from tfldbg.run.process import WorkerProcess, new_process, started_ahead


def _alive(worker: WorkerProcess) -> bool:
    return worker.popen.poll() is None


def _waiting() -> WorkerProcess | None:
    ahead = process._AHEAD.get()
    assert ahead is not None
    return ahead.waiting


def test_one_waits_until_all_have_been_taken() -> None:
    with started_ahead(2):
        first = _waiting()
        assert first is not None and new_process("builtin") is first
        second = _waiting()
        assert second is not None and new_process("xnnpack") is second
        assert _alive(first) and _alive(second) and _waiting() is None
        third = new_process("builtin")
        assert third not in (first, second)
    for taken in (first, second, third):
        assert _alive(taken)
        taken.close()
        assert not _alive(taken)


def test_the_one_that_nobody_took_is_ended() -> None:
    with started_ahead(2):
        waiting = _waiting()
        assert waiting is not None and _alive(waiting)
    assert not _alive(waiting) and process._AHEAD.get() is None


def test_one_that_has_died_meanwhile_is_not_taken() -> None:
    with started_ahead(1):
        waiting = _waiting()
        assert waiting is not None
        waiting.end()
        other = new_process("builtin")
        assert other is not waiting and _alive(other)
        other.close()


def test_one_that_does_not_fit_is_left_alone() -> None:
    with started_ahead(1):
        waiting = _waiting()
        others = [new_process("micro"), new_process("tf")]
        with limited(memory=1):
            others.append(new_process("builtin"))
        with limited(timeout=7):
            others.append(new_process("builtin"))
        assert waiting is not None and waiting is _waiting() and waiting not in others
        for other in others:
            other.close()


def test_where_none_can_be_started_the_one_that_is_needed_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("too many processes")

    monkeypatch.setattr(process.subprocess, "Popen", full)
    with started_ahead(3):
        assert _waiting() is None
        with pytest.raises(OSError, match="too many"):
            new_process("builtin")


def test_it_computes_the_same(samples: Path) -> None:
    job = prepare(samples / "cnn.tflite", RunOn(samples=1))
    with Runner(job.instrumented) as runner:
        expected = runner.run(job.samples.codes(0))
    with started_ahead(1), Runner(job.instrumented) as runner:
        assert _waiting() is None
        found = runner.run(job.samples.codes(0))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
