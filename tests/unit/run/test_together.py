"""What processes take together is one sum, and the largest pays for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from tfldbg.errors import RunError
from tfldbg.options.run_on import RunOn
from tfldbg.run import together
from tfldbg.run.child import Limits
from tfldbg.run.job import prepare
from tfldbg.run.litert import Runner

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the limit takes effect on Linux")


@dataclass
class Fake:
    """A process of a size."""

    number: int
    allowed: int | None
    crowded: int | None = None
    killed: bool = False

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize(
    ("sizes", "killed"),
    [((50, 40, 9), None), ((50, 40, 11), 0), ((40, 50, 20), 1), ((101,), None)],
)
def test_the_largest_is_ended_when_all_are_too_large(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], killed: int | None
) -> None:
    members = [Fake(number, 100) for number in range(len(sizes))]
    monkeypatch.setattr(together, "_members", members)
    monkeypatch.setattr(together, "_private_bytes", lambda number: sizes[number])
    together._check()
    assert [m.number for m in members if m.killed] == ([] if killed is None else [killed])
    assert all(m.crowded == (sum(sizes) if m.killed else None) for m in members)


@LINUX
def test_what_a_process_holds_alone_is_seen() -> None:
    script = "x = bytearray(50_000_000); x[::4096] = b'1' * len(x[::4096]); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 50_000_000 < together._private_bytes(process.pid) < 150_000_000
        process.kill()
    assert together._private_bytes(process.pid) == 0


@LINUX
def test_runners_share_one_limit(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.zeros((1, 28, 28, 1), np.float32)
    program = prepare(samples / "cnn.tflite", RunOn(data=data)).instrumented
    sample = [np.zeros((1, 28, 28, 1), np.int8)]
    with tfldbg.limited(memory=1.5), Runner(program) as first:
        first.run(sample)
        monkeypatch.setattr(together, "_private_bytes", lambda number: 1 << 30)
        with (
            pytest.raises(RunError, match=r"together, more than the limit of 1.5 GiB") as caught,
            Runner(program) as second,
        ):
            for _ in range(10_000):
                first.run(sample)
                second.run(sample)
        assert "take 2 GiB" in caught.value.message and "--memory-limit" in str(caught.value.hint)
    assert not together._members


def test_processes_of_one_machine_share_its_limit() -> None:
    assert Limits(memory=12).shared_by(3).memory == 4
