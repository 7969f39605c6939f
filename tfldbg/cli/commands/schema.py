"""``tfldbg schema``."""

from __future__ import annotations

import sys


def schema() -> None:
    """Print the JSON Schema of what trace, report and diff write with --json."""
    from tfldbg.report.schema import read_schema

    sys.stdout.write(read_schema())
