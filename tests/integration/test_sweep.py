"""Many models in one run: every one is a row, and no row is lost."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli import assert_error, tfldbg
from tfldbg import session, trace
from tfldbg.errors import RunError
from tfldbg.options.against import Against
from tfldbg.options.judge import Judge, Thresholds
from tfldbg.options.run_on import RunOn
from tfldbg.options.runtimes import Delegate
from tfldbg.session import sweeping
from tfldbg.store.rows import rows_path


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_model_is_a_row_and_the_figures_are_those_of_trace(
    samples: Path, tmp_path: Path
) -> None:
    models, out, js = tmp_path / "models", tmp_path / "r.csv", tmp_path / "r.json"
    models.mkdir()
    for name, source in (("a", "cnn_zeroed_bias"), ("b", "cnn"), ("d", "dense4")):
        shutil.copy(samples / f"{source}.tflite", models / f"{name}.tflite")
    (models / "c.tflite").write_text("no model")
    for name in ("a", "b", "c"):
        shutil.copy(samples / "cnn.h5", models / f"{name}.h5")
    options = ("--data", samples / "digits.npz", "--samples", 4)
    template = ("--keras", "{dir}/{stem}.h5")
    done = tfldbg("sweep", models / "*.tflite", *template, *options, "--csv", out, "--json", js)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert "1 clean, 1 diverged, 2 failed" in done.stdout.splitlines()[-1]
    rows = _rows(out)
    assert [r["verdict"] for r in rows] == ["diverged", "clean", "error", "error"]
    assert (rows[0]["first_op"], rows[0]["first_kind"]) == ("8", "CONV_2D")
    assert "is not a .tflite file" in rows[2]["message"] and rows[2]["hint"]
    assert "d.h5' does not exist" in rows[3]["message"]
    alone = trace(
        samples / "cnn.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=4,
    )
    last = alone.evidence.ops[-1].accumulated
    assert last is not None and float(rows[1]["output_rmse"]) == pytest.approx(last.rmse)
    assert float(rows[1]["output_sqnr_db"]) == pytest.approx(last.sqnr_db)
    assert len(json.loads(js.read_text())["rows"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "r.csv", "r.json"]


def test_a_delegate_is_for_every_model(samples: Path, tmp_path: Path) -> None:
    delegate = ("--delegate", "./none.so", "--delegate-option", "a=b")
    out = tmp_path / "r.csv"
    assert tfldbg("sweep", samples / "dense4.tflite", *delegate, "--csv", out).returncode == 2
    (row,) = _rows(out)
    assert row["message"] == "there is no delegate './none.so'"
    done = tfldbg("sweep", samples / "dense4.tflite", *delegate[2:], "--csv", out)
    assert_error(done, "the option 'a' is for a delegate", "--delegate PATH")


def test_seeds_draw_other_data_and_are_summed_up(samples: Path) -> None:
    done = tfldbg(
        "sweep", samples / "dense5_nobias_ptq.tflite", "--seeds", "0,1", "--samples", 4,
        "--runtime", "xnnpack", "--runtime", "reference", "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert [(r["seed"], r["runtime"]) for r in plain["rows"]] == [
        (0, "xnnpack"), (0, "reference"), (1, "xnnpack"), (1, "reference"),
    ]  # fmt: skip
    errors = {r["seed"]: r["figures"]["output_rmse"] for r in plain["rows"]}
    assert errors[0] != errors[1]
    spread = {(s["runtime"], s["figure"]): s for s in plain["spread"]}
    assert spread["reference", "output_rmse"]["min"] == min(errors.values())
    assert spread["reference", "output_rmse"]["max"] == max(errors.values())


def test_wrong_use_ends_before_anything_is_written(samples: Path, tmp_path: Path) -> None:
    model, out = samples / "cnn.tflite", tmp_path / "r.csv"
    assert_error(tfldbg("sweep"), "no models are given")
    assert_error(tfldbg("sweep", tmp_path / "*.tflite", "--csv", out), "matches no file")
    assert_error(tfldbg("sweep", model, "--csv", "a", "--json", "a"), "both write to 'a'")
    assert_error(tfldbg("sweep", model, "--csv", tmp_path), "is a folder")
    assert_error(tfldbg("sweep", model, "--csv", tmp_path / "no" / "r.csv"), "does not exist")
    copy = tmp_path / "m.tflite"
    copy.write_bytes(model.read_bytes())
    assert_error(tfldbg("sweep", copy, "--csv", copy), "would be overwritten")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_keeps_its_rows_and_the_old_file(
    samples: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "r.csv"
    kept = rows_path(out)
    out.write_text("of the last sweep")
    command = ("sweep", samples / "dense4.tflite", "--seeds", "0-999", "--samples", 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "tfldbg", *map(str, command), "--csv", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and not (kept.exists() and len(_kept(kept)) >= 2):
        time.sleep(0.05)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    rows = _kept(kept)
    assert len(rows) >= 2 and all(row["found"]["verdict"] == "clean" for row in rows)
    assert out.read_text() == "of the last sweep"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"interrupted after {len(rows)} of 1000 rows; the same command continues" in stderr
        assert "Traceback" not in stderr and "clean" in stdout
    known = session.kept_rows(out, Judge())
    found = [known.find(case) for case in _cases(samples, seeds=tuple(range(len(rows) + 1)))]
    assert sum(row is not None for row in found) in (len(rows), len(rows) + 1)


def test_a_row_that_is_kept_is_not_traced_again(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int | None] = []
    traced_by = sweeping.trace

    def counted(request: session.Request, *arguments: Any) -> Any:
        traced.append(request.run_on.seed)
        if request.run_on.seed == 2:
            raise RunError("for once")
        return traced_by(request, *arguments)

    def run(count: int, judge: Judge | None = None, **run_on: Any) -> list[Any]:
        traced.clear()
        kept = session.kept_rows(tmp_path / "r.csv", judge or Judge())
        cases = _cases(samples, seeds=tuple(range(count)), **run_on)
        return list(session.sweep(cases, judge=judge, kept=kept))

    monkeypatch.setattr(sweeping, "trace", counted)
    first = run(3)
    assert [r.verdict for r in first] == ["clean", "clean", "error"]
    with rows_path(tmp_path / "r.csv").open("ab") as file:
        file.write(b'\n{"key": "half a l')
    again = run(4)
    assert traced == [2, 3]  # the one that failed is tried again
    assert [(r.found, r.seconds) for r in again[:2]] == [(r.found, r.seconds) for r in first[:2]]
    strict = Judge(thresholds=Thresholds(local_lsb=0.1))
    assert run(1, strict)[0].found is not None and traced == [0]
    assert run(1, delegate=Delegate("./none.so")) and traced == [0]
    assert run(1) and traced == []
    assert [p.name for p in tmp_path.iterdir()] == [".r.csv.rows"]


def test_the_same_command_says_which_rows_it_takes_over(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    kept = session.kept_rows(out, Judge())
    (row,) = session.sweep(_cases(samples), kept=kept)
    command = ("sweep", samples / "dense4.tflite", "--samples", 1, "--seeds", "0,1", "--csv", out)
    done = tfldbg(*command)
    assert done.returncode == 0
    assert done.stderr == (
        "note: 1 of 2 rows are taken from an earlier, unfinished sweep; to trace them again, "
        f"delete '{rows_path(out)}'\n"
    )
    assert _rows(out)[0]["seconds"] == str(round(row.seconds, 3))
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]
    assert tfldbg(*command).stderr == ""  # a sweep that has finished is traced anew


def _cases(
    samples: Path, against: Against | None = None, seeds: tuple[int, ...] = (0,), **run_on: Any
) -> Any:
    model, options = str(samples / "dense4.tflite"), RunOn(samples=1, **run_on)
    return session.plan([session.Models(model, against or Against(), options, seeds)])


def _kept(path: Path) -> list[dict[str, Any]]:
    """Return the whole rows that a sweep has kept."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_a_bug_is_a_row_unless_it_is_looked_for(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(sweeping, "trace", broken)
    monkeypatch.delenv("TFLDBG_DEBUG", raising=False)
    (row,) = session.sweep(_cases(samples))
    assert row.verdict == "error" and row.error is not None
    assert row.error.message == "this is a bug in tfldbg: ZeroDivisionError: of ours"
    monkeypatch.setenv("TFLDBG_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        list(session.sweep(_cases(samples)))


def test_a_keras_model_is_loaded_once_for_the_rows_that_share_it(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = sweeping.load_frozen

    def counted(path: Path, **options: Any) -> Any:
        loaded.append(path)
        return load(path, **options)

    monkeypatch.setattr(sweeping, "load_frozen", counted)
    rows = list(session.sweep(_cases(samples, Against(keras="{dir}/{stem}.h5"), (0, 1))))
    assert [r.verdict for r in rows] == ["clean", "clean"]
    assert loaded == [samples / "dense4.h5"]
    assert {r.case.reference for r in rows} == {str(samples / "dense4.h5")}
