"""The documentation is what the code does."""

from __future__ import annotations

import difflib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import typer
from rich.console import Console
from rich.text import Text

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
    "view",
    "explain",
    "schema",
    "cache",
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


PICTURE = ROOT / "docs" / "pictures" / "trace.svg"
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<desc>Drawn by: python3 -m pytest tests/integration/test_readme.py --renew</desc>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""
"""rich's own, without the fonts that it would fetch."""


def _draw_picture(words: list[str]) -> None:
    """Run the README's first command as in a terminal, and keep the screen."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "104", "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    console = Console(record=True, width=104, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(done.stdout), soft_wrap=False)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(
        console.export_svg(title="tfldbg trace", code_format=SVG, unique_id="tfldbg")
    )


def test_the_picture_shows_what_the_command_prints(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--renew"):
        _draw_picture(shlex.split(_blocks()[0].partition("{")[2].partition("||")[0]))
    drawn = ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")
    words = " ".join("".join(text.itertext()).replace("\xa0", " ") for text in drawn).split()
    found = OUTPUT.search(README.read_text())
    assert found is not None
    printed = found[2].split()
    shapes = [[NUMBERS.sub("#", w) for w in some if w.strip("─")] for some in (words, printed)]
    assert difflib.SequenceMatcher(None, *shapes, autojunk=False).ratio() > 0.95
    assert "docs/pictures/trace.svg" in README.read_text()
    assert "http" not in PICTURE.read_text().replace("http://www.w3.org/2000/svg", "")


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


TEXTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
MENTION = re.compile(r"\btfldbg (?P<name>[a-z]+)\b(?P<rest>(?:[^`\n]|\\\n)*)")


@pytest.mark.parametrize("text", TEXTS, ids=lambda p: p.stem)
def test_every_option_that_the_docs_mention_exists(text: Path) -> None:
    commands = _commands()
    code = re.findall(r"```.*?```|`[^`\n]+`", text.read_text(), re.DOTALL)
    mentions = [m for block in code for m in MENTION.finditer(block) if m["name"] in commands]
    for mention in mentions:
        known = {o for p in commands[mention["name"]].params for o in (*p.opts, *p.secondary_opts)}
        # What follows a pipe, or stands in quotes, is another program's.
        own = re.sub(r"'[^']*'|\"[^\"]*\"", "", mention["rest"].partition("|")[0])
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", own):
            assert option in known | {"--help"}, mention[0]


def test_every_threshold_is_documented() -> None:
    from dataclasses import fields

    from tfldbg.options.judge import Thresholds

    verdict = (ROOT / "docs" / "verdict.md").read_text()
    assert f"{Thresholds().local_lsb} LSB" in verdict
    assert len(fields(Thresholds)) == 6
