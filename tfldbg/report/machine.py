"""Write reports that programs read."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.files import write_bytes
from tfldbg.report.plain import printable
from tfldbg.report.trace_json import trace_to_dict

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result

Cell = str | int | float | None
"""A cell of a CSV file; None for an empty cell."""

_FORMULA = tuple("=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}")
"""The beginnings of formulas in spreadsheets, some of them also in wide letters."""


def write_json(content: dict[str, Any], target: str) -> None:
    """Write JSON to a file, completely or not at all, or to stdout for ``-``.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_text(to_json(content), target)


def to_json(content: dict[str, Any]) -> str:
    """Return JSON, with null for infinite and undefined figures."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def write_trace_json(result: Result, target: str) -> None:
    """Write the JSON of format ``tfldbg.trace``.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_json(trace_to_dict(result), target)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]], target: str) -> None:
    """Write CSV to a file, completely or not at all, or to stdout for ``-``.

    Infinite and undefined figures become empty cells.  Text that a spreadsheet would run as a
    formula gets a leading apostrophe, which marks text in spreadsheets.

    Raises:
        TfldbgError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    write_text(text.getvalue(), target)


def _cell(value: Cell) -> Cell:
    if not isinstance(value, str):
        return _finite(value)  # type: ignore[no-any-return]
    plain = printable(value)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain


def write_text(text: str, target: str) -> None:
    """Write text to a file, completely or not at all, or to stdout for ``-``.

    Raises:
        TfldbgError: The file cannot be written.
    """
    if target == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())  # independent of the locale's encoding
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
