"""A small slice of the fuzz campaign: damaged files end in an exit code and words, nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from benchmarks.fuzz.__main__ import read, summary, table
from benchmarks.fuzz.case import signature
from benchmarks.fuzz.damage import damage_bytes
from benchmarks.fuzz.model import damage_tables


def test_damaged_files_end_in_words(tmp_path: Path) -> None:
    count, out = 130, tmp_path / "cases.jsonl"
    # A program of its own: every case is a fork, and a fork of a process in which TensorFlow keeps
    # its threads may wait for ever for a lock that one of them held.
    start = (sys.executable, "-m", "benchmarks.fuzz", "--count", str(count), "--seconds", "60")
    done = subprocess.run(
        [*start, "--keep", str(tmp_path / "kept"), "--out", str(out)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = read([out])
    failed = [f"case {c.number}: {signature(c.ending)}" for c in cases if not c.ending.sound]
    assert failed == []
    assert len(cases) == count
    assert {"exit 0", "exit 2"} <= {c.ending.outcome for c in cases}
    assert f"| **all** | {count} |" in table(cases)
    assert summary(cases).startswith(f"{count} runs, 0 failures")


def test_a_seed_decides_the_damage(samples: Path) -> None:
    data = (samples / "dense4.tflite").read_bytes()
    for damage in (damage_bytes, damage_tables):
        first, second = (damage(data, random.Random("1 2")) for _ in range(2))
        assert first == second
        assert first[1] != data
