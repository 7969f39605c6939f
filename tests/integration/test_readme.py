"""The documentation is what the code does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from tfldbg.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
OUTPUT = re.compile(r"(<!-- output of the first command.*?-->\n```text\n)(.*?)(```)", re.DOTALL)
NAMES = (
    "trace",
    "params",
    "inspect",
    "convert",
    "expose",
    "kit",
    "import",
    "dump",
    "diff",
    "sweep",
    "report",
    "explain",
)
NUMBERS = re.compile(r"\d+(\.\d+)?")


def _blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_first_two_blocks_are_one_line_each() -> None:
    assert [block.count("\n") for block in _blocks()[:2]] == [1, 1]


def test_the_printed_table_is_what_the_command_prints(request: pytest.FixtureRequest) -> None:
    words = shlex.split(_blocks()[0].partition("{")[2].partition("||")[0])
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    printed = "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"
    if request.config.getoption("--renew"):
        text = OUTPUT.sub(lambda m: m[1] + printed + m[3], README.read_text())
        README.write_text(text)
    found = OUTPUT.search(README.read_text())
    assert found is not None

    # Float kernels differ a little between processors, so the figures are not compared.
    def shape(text: str) -> str:
        return re.sub(r"[ ─]+", " ", NUMBERS.sub("#", text))

    assert shape(found[2]) == shape(printed)


def _commands() -> dict[str, click.Command]:
    group = typer.main.get_command(app)
    return dict(group.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_documented(name: str) -> None:
    documentation = (ROOT / "docs" / "commands.md").read_text()
    section = documentation.split(f"## {name}\n")[1].split("\n## ")[0]
    for parameter in _commands()[name].params:
        for option in parameter.opts if parameter.param_type_name == "option" else []:
            assert f"`{option}" in section, f"{name} {option}"


def test_every_command_is_documented() -> None:
    assert set(_commands()) == set(NAMES)
    assert all(f"tfldbg {name}" in README.read_text() for name in _commands())


def test_every_threshold_is_documented() -> None:
    from dataclasses import fields

    from tfldbg.diagnose.model import Thresholds

    verdict = (ROOT / "docs" / "verdict.md").read_text()
    assert f"{Thresholds().local_lsb} LSB" in verdict
    assert len(fields(Thresholds)) == 6
