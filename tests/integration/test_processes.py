"""Child processes: started in advance, within limits, and running nothing but this package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tfldbg
from tfldbg.errors import RunError
from tfldbg.options.run_on import RunOn
from tfldbg.options.runtimes import Kernels
from tfldbg.run import litert, process, together
from tfldbg.run.child import command, limited
from tfldbg.run.job import prepare
from tfldbg.run.litert import Program, Runner
from tfldbg.run.process import Host, Hosts, one_process, shared_hosts

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the limit takes effect on Linux")


Sample = list[NDArray[Any]]


@pytest.fixture(scope="module")
def program(samples: Path) -> tuple[Program, Sample]:
    job = prepare(samples / "cnn.tflite", RunOn(samples=2))
    return job.instrumented, job.samples.codes(0)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with one_process():
        found = shared_hosts()
        assert found is not None
        yield found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Host]:
    """All processes in the order of their start."""
    made: list[Host] = []

    class Noted(Host):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr(process, "Host", Noted)
    monkeypatch.setattr(litert, "Host", Noted)
    return made


def _same(one: Sample, other: Sample) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_models_share_the_process_that_waits_for_them(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample]
) -> None:
    model, sample = program
    with Runner(model) as first, Runner(replace(model, taps=model.taps[:3])) as second:
        expected = first.run(sample)
        assert _same(second.run(sample), expected[:3]) and _same(first.run(sample), expected)
        assert len(started) == 1 and started[0].runs
    assert started[0].runs, "it waits for the next model"
    with Runner(model) as again:
        assert _same(again.run(sample), expected)
    hosts.close()
    assert len(started) == 1 and not started[0].runs


def test_answers_may_be_read_in_another_order(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample]
) -> None:
    model, sample = program
    early = Runner(model).start()
    Runner(model).start().close()
    with Runner(model) as late:
        found = late.run(sample)
    with early:
        assert _same(early.run(sample), found)
    assert len(started) == 1


def test_what_does_not_fit_has_a_process_of_its_own(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample]
) -> None:
    model, sample = program
    tensorflow = replace(model, kernels=Kernels("tf"))
    with Runner(model) as shared, Runner(tensorflow) as other:
        assert len(started) == 2
        assert len(other.run(sample)) == len(shared.run(sample))
    assert started[0].runs and not started[1].runs
    with limited(timeout=7), Runner(model):
        assert len(started) == 3 and started[2].limits.timeout_s == 7


def test_other_models_go_on_in_another_process_when_it_is_ended(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample]
) -> None:
    model, sample = program
    with Runner(model) as first, Runner(model) as second:
        expected = first.run(sample)
        changes = {0: np.zeros_like(sample[0])}
        changed = first.rerun(changes)
        started[0].kill()
        with pytest.raises(RunError, match="the system killed it"):
            second.run(sample)
        assert _same(first.rerun(changes), changed), "the sample is run again first"
        assert _same(first.run(sample), expected)
    assert len(started) == 2 and not hosts.apart


def test_a_state_is_not_made_up_when_its_process_has_ended(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample]
) -> None:
    model, sample = program
    with Runner(model) as runner:
        runner.run(sample)
        os.kill(started[0].number, signal.SIGSEGV)
        with pytest.raises(RunError, match="died"):
            runner.run(sample, fresh=False)


def test_a_model_that_another_one_has_ended_is_not_to_blame(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample]
) -> None:
    model, sample = program
    with Runner(model) as first, Runner(model) as second:
        expected = first.run(sample)
        os.kill(started[0].number, signal.SIGSEGV)
        assert _same(first.run(sample), expected)
        assert hosts.apart and len(started) == 2, "it was alone"
        assert _same(second.run(sample), expected)
        assert len(started) == 3, "so is the other one from now on"
        with Runner(model) as third:
            assert _same(third.run(sample), expected) and len(started) == 4
    assert not any(host.runs for host in started)


def test_a_model_that_ends_every_process_is_named(
    started: list[Host], hosts: Hosts, program: tuple[Program, Sample], shared_models: Path
) -> None:
    model, sample = program
    odd = prepare(shared_models / "tflite" / "litert_blockwise_quantized.tflite", RunOn(samples=1))
    with Runner(model) as sound:
        expected = sound.run(sample)
        with (
            pytest.raises(RunError, match=r"died \(signal SIG\w+\).*at operator 0"),
            Runner(odd.instrumented) as broken,
        ):
            broken.run(odd.samples.codes(0))
        assert not hosts.apart
        assert _same(sound.run(sample), expected)


def test_a_system_that_has_no_larger_pipes_has_processes(
    program: tuple[Program, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refused(*_: object) -> None:
        raise PermissionError("no more pages")

    model, sample = program
    with Runner(model) as runner:
        expected = runner.run(sample)
    monkeypatch.setattr(fcntl, "fcntl", refused)
    with Runner(model) as runner:
        assert _same(runner.run(sample), expected)


def test_an_interrupted_message_ends_the_process(
    started: list[Host],
    hosts: Hosts,
    program: tuple[Program, Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, sample = program

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with Runner(model) as runner:
        expected = runner.run(sample)
        monkeypatch.setattr(process.wire, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runner.run(sample)
        monkeypatch.undo()
        assert not started[0].runs
        assert _same(runner.run(sample), expected)


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
