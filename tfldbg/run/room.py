"""Check before comparing constants that there is enough memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import RunError

if TYPE_CHECKING:
    from tfldbg.run.job import Loaded

_COPIES = 8
"""The largest number of float32 copies of a constant that comparing it with another makes."""
_GIGABYTE = 1e9


def check_constants(*files: Loaded) -> None:
    """Check that there is enough memory to compare the constants of files.

    Args:
        files: The traced file, and the reference if it is a file.

    Raises:
        RunError: It needs more memory than is free, so the system would end the process.
    """
    sizes = [
        4 * tensor.elements
        for loaded in files
        for tensor in loaded.subgraph.tensors
        if tensor.has_data
    ]
    needed, free = sum(sizes) + _COPIES * max(sizes, default=0), free_memory()
    if free is not None and needed > free:
        raise RunError(
            f"comparing the constants of '{files[0].path}' with the reference's takes some "
            f"{needed / _GIGABYTE:.0f} GB of memory, and {free / _GIGABYTE:.0f} GB are free",
            hint="trace the file without a reference, or against a recording "
            "(--against RUN.h5), which compares no constants",
        )


def free_memory() -> int | None:
    """Return the number of free bytes for processes, or None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(s.split()[1]) for s in lines if s.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pages = os.sysconf_names.get("SC_AVPHYS_PAGES") if hasattr(os, "sysconf_names") else None
        return None if pages is None else os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
