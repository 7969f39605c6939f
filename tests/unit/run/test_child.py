"""Child processes run this package and nothing that lies in the working directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tfldbg.run.child import command


def test_the_child_looks_where_the_session_looks_but_for_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", ["", "/somewhere", "/python.zip"])
    start = command("tfldbg.run.worker", "a b")
    root = str(Path(command.__code__.co_filename).parents[2])
    assert repr([root, "/somewhere", "/python.zip"]) in start[2] and start[3:] == ["a b"]
