"""Many models in one run: every one is a row, and no row is lost."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli import assert_error, tfldbg
from tfldbg import session
from tfldbg.diagnose.model import Thresholds
from tfldbg.errors import RunError
from tfldbg.run.runtimes import Delegate
from tfldbg.session import sweeping
from tfldbg.session.cases import Request
from tfldbg.store.rows import rows_path


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_model_is_a_row_and_the_figures_are_those_of_trace(
    samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.tflite").write_text("no model")
    manifest, out, js = tmp_path / "m.csv", tmp_path / "r.csv", tmp_path / "r.json"
    manifest.write_text(
        "model,keras\n"
        f"{samples}/cnn_zeroed_bias.tflite,{samples}/cnn.h5\n"
        f"{samples}/cnn.tflite,{{dir}}/{{stem}}.h5\n"
        f"text.tflite,{samples}/cnn.h5\n"
        f"{samples}/dense4.tflite,none.h5\n"
    )
    options = ("--data", samples / "digits.npz", "--samples", 4)
    done = tfldbg("sweep", "--manifest", manifest, *options, "--csv", out, "--json", js)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert "1 clean, 1 diverged, 2 failed" in done.stdout.splitlines()[-1]
    rows = _rows(out)
    assert [r["verdict"] for r in rows] == ["diverged", "clean", "error", "error"]
    assert (rows[0]["first_op"], rows[0]["first_kind"]) == ("8", "CONV_2D")
    assert "is not a .tflite file" in rows[2]["message"] and rows[2]["hint"]
    assert "none.h5' does not exist" in rows[3]["message"]
    alone = session.trace(
        samples / "cnn.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=4,
    )
    last = alone.evidence.ops[-1].accumulated
    assert last is not None and float(rows[1]["output_rmse"]) == pytest.approx(last.rmse)
    assert float(rows[1]["output_sqnr_db"]) == pytest.approx(last.sqnr_db)
    assert len(json.loads(js.read_text())["rows"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m.csv", "r.csv", "r.json", "text.tflite",
    ]  # fmt: skip


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
    assert_error(tfldbg("sweep"), "nothing to sweep")
    assert_error(tfldbg("sweep", tmp_path / "*.tflite", "--csv", out), "matches no file")
    assert_error(tfldbg("sweep", model, "--csv", "a", "--json", "a"), "are both 'a'")
    assert_error(tfldbg("sweep", model, "--csv", tmp_path), "is a folder")
    assert_error(tfldbg("sweep", model, "--csv", tmp_path / "no" / "r.csv"), "cannot write")
    copy = tmp_path / "m.tflite"
    copy.write_bytes(model.read_bytes())
    assert_error(tfldbg("sweep", copy, "--csv", copy), "would be overwritten")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_keeps_its_rows_and_the_old_file(
    samples: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out, partial = tmp_path / "r.csv", tmp_path / "r.csv.partial"
    out.write_text("of the last sweep")
    command = ("sweep", samples / "dense4.tflite", "--seeds", "0-999", "--samples", 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "tfldbg", *map(str, command), "--csv", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and not (partial.exists() and len(_rows(partial)) >= 2):
        time.sleep(0.05)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    rows = _rows(partial)
    assert len(rows) >= 2 and all(r["verdict"] == "clean" for r in rows)
    assert out.read_text() == "of the last sweep"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"interrupted after {len(rows)} of 1000 rows; they are in {partial}" in stderr
        assert "Traceback" not in stderr and "clean" in stdout
    kept = session.kept_rows(out, session.Shared())
    known = [kept.find(case) for case in _cases(samples, seeds=tuple(range(len(rows) + 1)))]
    assert sum(row is not None for row in known) in (len(rows), len(rows) + 1)


def test_a_row_that_is_kept_is_not_traced_again(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int | None] = []
    trace = sweeping.trace

    def counted(*arguments: Any, **options: Any) -> Any:
        traced.append(options["seed"])
        if options["seed"] == 2:
            raise RunError("for once")
        return trace(*arguments, **options)

    def run(count: int, **changes: Any) -> list[Any]:
        traced.clear()
        kept = session.kept_rows(tmp_path / "r.csv", session.Shared(**changes))
        return list(session.sweep(_cases(samples, seeds=tuple(range(count))), kept=kept))

    monkeypatch.setattr(sweeping, "trace", counted)
    first = run(3)
    assert [r.verdict for r in first] == ["clean", "clean", "error"]
    with rows_path(tmp_path / "r.csv").open("ab") as file:
        file.write(b'\n{"key": "half a l')
    again = run(4)
    assert traced == [2, 3]  # the one that failed is tried again
    assert [(r.found, r.seconds) for r in again[:2]] == [(r.found, r.seconds) for r in first[:2]]
    assert run(1, thresholds=Thresholds(local_lsb=0.1))[0].found is not None and traced == [0]
    assert run(1, delegate=Delegate("./none.so")) and traced == [0]
    assert run(1) and traced == []
    assert [p.name for p in tmp_path.iterdir()] == [".r.csv.rows"]


def test_the_same_command_says_which_rows_it_takes_over(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    kept = session.kept_rows(out, session.Shared())
    (row,) = session.sweep(_cases(samples), kept=kept)
    (tmp_path / "r.csv.partial").write_text("of the sweep that did not finish")
    command = ("sweep", samples / "dense4.tflite", "--samples", 1, "--seeds", "0,1", "--csv", out)
    done = tfldbg(*command)
    assert done.returncode == 0
    assert done.stderr == (
        "note: 1 of 2 rows are those of an earlier sweep that did not finish; to trace them again, "
        f"delete '{rows_path(out)}'\n"
    )
    assert _rows(out)[0]["seconds"] == str(round(row.seconds, 3))
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]
    assert tfldbg(*command).stderr == ""  # a sweep that has finished is traced anew


def _cases(samples: Path, **options: Any) -> Any:
    given = Request(samples=1, **options)
    return session.plan(session.requests((str(samples / "dense4.tflite"),), None, given))


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
    rows = list(session.sweep(_cases(samples, keras="{dir}/{stem}.h5", seeds=(0, 1))))
    assert [r.verdict for r in rows] == ["clean", "clean"]
    assert loaded == [samples / "dense4.h5"]
    assert {r.case.reference for r in rows} == {str(samples / "dense4.h5")}
