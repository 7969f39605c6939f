"""Processes that cannot be started."""

from __future__ import annotations

import pytest

from tfldbg.run import process
from tfldbg.run.process import one_process, shared_hosts


def test_where_none_can_be_started_the_one_that_is_needed_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("too many processes")

    monkeypatch.setattr(process.subprocess, "Popen", full)
    with one_process():
        hosts = shared_hosts()
        assert hosts is not None
        with pytest.raises(OSError, match="too many"):
            hosts.host()
