"""What makes a test a unit test: it starts no process and loads no framework."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

_FRAMEWORKS = ("tensorflow", "tf_keras", "keras")


def _refuse(*_: object, **__: object) -> None:
    raise FileNotFoundError("a unit test starts no process; an integration test may")


def _loaded() -> set[str]:
    return {name for name in _FRAMEWORKS if sys.modules.get(name)}


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse to start a process, and fail a test that is the first to load a framework."""
    monkeypatch.setattr(subprocess.Popen, "__init__", _refuse)
    before = _loaded()
    yield
    assert _loaded() <= before, "a unit test loads no framework; an integration test may"
