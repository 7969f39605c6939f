"""``tfldbg schema``."""

from __future__ import annotations

import sys


def schema() -> None:
    """Print the JSON Schema of the output of trace, report and diff with --json."""
    from tfldbg.report.schema import read_schema

    sys.stdout.write(read_schema())
