"""What is printed: help, colours, widths, errors."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg import session
from tfldbg.cli.app import app, main
from tfldbg.cli.console import report_console
from tfldbg.cli.examples import EXAMPLES
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.options.judge import Thresholds
from tfldbg.report.document import build_document
from tfldbg.report.terminal import draw

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what a command prints as its help, 100 columns wide."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(name: str) -> str:
        with pytest.raises(SystemExit) as leaving:
            app([name, "--help"])
        assert leaving.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the report of a divergence as an environment has it; stdout is no terminal."""
    made = evidence(operator(0, local=0.4), operator(1, local=40.0))

    def run(**environment: str) -> str:
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        draw(build_document(Result(made, diagnose(made, Thresholds()))), report_console())
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_ends_with_examples_that_can_be_parsed(name: str, helped: Any) -> None:
    printed = helped(name)
    for example in EXAMPLES[name]:
        assert example in printed
        words = shlex.split(example.partition(" > ")[0])
        COMMANDS[name].make_context(name, words[2:])


def test_the_options_of_trace_are_grouped(helped: Any) -> None:
    printed = helped("trace")
    panels = re.findall(r"╭─ ([^─]+) ─", printed)
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
    alone = printed.partition("Options ─")[2].partition("╰")[0]
    assert re.findall(r"--[a-z-]+", alone) == ["--help"]


def test_colours_are_for_terminals_alone_and_can_be_switched_off(drawn: Any) -> None:
    assert "\x1b" not in drawn()
    assert "\x1b[1;31mDIVERGED" in drawn(FORCE_COLOR="1")
    plain = drawn(FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[1mDIVERGED" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)


@pytest.mark.parametrize("width", [55, 60, 70])
def test_a_narrow_terminal_keeps_the_status(width: int, drawn: Any) -> None:
    printed = drawn(FORCE_COLOR="1", NO_COLOR="1", COLUMNS=str(width))
    assert "origin" in printed.split("findings")[0]


def test_a_narrow_terminal_wraps_and_a_pipe_does_not(drawn: Any) -> None:
    narrow = drawn(FORCE_COLOR="1", NO_COLOR="1", COLUMNS="60")
    widths = [len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in narrow.splitlines()]
    assert max(widths) <= 60
    assert len(drawn().splitlines()[0]) > 60


def test_too_little_memory_is_said_in_words(
    samples: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(session, "trace", refuse)
    monkeypatch.setattr("tfldbg.cli.app._end_in_order", lambda: None)  # this process is pytest
    monkeypatch.setattr(sys, "argv", ["tfldbg", "trace", str(samples / "dense4.tflite")])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    said = " ".join(capfd.readouterr().err.split())
    assert said.startswith("error: there is not enough memory for these files")
    assert "hint: use fewer samples" in said
