"""Random words on the command line: every one of them ends with an exit code and a message."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfldbg.cli.app import app
from tfldbg.errors import TfldbgError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
_SAMPLES = ("dense4.tflite", "digits.npz", "faults.json")
"""Copied for each test: a random line may well name one of them as what to write."""
_PLACES = [*_SAMPLES, "nothing.tflite", "nothing.h5", ".", "", "-", "/dev/null"]
_WORDS = ["-1", "0", "1", "2.5", "nan", "1e999", "9" * 30, "sqnr>=30db", "a=b", "=", "{seed}", "*"]
_VALUES = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from(_PLACES),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
)
_NOT_HERE = {"convert", "view", "sweep"}
"""They start another process, a server, or run whatever is given; their options are the others'."""


def _options(name: str) -> list[tuple[str, bool]]:
    """Return the options of a command, and whether they take a value."""
    found = []
    for parameter in COMMANDS[name].params:
        long = [o for o in parameter.opts if o.startswith("--")]
        if long and long[0] not in ("--help", "--keras", "--reference", "--metric"):
            found.append((long[0], not parameter.is_flag))
    return found


@st.composite
def _lines(draw: st.DrawFn, name: str) -> list[str]:
    """Draw the words behind a command: its arguments, and some of its options."""
    count = sum(p.param_type_name == "argument" for p in COMMANDS[name].params)
    line = draw(st.lists(st.sampled_from(_PLACES), min_size=count, max_size=count))
    known = _options(name)
    for option, takes_value in draw(st.lists(st.sampled_from(known), max_size=4)) if known else ():
        line += [option, draw(_VALUES)] if takes_value else [option]
    return line


def _run(words: list[str]) -> tuple[int, str]:
    """Return the exit code and what was printed; anything but our own errors is raised."""
    code = 0
    with Path("printed").open("w+") as printed:
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                app(words)
        except TfldbgError as error:
            return error.exit_code, error.message
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 2
        printed.seek(0)
        return code, printed.read()


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - _NOT_HERE))
def test_random_words_end_in_an_exit_code_and_a_message(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for sample in _SAMPLES:
        shutil.copy(ROOT / "sample_models" / sample, tmp_path)

    @settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
    @given(_lines(name))
    def check(line: list[str]) -> None:
        code, said = _run([name, *line])
        assert code in (0, 1, 2)
        assert code == 0 or said.strip()

    check()
