"""The worked examples of the docs print what they say; renew them with --renew.

An example is a fenced block of language ``console``: lines that begin with ``$ `` are commands, the
rest is what they print.  They run one after the other, a page in a folder of its own, in which
``sample_models`` stands for the repository's.  A block of language ``python`` that begins with a
comment ``# name.py`` is a file of that folder.  The other ``python`` blocks of `PYTHON_PAGES` are
run as one program.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tfldbg.cli.app import main

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
NAMED = re.compile(r"# (\w+\.py)\n")
NUMBERS = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
NEEDS_NO_SHELL = re.compile(r"tfldbg [^;|&<>$]*")
BARS = re.compile(r"[▁▂▃▄▅▆▇█#]+( +[▁▂▃▄▅▆▇█#]+)*")
ALIKE = 0.9
"""Which of several equally bad operators is shown may differ between processors, little else."""
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "```console" in p.read_text())

PYTHON_PAGES = ("python", "extending")


def write_files(text: str, folder: Path) -> None:
    """Write the files that a page shows."""
    (folder / "sample_models").symlink_to(ROOT / "sample_models")
    for block in PYTHON.findall(text):
        if named := NAMED.match(block):
            (folder / named[1]).write_text(block)


def commands(block: str) -> Iterator[str]:
    """Yield the commands of a block, continued lines joined."""
    lines = iter(block.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
            yield command


def shape(text: str) -> str:
    """Drop what differs between machines: figures, and the widths and bars that follow."""
    plain = BARS.sub("#", NUMBERS.sub("#", re.sub(r"\bsame\b", "0", text)))
    return re.sub(r"[ ─\n]+", " ", plain).strip()


def verdicts(block: str) -> list[str]:
    """Return the lines that say what was found, and why."""
    heads = (
        "CLEAN",
        "DIVERGED",
        "EQUAL",
        "DIFFER",
        "FAILED",
        "why",
        "compounding:",
        "step by step:",
    )
    return [shape(line) for line in block.splitlines() if line.startswith(heads)]


def alike(one: str, other: str) -> float:
    """Return the share of words that two outputs have in common, in order."""
    return difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run a command in the folder of the page, and return what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def here(command: str) -> str:  # where TensorFlow is imported already
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        code: object = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        said, complaint = capfd.readouterr()
        assert code in (None, 0, 1), f"{command}\n{complaint}"
        return said

    def printed(command: str) -> str:
        said = here(command) if NEEDS_NO_SHELL.fullmatch(command) else _shell(command)
        return "".join(line.rstrip() + "\n" for line in said.splitlines())

    return printed


def _shell(command: str) -> str:
    words = re.sub(r"(^|; )tfldbg ", r"\1python3 -m tfldbg ", command)
    words = re.sub(r"(^|; )python3 ", rf"\1{sys.executable} ", words)
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"{command}\n{done.stderr}"
    return done.stdout


def _again(block: str, run: Callable[[str], str]) -> str:
    """Return the block with what its commands print now."""
    said = []
    source = block.splitlines()
    for command in commands(block):
        start = next(i for i, line in enumerate(source) if line.startswith("$ "))
        end = start
        while source[end].endswith("\\"):
            end += 1
        said += source[start : end + 1]
        source = source[end + 1 :]
        said.append(run(command).rstrip("\n"))
    return "\n".join(line for line in said if line) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_examples_print_what_the_page_says(
    page: Path, tmp_path: Path, run: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    text = page.read_text()
    if any("micro" in command for block in BLOCK.findall(text) for command in commands(block)):
        pytest.importorskip("tflite_micro", reason="TensorFlow Lite Micro is not installed here")
    write_files(text, tmp_path)
    renewed = BLOCK.sub(lambda m: f"```console\n{_again(m[1], run)}```", text)
    if request.config.getoption("--renew"):
        page.write_text(renewed)
    else:
        for old, new in zip(BLOCK.findall(text), BLOCK.findall(renewed), strict=True):
            assert verdicts(old) == verdicts(new)
            assert alike(shape(old), shape(new)) > ALIKE, new


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    write_files(text, tmp_path)
    program = "\n".join(block for block in PYTHON.findall(text) if not NAMED.match(block))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
