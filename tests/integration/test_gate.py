"""Rules, reports and exit codes, from the command line and on a recording."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import Result as Ran
from typer.testing import CliRunner

import tfldbg
from tests.schema import assert_documented
from tfldbg.cli.app import app

BROKEN = 5


@pytest.fixture(scope="module")
def recording(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of the sample whose operator 5 has a negated channel."""
    path = tmp_path_factory.mktemp("gate") / "run.h5"
    tfldbg.trace(
        samples / "cnn_negated_channel.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=4,
        dump=path,
    )
    return path


def _run(*arguments: object) -> Ran:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_rules_decide_the_exit_code_of_a_recording(recording: Path) -> None:
    assert _run("report", recording).exit_code == 1
    lenient = _run("report", recording, "--fail-on", "local<=999lsb")
    assert lenient.exit_code == 0
    assert lenient.stdout.startswith("DIVERGED: operator 5 CONV_2D")
    assert "gate: passed 1 rule: local<=999lsb" in lenient.stdout
    strict = _run("report", recording, "--fail-on", "local<=999lsb", "--fail-on", "diverged")
    assert strict.exit_code == 1
    assert "gate: FAILED 1 of 2 rules in 1 place: diverged" in strict.stdout


def test_one_run_writes_everything(recording: Path, tmp_path: Path) -> None:
    tolerances = tmp_path / "t.toml"
    tolerances.write_text('["*"]\nlocal.max_lsb = 1\n\n[CONV_2D]\nlocal.max_lsb = 0.1\n')
    names = {name: tmp_path / name for name in ("json", "csv", "junit", "markdown")}
    options = [part for name, path in names.items() for part in (f"--{name}", path)]
    done = _run("report", recording, "--tolerances", tolerances, *options)
    assert done.exit_code == 1
    plain = json.loads(names["json"].read_text())
    assert_documented(plain)
    kinds = {op["op"]: op["kind"] for op in plain["ops"]}
    broken = [b["op"] for b in plain["gate"]["broken"]]
    assert BROKEN in broken and broken == [op for op in kinds if kinds[op] == "CONV_2D"]
    failed = ET.parse(names["junit"]).getroot().findall(".//failure/..")
    assert [int(case.attrib["name"].split()[0]) for case in failed] == broken
    assert "gate FAILED" in names["markdown"].read_text().splitlines()[0]
    assert names["csv"].read_text().count("\n") == 1 + len(plain["ops"])


def test_wrong_rules_are_refused_before_the_trace_runs(samples: Path, tmp_path: Path) -> None:
    model, dump = samples / "cnn.tflite", tmp_path / "run.h5"
    for wrong, said in (
        (("--fail-on", "CONV2D:local<=1"), "matches no operator of the file"),
        (("--fail-on", "snr>=1"), "there is no metric 'snr'"),
        (("--tolerances", tmp_path / "no.toml"), "do not exist"),
        (("--json", tmp_path / "no" / "f.json"), "does not exist"),
        (("--json", "-", "--csv", "-"), "both write to stdout"),
        (("--csv", dump), "--dump and --csv both write"),
        (("--junit", model), "would be overwritten"),
    ):
        done = _run("trace", model, "--dump", dump, *wrong)
        assert isinstance(done.exception, tfldbg.UsageError)
        assert said in done.exception.message and done.exception.hint
        assert done.stdout == ""
    assert not dump.exists()


def test_the_schema_is_printed() -> None:
    assert json.loads(_run("schema").stdout)["title"] == "tfldbg.trace"
