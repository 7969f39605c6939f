"""What a shell sees: help, completion, colours, widths."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tfldbg.cli.app import app
from tfldbg.cli.examples import EXAMPLES
from tfldbg.options.convert import Target

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
DRAW = """
from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.cli.console import report_console
from tfldbg.diagnose.locate import diagnose
from tfldbg.options.judge import Thresholds
from tfldbg.diagnose.result import Result
from tfldbg.report.document import build_document
from tfldbg.report.terminal import draw
made = evidence(operator(0, local=0.4), operator(1, local=40.0))
draw(build_document(Result(made, diagnose(made, Thresholds()))), report_console())
"""


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


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_ends_with_examples_that_can_be_parsed(name: str) -> None:
    done = _run("-m", "tfldbg", name, "--help", COLUMNS="100")
    assert done.returncode == 0
    for example in EXAMPLES[name]:
        assert example in done.stdout
        words = shlex.split(example.partition(" > ")[0])
        COMMANDS[name].make_context(name, words[2:])


def test_the_options_of_trace_are_grouped() -> None:
    done = _run("-m", "tfldbg", "trace", "--help", COLUMNS="100")
    panels = re.findall(r"╭─ ([^─]+) ─", done.stdout)
    assert panels == [
        "Arguments",
        "Options",
        "Reference",
        "Data and runtime",
        "Reports",
        "Judgement",
        "Output",
        "Additional measurements",
    ]
    alone = done.stdout.partition("Options ─")[2].partition("╰")[0]
    assert re.findall(r"--[a-z-]+", alone) == ["--help"]


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


def test_colours_are_for_terminals_alone_and_can_be_switched_off() -> None:
    assert "\x1b" not in _run("-c", DRAW).stdout
    assert "\x1b[1;31mDIVERGED" in _run("-c", DRAW, FORCE_COLOR="1").stdout
    plain = _run("-c", DRAW, FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[1mDIVERGED" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)


@pytest.mark.parametrize("width", [55, 60, 70])
def test_a_narrow_terminal_keeps_the_status(width: int) -> None:
    drawn = _run("-c", DRAW, FORCE_COLOR="1", NO_COLOR="1", COLUMNS=str(width)).stdout
    assert "origin" in drawn.split("findings")[0]


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


def test_a_narrow_terminal_wraps_and_a_pipe_does_not() -> None:
    narrow = _run("-c", DRAW, FORCE_COLOR="1", NO_COLOR="1", COLUMNS="60").stdout
    widths = [len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in narrow.splitlines()]
    assert max(widths) <= 60
    assert len(_run("-c", DRAW).stdout.splitlines()[0]) > 60
