"""Metrics by name: entry points, functions, and what is wrong with a name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfldbg.errors import PluginError, UsageError
from tfldbg.measures.own.find import find_metrics
from tfldbg.plugins import METRICS, load_plugin

ENTRY_POINTS = """[tfldbg.metrics]
psnr = my_metrics_of_a_test:psnr
broken = my_metrics_of_a_test:nothing
number = my_metrics_of_a_test:NUMBER
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that offers metrics."""
    (tmp_path / "my_metrics_of_a_test.py").write_text(
        "NUMBER = 3\ndef psnr(reference, tflite):\n    return 40.0\n"
        "class Group:\n    psnr = staticmethod(psnr)\n"
    )
    (tmp_path / "broken_metrics_of_a_test.py").write_text("import no_such_module_anywhere\n")
    information = tmp_path / "my_metrics-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-metrics\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_metrics_of_a_test", None)


def test_an_entry_point_is_found_by_its_name(package: Path) -> None:
    assert load_plugin(METRICS, "psnr")(None, None) == 40.0
    assert list(find_metrics(["psnr"])) == ["psnr"]


def test_a_function_is_found_by_module_and_name(package: Path) -> None:
    assert list(find_metrics(["my_metrics_of_a_test:Group.psnr"])) == ["psnr"]
    assert find_metrics("my_metrics_of_a_test:psnr")["psnr"](None, None) == 40.0  # type: ignore[arg-type]


def test_modules_of_the_working_directory_are_found_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "local_metrics_of_a_test.py").write_text("def one(reference, tflite): return 1\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [*before])
    for _ in range(2):
        assert load_plugin(METRICS, "local_metrics_of_a_test:one")(0, 0) == 1
    assert sys.path == [*before, str(tmp_path)]


def test_an_unknown_name_lists_those_that_there_are(package: Path) -> None:
    with pytest.raises(UsageError, match=r"no installed package has an entry point 'psrn'.*'psnr'"):
        load_plugin(METRICS, "psrn")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "cannot load 'broken': AttributeError"),
        ("number", "'number' is of type int, expected a function"),
        ("no_module_of_this_name:f", "cannot load .*: ModuleNotFoundError"),
        ("broken_metrics_of_a_test:f", "no_such_module_anywhere"),
        ("my_metrics_of_a_test:f", "cannot load .*: AttributeError"),
        (":", "cannot load ':': ValueError"),
    ],
)
def test_what_cannot_be_loaded_is_said(name: str, said: str, package: Path) -> None:
    with pytest.raises(PluginError, match=said):
        load_plugin(METRICS, name)


def test_two_metrics_of_one_name_are_refused(package: Path) -> None:
    with pytest.raises(UsageError, match="two metrics have the name 'psnr'"):
        find_metrics(["psnr", "my_metrics_of_a_test:psnr"])
    assert len(find_metrics(["psnr", "psnr"])) == 1


def test_what_is_no_function_is_refused() -> None:
    assert find_metrics(None) == {}
    with pytest.raises(UsageError, match="the metric 'psnr' is of type float, expected a function"):
        find_metrics({"psnr": 40.0})  # type: ignore[dict-item]


def test_a_module_that_exits_does_not_end_the_trace_as_if_all_were_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exiting_metrics_of_a_test.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="SystemExit: 0"):
        load_plugin(METRICS, "exiting_metrics_of_a_test:one")
