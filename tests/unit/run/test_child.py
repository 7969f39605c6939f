"""Child processes run this package and nothing that lies in the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfldbg.run.child import command

STOLEN = ("numpy", "json", "typing", "struct", "signal", "tfldbg", "ai_edge_litert", "tensorflow")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which modules lie that say so when they are run."""
    for name in STOLEN:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('ran')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_beside_the_model_is_not_run(hostile: Path) -> None:
    started = command("tfldbg.run.worker", str(os.getpid()), "0", "0")
    done = subprocess.run(started, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not (hostile / "ran").exists()
    subprocess.run([sys.executable, "-m", "json.tool"], stdin=subprocess.DEVNULL, check=False)
    assert (hostile / "ran").exists()  # python -m, which a child is not started with, does run it


def test_the_child_looks_where_the_session_looks_but_for_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", ["", "/somewhere", "/python.zip"])
    start = command("tfldbg.run.worker", "a b")
    root = str(Path(command.__code__.co_filename).parents[2])
    assert repr([root, "/somewhere", "/python.zip"]) in start[2] and start[3:] == ["a b"]
