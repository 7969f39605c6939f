"""Slips on the command line: the message names the command that was meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tfldbg.cli.app import app
from tfldbg.errors import TfldbgError

ROOT = Path(__file__).resolve().parents[3] / "sample_models"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two .tflite files, a Keras model and data."""
    for name, other in (("a", "cnn.tflite"), ("b", "dense4.tflite"), ("q", "dense4.h5")):
        shutil.copy(ROOT / other, tmp_path / f"{name}{Path(other).suffix}")
    shutil.copy(ROOT / "digits.npz", tmp_path / "d.npz")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("trace a.tflite b.tflite", "tfldbg trace a.tflite --against b.tflite"),
        (
            "trace a.tflite b.tflite --samples 3",
            "tfldbg trace a.tflite --against b.tflite --samples 3",
        ),
        ("trace --samples 3 a.tflite q.h5", "tfldbg trace --samples 3 a.tflite --keras q.h5"),
        ("trace a.tflite gone.keras", "tfldbg trace a.tflite --keras gone.keras"),
        ("trace a.tflite d.npz", "tfldbg trace a.tflite --data d.npz"),
        ("trace q.h5 a.tflite", "tfldbg trace a.tflite --keras q.h5"),
        ("params a.tflite q.h5", "tfldbg params a.tflite --keras q.h5"),
        ("trace a.tflite --keras b.tflite", "tfldbg trace a.tflite --against b.tflite"),
        (
            "trace q.h5 --keras a.tflite --data d.npz",
            "tfldbg trace a.tflite --keras q.h5 --data d.npz",
        ),
        ("trace q.h5 --against a.tflite", "tfldbg trace a.tflite --keras q.h5"),
        ("trace q.h5", "tfldbg trace MODEL.tflite --keras q.h5"),
        ("params q.h5 --keras a.tflite", "tfldbg params a.tflite --keras q.h5"),
        ("trace a.tflite --keras q.h5 --keras=q.h5", "give --keras once"),
        ("trace a.tflite b.tflite q.h5", "tfldbg trace --help"),
        ("trace a.tflite nonsense", "tfldbg trace --help"),
        ("inspect a.tflite b.tflite", "tfldbg inspect --help"),
        ("inspect q.h5", "it is a Keras model"),
        ("trace a.tflite --fail-on snr>=30db", "did you mean sqnr?"),
    ],
)
def test_the_hint_names_what_was_meant(line: str, meant: str) -> None:
    with pytest.raises(TfldbgError) as caught:
        app(line.split())
    assert meant in str(caught.value.hint), caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("code", ["TFL022", "tfl22", "22", "TFL 22", "tfl-022", "tfl_22", "022"])
def test_a_code_is_found_however_it_is_written(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        app(["explain", *code.split()])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("TFL022 ")


@pytest.mark.parametrize("code", ["TFL0", "tfl999", "TFL", "foo", "22 23", "²"])
def test_a_code_that_does_not_exist(code: str) -> None:
    with pytest.raises(TfldbgError, match="there is no finding"):
        app(["explain", code])
