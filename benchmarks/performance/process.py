"""Measure whole processes: seconds, seconds of processor, and the largest memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_EVERY_S = 0.02
"""How often the memory is looked at."""
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""With it Python compiles this package anew in every process, which an installed one is spared."""
_PRIVATE = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run of a command."""

    seconds: float
    cpu_seconds: float
    """The process and its children, that have ended."""
    peak_bytes: int
    """The most memory that the process itself held, files that it maps left out; 0 where the system
    does not tell (it is Linux that does)."""


def cost(command: Sequence[str]) -> Cost:
    """Run a command of this interpreter and return what it cost.

    Args:
        command: Its arguments, for example ``["-m", "tfldbg", "--help"]``.

    Raises:
        RuntimeError: It failed; the message is what it said.
    """
    environment = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    with tempfile.TemporaryFile() as said:
        began = perf_counter()
        process = subprocess.Popen(  # noqa: S603  (this interpreter)
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=said, env=environment
        )
        watch = _Watch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - began
        peak = watch.end()
        process.returncode = os.waitstatus_to_exitcode(status)
        diverged = 1 if command[:2] == ["-m", "tfldbg"] else 0  # which is no failure
        if process.returncode not in (0, diverged):
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak)


class _Watch:
    """Looks at the memory of a process again and again."""

    def __init__(self, pid: int) -> None:
        self._status, self._peak = Path(f"/proc/{pid}/status"), 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                found = _PRIVATE.search(self._status.read_text())
            except OSError:  # it has ended, or this is not Linux
                return
            if found:
                self._peak = max(self._peak, int(found[1]) * 1024)

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak
