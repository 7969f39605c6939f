"""Reports that programs read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tfldbg.files import write_bytes


def write_json(content: dict[str, Any], target: str) -> None:
    """Write JSON to a file, whole or not at all, or to stdout for ``-``.

    Infinite and undefined figures, which JSON does not know, become null.

    Raises:
        TfldbgError: The file cannot be written.
    """
    text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_bytes(Path(target), text.encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
