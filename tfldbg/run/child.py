"""What every child process shares: where it finds this package, and how its end is worded."""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs the ``main`` of a module of this package in a new interpreter.

    ``python -m`` would put the working directory in front of everything, so that a ``numpy.py``
    that lies beside a downloaded model would be run.  So the child is told where to look before it
    imports anything: where this process looks, the working directory left out.
    """
    root = str(Path(__file__).resolve().parents[2])
    places = [place for place in sys.path if place]
    if root not in places:
        places.insert(0, root)
    start = f"import sys; sys.path[:] = {places!r}; from {module} import main; main()"
    return [sys.executable, "-c", start, *arguments]


def ending(code: int) -> str:
    """Word a return code: ``exit code 1``, or ``signal SIGSEGV`` of a child that was killed."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
