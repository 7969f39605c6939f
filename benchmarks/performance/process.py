"""Measure whole processes: seconds, seconds of processor, and the largest memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run of a command."""

    seconds: float
    cpu_seconds: float
    """The process and its children, that have ended."""
    peak_bytes: int
    """The largest resident set of the process itself."""


def cost(command: Sequence[str]) -> Cost:
    """Run a command of this interpreter and return what it cost.

    Args:
        command: Its arguments, for example ``["-m", "tfldbg", "--help"]``.

    Raises:
        RuntimeError: It failed; the message is what it said.
    """
    with tempfile.TemporaryFile() as said:
        began = perf_counter()
        process = subprocess.Popen(  # noqa: S603  (this interpreter)
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
