"""Report files: refused before anything runs, and all of them written."""

from __future__ import annotations

import io
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.cli.reports import WRITTEN, check_reports, to_stdout, write_reports
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.errors import TfldbgError, UsageError
from tfldbg.options.judge import Thresholds
from tfldbg.options.reports import Reports

NAMES = [name for name in WRITTEN if name != "model_explorer"]
"""Those that a result alone is enough for; the node data of Model Explorer need the traced file."""


def _result() -> Result:
    made = evidence(operator(0, local=0.5))
    return Result(made, diagnose(made, Thresholds()))


def test_every_field_has_a_writer() -> None:
    assert {*WRITTEN, "dump", "dump_exact"} == {f.name for f in fields(Reports)}


def test_all_that_were_asked_for_are_written(tmp_path: Path) -> None:
    reports = Reports(**{name: str(tmp_path / name) for name in NAMES})
    check_reports(reports)
    write_reports(reports, _result())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(NAMES)
    assert all((tmp_path / name).read_text().strip() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stdout_takes_one_and_nothing_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    reports = Reports(**{name: "-"})
    check_reports(reports)
    write_reports(reports, _result())
    assert to_stdout(reports) and capsys.readouterr().out.strip()
    if name == "json":
        assert not to_stdout(Reports(csv="f"))
    other = next(n for n in NAMES if n != name)
    with pytest.raises(UsageError, match=f"--{other}.* both write to stdout|--{name}.*stdout"):
        check_reports(Reports(**{name: "-", other: "-"}))


def test_what_cannot_be_written_is_refused_early(tmp_path: Path) -> None:
    file, folder = tmp_path / "f", tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UsageError, match="--json and --csv both write to"):
        check_reports(Reports(json=str(file), csv=str(folder / ".." / "f")))
    with pytest.raises(UsageError, match="--dump and --junit both write to"):
        check_reports(Reports(junit=str(file), dump=str(file)))
    with pytest.raises(UsageError, match=r"the folder '.*no' does not exist"):
        check_reports(Reports(junit=str(tmp_path / "no" / "f")))
    with pytest.raises(UsageError, match="is a folder"):
        check_reports(Reports(markdown=str(folder)))


def test_nothing_that_is_read_is_overwritten(tmp_path: Path) -> None:
    model, arrays = tmp_path / "m.tflite", tmp_path / "arrays"
    arrays.mkdir()
    for path in (model, arrays / "x.npy"):
        path.write_text("read")
    (tmp_path / "link").symlink_to(model)
    for target in (model, arrays / "x.npy", tmp_path / "link"):
        with pytest.raises(UsageError, match="would be overwritten"):
            check_reports(Reports(csv=str(target)), None, str(model), 3, str(arrays))
    check_reports(Reports(csv=str(arrays / "new.csv")), str(model), str(arrays))


def test_the_files_beside_node_data_are_targets_too(tmp_path: Path) -> None:
    node_data, beside = tmp_path / "me.json", tmp_path / "me.status.json"
    with pytest.raises(UsageError, match="both write to"):
        check_reports(Reports(json=str(beside), model_explorer=str(node_data)))
    beside.write_text("rules")
    with pytest.raises(UsageError, match="would be overwritten"):
        check_reports(Reports(model_explorer=str(node_data)), str(beside))


def test_one_that_cannot_be_written_does_not_keep_the_others(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(TfldbgError, match="cannot write"):
        write_reports(Reports(json=str(gone / "x.json"), csv=str(tmp_path / "x.csv")), _result())
    assert (tmp_path / "x.csv").is_file()


def test_stdout_takes_utf_8_whatever_the_locale_says(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    made = evidence(replace(operator(0, local=0.5), name="net/Größe"))
    plain = io.TextIOWrapper(sys.stdout.buffer, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    write_reports(Reports(csv="-"), Result(made, diagnose(made, Thresholds())))
    plain.flush()
    assert "net/Größe".encode() in capfdbinary.readouterr().out
    plain.detach()
