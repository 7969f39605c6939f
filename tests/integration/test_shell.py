"""What a shell sees: completion, streams that are closed or full, exit codes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tfldbg.cli.app import app
from tfldbg.options.convert import Target

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**plain, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        check=False,
    )


def _completed(line: str) -> list[str]:
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    done = _run(
        "-c",
        "import sys; sys.argv = ['tfldbg']; from tfldbg.cli.app import main; main()",
        _TFLDBG_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
    )
    return done.stdout.split()


def test_completion_knows_commands_options_and_values() -> None:
    assert set(_completed("tfldbg ")) == set(COMMANDS)
    assert "--runtime" in _completed("tfldbg trace --ru")
    assert _completed("tfldbg trace --runtime ") == [
        "xnnpack",
        "builtin",
        "reference",
        "tf",
        "micro",
    ]
    assert "TFL022" in _completed("tfldbg explain TFL02")


def test_completed_types_exist() -> None:
    kinds = _completed("tfldbg convert x -o y --type ")
    assert len(kinds) == 6
    assert all(Target(kind) for kind in kinds)


def test_a_reader_that_has_seen_enough_is_an_error_and_no_verdict() -> None:
    command = f"{sys.executable} -m tfldbg explain | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_stdout_is_said() -> None:
    command = f"{sys.executable} -m tfldbg explain > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write the output: No space left")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_closed_streams_leave_the_exit_code(closed: str) -> None:
    run = ["bash", "-c", f"{sys.executable} -m tfldbg explain TFL022 {closed}"]
    assert subprocess.run(run, capture_output=True, check=False).returncode == 0
    run = ["bash", "-c", f"{sys.executable} -m tfldbg explain nothing {closed}"]
    assert subprocess.run(run, capture_output=True, check=False).returncode == 2
