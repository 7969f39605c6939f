"""Processes that cannot be started."""

from __future__ import annotations

import pytest

from tfldbg.run import process
from tfldbg.run.process import WorkerProcess, new_process, started_ahead


def _waiting() -> WorkerProcess | None:
    ahead = process._AHEAD.get()
    assert ahead is not None
    return ahead.waiting


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
