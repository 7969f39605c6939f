"""Child processes: started in advance, within limits, and running nothing but this package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from tfldbg.errors import RunError
from tfldbg.options.run_on import RunOn
from tfldbg.run import process, together
from tfldbg.run.child import command, limited
from tfldbg.run.job import prepare
from tfldbg.run.litert import Runner
from tfldbg.run.process import WorkerProcess, new_process, started_ahead

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the limit takes effect on Linux")


def _alive(worker: WorkerProcess) -> bool:
    return worker.popen.poll() is None


def _waiting() -> WorkerProcess | None:
    ahead = process._AHEAD.get()
    assert ahead is not None
    return ahead.waiting


def test_one_waits_until_all_have_been_taken() -> None:
    with started_ahead(2):
        first = _waiting()
        assert first is not None and new_process("builtin") is first
        second = _waiting()
        assert second is not None and new_process("xnnpack") is second
        assert _alive(first) and _alive(second) and _waiting() is None
        third = new_process("builtin")
        assert third not in (first, second)
    for taken in (first, second, third):
        assert _alive(taken)
        taken.close()
        assert not _alive(taken)


def test_the_one_that_nobody_took_is_ended() -> None:
    with started_ahead(2):
        waiting = _waiting()
        assert waiting is not None and _alive(waiting)
    assert not _alive(waiting) and process._AHEAD.get() is None


def test_one_that_has_died_meanwhile_is_not_taken() -> None:
    with started_ahead(1):
        waiting = _waiting()
        assert waiting is not None
        waiting.end()
        other = new_process("builtin")
        assert other is not waiting and _alive(other)
        other.close()


def test_one_that_does_not_fit_is_left_alone() -> None:
    with started_ahead(1):
        waiting = _waiting()
        others = [new_process("micro"), new_process("tf")]
        with limited(memory=1):
            others.append(new_process("builtin"))
        with limited(timeout=7):
            others.append(new_process("builtin"))
        assert waiting is not None and waiting is _waiting() and waiting not in others
        for other in others:
            other.close()


def test_it_computes_the_same(samples: Path) -> None:
    job = prepare(samples / "cnn.tflite", RunOn(samples=1))
    with Runner(job.instrumented) as runner:
        expected = runner.run(job.samples.codes(0))
    with started_ahead(1), Runner(job.instrumented) as runner:
        assert _waiting() is None
        found = runner.run(job.samples.codes(0))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


@LINUX
def test_what_a_process_holds_alone_is_seen() -> None:
    script = "x = bytearray(50_000_000); x[::4096] = b'1' * len(x[::4096]); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 50_000_000 < together._private_bytes(child.pid) < 150_000_000
        child.kill()
    assert together._private_bytes(child.pid) == 0


@LINUX
def test_runners_share_one_limit(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_members", [])  # those of other tests do not count
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


STOLEN = ("numpy", "json", "typing", "struct", "signal", "tfldbg", "ai_edge_litert", "tensorflow")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which modules lie that say so when they are run."""
    for name in STOLEN:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('ran')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_beside_the_model_is_not_run(hostile: Path) -> None:
    started = command("tfldbg.run.worker", str(os.getpid()), "0", "0")
    done = subprocess.run(started, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not (hostile / "ran").exists()
    subprocess.run([sys.executable, "-m", "json.tool"], stdin=subprocess.DEVNULL, check=False)
    assert (hostile / "ran").exists()  # python -m, which a child is not started with, does run it
