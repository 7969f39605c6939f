"""One run of a command on a damaged file, in a process of its own with limits of its own."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

_BUG = 99
"""Exit code of a run that ended with an exception nobody raised on purpose."""
_MEMORY = 4 << 30
_FILE = 1 << 30
_IN_RUNTIME = ("tfldbg/run/wire.py", "tfldbg/run/litert.py")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    outcome: str
    """``exit 0``, ``exit 1``, ``exit 2``, ``runtime hangs``, or what is wrong: ``traceback``,
    ``signal N``, ``hang``, ``exit N``, ``silent``."""
    said: str
    """The error message, the traceback, or where it stood."""
    peak_mb: int
    """Peak memory of the process, its children not counted."""

    @property
    def sound(self) -> bool:
        """Whether it ended as every run should: 0, 1 or 2, and words.

        A runtime that hangs is the runtime's, and ends the case.
        """
        return self.outcome in ("exit 0", "exit 1", "exit 2", "runtime hangs")


def run(arguments: list[str], folder: Path, seconds: float) -> Ending:
    """Run one command line in a fork of this process.

    Args:
        arguments: What follows ``tfldbg``.
        folder: The working directory; made, and filled with ``stdout`` and ``stderr``.
        seconds: The time limit.
    """
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        pid = os.fork()
        if pid == 0:
            _in_child(arguments, folder, scratch, seconds)
        _, status, usage = os.wait4(pid, 0)
        with contextlib.suppress(ProcessLookupError):  # its own children, should one be left
            os.killpg(pid, signal.SIGKILL)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _ending(os.waitstatus_to_exitcode(status), folder, usage.ru_maxrss >> 10)


def _in_child(arguments: list[str], folder: Path, scratch: Path, seconds: float) -> None:
    os.setsid()
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    stuck = open("stuck", "w")  # noqa: SIM115, PTH123
    faulthandler.enable(stuck)
    faulthandler.dump_traceback_later(seconds, file=stuck, exit=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    os.environ.update(TMPDIR=str(scratch), TFLDBG_DEBUG="1", COLUMNS="120", TERM="dumb")
    tempfile.tempdir = None
    os._exit(_command(arguments))


def _command(arguments: list[str]) -> int:
    from tfldbg.cli.app import main

    sys.argv = ["tfldbg", *arguments]
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 2
    except BaseException:
        traceback.print_exc()
        code = _BUG
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


def _ending(code: int, folder: Path, peak: int) -> Ending:
    out, said, stuck = (
        (folder / name).read_text(errors="replace") if (folder / name).exists() else ""
        for name in ("stdout", "stderr", "stuck")
    )
    if "Timeout" in stuck:
        where = _place(stuck)
        inside = "hang" if not any(name in where for name in _IN_RUNTIME) else "runtime hangs"
        return Ending(inside, stuck, peak)
    if code < 0:
        return Ending(f"signal {signal.Signals(-code).name}", stuck or said, peak)
    if code == _BUG:
        return Ending("traceback", said, peak)
    if not (said if code == 2 else out).strip():
        return Ending("silent", f"exit code {code}, and no words", peak)
    return Ending(f"exit {code}", said, peak)


def _place(stack: str) -> str:
    """Return the innermost line of this package in a stack that faulthandler wrote."""
    lines = re.findall(r'File "(.*)", line (\d+) in (\w+)', stack)
    return next((f"{f}:{n} {name}" for f, n, name in lines if "tfldbg" in f), "")


def signature(ending: Ending) -> str:
    """Return what failures of one cause have in common."""
    if ending.outcome == "traceback":
        lines = re.findall(r'File ".*(tfldbg/.*)", line (\d+), in (\w+)', ending.said)
        where = ":".join(lines[-1][:2]) if lines else "?"
        return f"{ending.said.strip().splitlines()[-1][:100]} at {where}"
    return f"{ending.outcome} {_place(ending.said)[-80:]}"
