"""What every child process shares: where it finds this package, and how its end is worded."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def environment() -> dict[str, str]:
    """Return this process's environment, in which a child finds this very package first."""
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def ending(code: int) -> str:
    """Word a return code: ``exit code 1``, or ``signal SIGSEGV`` of a child that was killed."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
