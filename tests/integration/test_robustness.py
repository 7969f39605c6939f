"""Each way to end or to starve a session: nothing is lost, and nothing is left."""

from __future__ import annotations

import errno
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

import tfldbg
from tests.loop_file import File, loop_file
from tfldbg import convert, files, record
from tfldbg.compare import stream
from tfldbg.errors import RunError, TfldbgError
from tfldbg.options.runtimes import Kernels
from tfldbg.report.machine import write_trace_json
from tfldbg.rewrite.pieces import Pieces
from tfldbg.run import litert
from tfldbg.run.job import load
from tfldbg.run.litert import Program, Runner
from tfldbg.store.disk import Disk

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="how Linux keeps processes and files")
ROOT = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a tmpfs"
)
SAMPLES = 12


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose loop runs for hours."""
    path = tmp_path_factory.mktemp("endless") / "endless.tflite"
    path.write_bytes(loop_file(steps=2**31 - 1))
    return path


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record four samples at a time."""
    monkeypatch.setattr(stream, "_MOST_SAMPLES", 4)


def _program(path: Path) -> Program:
    subgraph = load(path).subgraph
    content = Pieces((path.read_bytes(),))
    return Program(path.name, content, Kernels("builtin"), subgraph, subgraph.outputs)


def _given(program: Program) -> list[np.ndarray]:
    tensors = program.subgraph.tensors
    return [np.zeros(tensors[i].shape, np.int8) for i in program.subgraph.inputs]


def _process(runner: Runner) -> subprocess.Popen[bytes]:
    assert isinstance(runner._child, litert._Child)
    return runner._child._host._process


# Children.


def test_a_child_that_does_not_finish_is_ended(endless: Path, tmp_path: Path) -> None:
    with (
        tfldbg.limited(timeout=2),
        pytest.raises(RunError, match=r"^sample 0: .*did not finish one sample .* within 2 s"),
    ):
        record(endless, tmp_path / "run.h5", samples=3)
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_a_child_that_is_stopped_is_ended(samples: Path) -> None:
    program = _program(samples / "dense4.tflite")
    with tfldbg.limited(timeout=3), Runner(program) as runner:
        first = runner.run(_given(program))
        _process(runner).send_signal(signal.SIGSTOP)
        with pytest.raises(RunError, match="within 3 s and was ended") as caught:
            runner.run(_given(program))
        assert caught.value.hint is not None and "--timeout" in caught.value.hint
        assert _process(runner).returncode == -signal.SIGKILL
    with Runner(program) as runner:
        assert np.array_equal(first[0], runner.run(_given(program))[0])


def test_a_child_that_the_system_killed_is_not_run_again(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "last_operator", None)  # would run shortened models
    program = _program(samples / "dense4.tflite")
    with Runner(program) as runner:
        _process(runner).send_signal(signal.SIGKILL)
        with pytest.raises(RunError, match=r"the system killed it \(SIGKILL\): .*memory ran out"):
            runner.run(_given(program))


@LINUX
@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference"])
def test_a_model_that_claims_gigabytes_meets_the_limit(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "large.tflite"
    path.write_bytes(_large(200_000_000))
    with (
        tfldbg.limited(memory=1.5),
        pytest.raises(RunError, match=r"needs more memory than the limit of 1.5 GiB") as caught,
    ):
        record(path, tmp_path / "run.h5", samples=1, runtime=runtime)
    assert "its largest tensor is 3 't3' of operator 1 TILE, 2.98 GiB" in caught.value.message
    assert caught.value.hint is not None and "--memory-limit" in caught.value.hint
    assert list(tmp_path.iterdir()) == [path]


def _large(rows: int) -> bytes:
    """A file whose second operator repeats four floats ``rows`` times."""
    from ai_edge_litert import schema_py_generated as schema

    file = File()
    main = file.subgraph()
    x, positive = main.tensor("FLOAT32", [1, 4]), main.tensor("FLOAT32", [1, 4])
    times = main.tensor("INT32", [2], np.array([rows, 1], np.int32))
    tiled = main.tensor("FLOAT32", [rows, 4])
    main.operator("RELU", [x], [positive])
    main.operator("TILE", [positive, times], [tiled], schema.TileOptionsT())
    main.ends([x], [tiled])
    return file.save()


@pytest.mark.parametrize("limits", [{"timeout": 0}, {"memory": -1}, {"timeout": float("nan")}])
def test_limits_are_above_zero(limits: dict[str, float]) -> None:
    with (
        pytest.raises(tfldbg.UsageError, match=r"^invalid value \S+ for the \w+"),
        tfldbg.limited(**limits),
    ):
        pass


@pytest.mark.parametrize(
    "garbage", [b"Segmentation fault: this is no answer\n" * 9, b"tfdb\x02\x00\x00\x00[]"]
)
def test_a_child_that_writes_garbage_is_an_error(samples: Path, garbage: bytes) -> None:
    program = _program(samples / "dense4.tflite")
    with Runner(program) as runner:
        reader, writer = os.pipe()
        os.write(writer, garbage)
        os.close(writer)
        process = _process(runner)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = os.fdopen(reader, "rb")
        with pytest.raises(RunError, match="answered with invalid bytes"):
            runner.run(_given(program))


def test_a_converter_that_does_not_finish_is_ended(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the converter did not finish .* within 0.05 s"):
        convert(samples / "dense4.h5", tmp_path / "m.tflite", timeout=0.05)
    assert list(tmp_path.iterdir()) == []


# The session itself.


class Session:
    """A command in a terminal of its own, whose temporary folder is known."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._terminal, inner = pty.openpty()
        self._before = termios.tcgetattr(self._terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfldbg", *map(str, arguments)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=_controlling_terminal,
            env={**os.environ, "TMPDIR": str(self.temporary), "TERM": "xterm"},
        )
        os.close(inner)
        self.said = b""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *details: object) -> None:
        self.process.kill()
        self.process.wait()

    def press(self, key: bytes) -> None:
        """Type a key."""
        os.write(self._terminal, key)

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Read the terminal until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.said.decode()
            self._read()

    def end(self) -> int:
        """Wait for the end, and check the terminal."""
        self.wait_for(lambda: self.process.poll() is not None)
        while self._read():
            pass
        assert termios.tcgetattr(self._terminal) == self._before
        assert b"\x1b[?25l" not in self.said  # the cursor was never hidden
        os.close(self._terminal)
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], 0.05)[0]:
            return False
        try:
            piece = os.read(self._terminal, 4096)
        except OSError:  # nobody holds the other side any more
            return False
        self.said += piece
        return bool(piece)

    def children(self) -> list[int]:
        """Return the workers that this session has started."""
        return list(_workers(self.process.pid))

    def wait_for_no_children(self, seconds: float = 10) -> None:
        """Give the workers of a session that has ended the time to see that it has."""
        end = time.monotonic() + seconds
        while self.children():
            assert time.monotonic() < end, self.children()
            time.sleep(0.05)


def _controlling_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _workers(session: int) -> Iterator[int]:
    """Return the workers of a session, which may be gone: they have its number as an argument."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"tfldbg.run.worker" in b"".join(words[2:3]) and words[3] == str(session).encode():
                yield int(folder.name)


def _busy(pids: list[int]) -> bool:
    """Whether a worker computes: it has used a second of the processor's time since it began."""
    ticks = [
        int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[11])
        for pid in pids
        if (Path("/proc") / str(pid)).exists()
    ]
    return any(t > os.sysconf("SC_CLK_TCK") for t in ticks)


@LINUX
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_session_in_a_long_invoke_ends_at_once_with_its_child(
    endless: Path, tmp_path: Path, how: str
) -> None:
    with Session(tmp_path, "dump", endless, "-o", tmp_path / "run.h5") as session:
        session.wait_for(lambda: _busy(session.children()))
        if how == "Ctrl-C":
            session.press(b"\x03")
        else:
            session.process.send_signal(getattr(signal, how))
        code = session.end()
        assert code == {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}[how]
        session.wait_for_no_children()
        assert list(session.temporary.iterdir()) == []
        assert [p for p in tmp_path.iterdir() if p.is_file()] == []
        assert b"Traceback" not in session.said


@LINUX
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_session_that_has_hardly_begun_leaves_nothing(
    samples: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "run.h5"
    arguments = ("dump", samples / "cnn.tflite", "-o", out, "--samples", 5000)
    with Session(tmp_path, *arguments) as session:
        session.wait_for(session.children)  # it loads the model
        session.process.send_signal(how)
        assert session.end() == 128 + how
        session.wait_for_no_children()  # one that was just being started ends itself
        assert list(session.temporary.iterdir()) == []
        assert not out.exists()


# What was recorded.


@pytest.mark.usefixtures("small_batches")
def test_the_size_of_batches_does_not_change_what_is_recorded(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(name: str) -> dict[str, bytes]:
        tfldbg.trace(samples / "cnn.tflite", samples=10, dump=tmp_path / name)
        with h5py.File(tmp_path / name, "r") as file:
            return {
                f"{index}/{dataset}": group[dataset][()].tobytes()
                for index, group in file["tensors"].items()
                for dataset in ("values", "accumulated_error", "local_error")
                if dataset in group
            }

    small = values("small.h5")  # 4, 4 and 2 samples
    monkeypatch.setattr(stream, "_MOST_SAMPLES", 32)
    assert values("whole.h5") == small
    assert len(small) > 30


@LINUX
@pytest.mark.parametrize("kilobytes", [300, 1200, 1700])
def test_a_full_disk_ends_in_an_error_and_leaves_the_old_file(
    samples: Path, tmp_path: Path, kilobytes: int
) -> None:
    """HDF5 would print its error stack and crash at exit."""
    out = tmp_path / "run.h5"
    out.write_text("old")
    command = ("trace", samples / "cnn.tflite", "--samples", 12, "--dump", out)
    limit = f'ulimit -f {kilobytes}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", limit, "bash", sys.executable, "-m", "tfldbg", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: cannot write '{out}': File too large; the old content was not changed",
        "hint: free some space, or name a file elsewhere",
    ]
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("at", [1, 100, 160])
def test_an_interrupt_while_hdf5_writes_leaves_the_old_file(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, nameless: bool
) -> None:
    places: list[int] = []
    seek = Disk.seek

    def interrupted(self: Disk, place: int, whence: int = 0) -> int:
        places.append(place)
        if len(places) == at:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)  # the main thread is about to leave
        return seek(self, place, whence)

    if not nameless:
        monkeypatch.setattr(files, "_nameless", lambda folder: None)
    monkeypatch.setattr(Disk, "seek", interrupted)
    (tmp_path / "run.h5").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        tfldbg.trace(samples / "dense4.tflite", samples=SAMPLES, dump=tmp_path / "run.h5")
    assert len(places) >= at
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0  # HDF5 is done
    assert (tmp_path / "run.h5").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


# Files.


@LINUX
def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file_alone(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tfldbg.files import *\n"
        "with scratch_folder() as folder, replacing(Path(sys.argv[1])) as new:\n"
        "    (folder / 'file').write_text('half'); new.write_text('half'); os.kill(os.getpid(), 9)"
    )
    target, temporary = tmp_path / "f", tmp_path / "tmp"
    temporary.mkdir()
    target.write_text("old")
    killed = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        env={**os.environ, "TMPDIR": str(temporary)},
        check=False,
    )
    assert killed.returncode == -9
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "tmp"]
    end = time.monotonic() + 10
    while list(temporary.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("nameless", [True, False])
def test_a_disk_that_is_full_at_the_end_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not nameless:
        monkeypatch.setattr(files, "_nameless", lambda folder: None)
    (tmp_path / "f").write_text("old")
    files.write_bytes(tmp_path / "f", b"newer")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(TfldbgError, match="No space left on device") as caught:
            files.write_bytes(tmp_path / "f", b"newest")
    assert caught.value.hint is not None and "free some space" in caught.value.hint
    assert (tmp_path / "f").read_bytes() == b"newer"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o666 & ~files._umask()


def test_a_full_temporary_folder_is_said(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: Pieces, file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Pieces, "write", full)
    with (
        pytest.raises(RunError, match=r"cannot start the runtime .*No space left") as caught,
        Runner(_program(samples / "dense4.tflite")),
    ):
        pass
    assert caught.value.hint is not None and "TMPDIR" in caught.value.hint


@ROOT
def test_a_full_and_a_read_only_disk_leave_the_old_files(samples: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("this machine does not let tests mount a tmpfs")
    try:
        old = {name: disk / name for name in ("run.h5", "out.tflite", "report.json")}
        for path in old.values():
            path.write_text("old")
        result = tfldbg.trace(samples / "dense4.tflite", samples=1)
        (disk / "ballast").write_bytes(bytes(180_000))
        _all_fail(samples, old, result)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        _all_fail(samples, old, result)
        assert sorted(p.name for p in disk.iterdir()) == sorted([*old, "ballast"])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _all_fail(samples: Path, old: dict[str, Path], result: tfldbg.Trace) -> None:
    for write in (
        lambda: record(samples / "cnn.tflite", old["run.h5"]),
        lambda: files.write_bytes(old["out.tflite"], bytes(100_000)),
        lambda: write_trace_json(result, str(old["report.json"])),
    ):
        with pytest.raises(TfldbgError, match="cannot write"):
            write()
    assert {path.read_text() for path in old.values()} == {"old"}


def test_a_folder_as_target_is_refused(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(TfldbgError, match="it is a folder or a device"):
        record(samples / "dense4.tflite", tmp_path, samples=1)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_do_not_fit_into_a_limit_are_refused(samples: Path) -> None:
    limit, model = 1 << 30, samples / "dense4.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "tfldbg", "trace", str(model), "--samples", "200000"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 2
    assert "no 200000 random samples of that fit into memory" in done.stderr
