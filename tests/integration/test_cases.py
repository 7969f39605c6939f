"""Small inputs with the right answer for each, beside the checkout where it has them.

They run in this process, one after the other, but for those that need an environment of their own.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tfldbg.errors import TfldbgError

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "cases"


def _cases() -> list[dict[str, str]]:
    table = FOLDER / "cases.tsv"
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


CASES = _cases()


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    """What tells whether an outcome is as expected."""
    spec = importlib.util.spec_from_file_location("cases_run", FOLDER / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not CASES, reason="the cases are not part of the product and not here")
@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_the_answer_is_right(
    case: dict[str, str],
    judge: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(FOLDER / case["id"])
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    run = _outcome(case, tmp_path, capfd)
    assert not judge.short(run, json.loads(case["expect"])), (run["out"][-2000:], run["err"])


def _outcome(
    case: dict[str, str], folder: Path, captured: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    for command in case["command"].replace("{tmp}", str(folder)).split(" && "):
        arguments = shlex.split(command)
        if arguments[0] in ("trace", "diff") and "--json" not in arguments:
            arguments += ["--json", "-"]
        if case["env"]:
            code, out, err = _in_a_process(arguments, case["env"])
        else:
            code, out, err = _here(arguments, captured)
        if code != 0:
            break
    try:
        report = json.loads(out)
    except ValueError:
        report = None
    plain = report if isinstance(report, dict) else None
    return {"rc": code, "out": out, "err": err, "json": plain}


def _here(arguments: list[str], captured: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    from tfldbg.cli.app import app

    captured.readouterr()
    code, said = 0, ""
    try:
        app(arguments)
    except TfldbgError as error:
        code, said = error.exit_code, f"error: {error.message}\nhint: {error.hint}\n"
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    out, err = captured.readouterr()
    return code, out, err + said


def _in_a_process(arguments: list[str], variables: str) -> tuple[int, str, str]:
    environment = dict(pair.split("=", 1) for pair in variables.split())
    done = subprocess.run(
        [sys.executable, "-m", "tfldbg", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
