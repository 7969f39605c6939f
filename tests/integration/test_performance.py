"""The benchmarks still work.  What they measure is never asserted: the machine is shared."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _table(module: str, *options: str) -> list[list[str]]:
    """Run a benchmark; return the rows of its table, cells as text."""
    command = [sys.executable, "-m", f"benchmarks.performance.{module}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("alone", [(), ("--alone",)])
def test_the_cost_of_a_sample(alone: tuple[str, ...], tmp_path: Path) -> None:
    few = ("--few", "1", "--many", "3", "--repeat", "1")
    (row,) = _table("cost", str(tmp_path), "cnn", *few, *alone)
    assert row[0] == "cnn"
    assert all(math.isfinite(float(cell)) for cell in row[1:4])  # noise may even make it 0


def test_the_cost_before_the_first_sample(tmp_path: Path) -> None:
    rows = _table("startup", str(tmp_path), "--model", "cnn", "--repeat", "1")
    assert len(rows) == 5
    assert all(float(row[1]) > 0 for row in rows)


def test_the_cost_of_rewriting(tmp_path: Path) -> None:
    rows = _table("rewriting", "--megabytes", "1", "--repeat", "1")
    assert float(rows[0][2]) > 0
    assert [row[0] for row in rows if row[0].isdigit()] == ["100", "500", "2000"]


def test_the_naive_script_runs(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.performance.peer",
        "naive",
        str(tmp_path),
        "cnn",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
