"""The files of ``tfldbg sweep``: CSV and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tfldbg.diagnose.outcome import FIGURES, Found, Outcome, Spread, spreads
from tfldbg.report.machine import Cell, write_csv, write_json

if TYPE_CHECKING:
    from tfldbg.errors import TfldbgError

_FORMAT_VERSION = 1

_COLUMNS = (
    "model",
    "reference_kind",
    "reference",
    "runtime",
    "signature",
    "data",
    "seed",
    "samples",
    "verdict",
    "first_op",
    "first_kind",
    "first_tensor",
    "first_signal",
    "origins",
    *FIGURES,
    "matched",
    "unmatched",
    "unchecked",
    "findings",
    "seconds",
    "message",
    "hint",
    "model_sha256",
)


def write_sweep_csv(rows: Sequence[Outcome], target: str) -> None:
    """Write one line per row.

    Raises:
        TfldbgError: The file cannot be written.
    """
    plain = [_csv_row(row) for row in rows]
    write_csv(_COLUMNS, [[row.get(name) for name in _COLUMNS] for row in plain], target)


def _csv_row(row: Outcome) -> dict[str, Cell]:
    """Return the cells of a row by column."""
    case, found = row.case, row.found
    cells: dict[str, Cell] = {
        "model": case.model,
        "reference_kind": case.against.kind,
        "reference": case.reference,
        "runtime": case.run_on.runtime,
        "signature": case.run_on.signature,
        "data": case.data or "random",
        "seed": case.seed,
        "samples": case.run_on.samples,
        "verdict": row.verdict,
        "seconds": round(row.seconds, 3),
    }
    if row.error is not None:
        cells.update(message=row.error.message, hint=row.error.hint)
    if found is not None:
        cells.update(asdict(found.figures))
        cells.update(
            data=found.data,
            samples=found.samples,
            origins=len(found.origins),
            matched=found.matched,
            unmatched=found.unmatched,
            unchecked=found.unchecked,
            findings=" ".join(found.findings),
            message=found.sentence,
            model_sha256=found.model_sha256,
        )
        first = found.first
        if first is not None:
            cells.update(first_op=first.op, first_kind=first.kind, first_tensor=first.tensor)
            cells.update(first_signal=first.signal)
    return cells


def write_sweep_json(rows: Sequence[Outcome], target: str) -> None:
    """Write the JSON of format ``tfldbg.sweep``.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_json(sweep_to_dict(rows), target)


def sweep_to_dict(rows: Sequence[Outcome]) -> dict[str, Any]:
    """Return the rows as the JSON of format ``tfldbg.sweep``."""
    counts = Counter(row.verdict for row in rows)
    return {
        "format": "tfldbg.sweep",
        "format_version": _FORMAT_VERSION,
        "totals": {
            "rows": len(rows),
            "clean": counts["clean"],
            "diverged": counts["diverged"],
            "error": counts["error"],
        },
        "rows": [_row_dict(row) for row in rows],
        "spread": [_spread_dict(s) for s in spreads(rows)],
    }


def _row_dict(row: Outcome) -> dict[str, Any]:
    case, found = row.case, row.found
    return {
        "model": {"path": case.model, "sha256": found.model_sha256 if found else None},
        "reference": {"kind": case.against.kind, "path": case.reference},
        "runtime": case.run_on.runtime,
        "signature": case.run_on.signature,
        "samples": found.samples if found else case.run_on.samples,
        "data": found.data if found else case.data or "random",
        "seed": case.seed,
        "verdict": row.verdict,
        "seconds": row.seconds,
        "sentence": found.sentence if found else None,
        "first_divergence": found.first.to_dict() if found and found.first else None,
        "origins": list(found.origins) if found else [],
        "figures": asdict(found.figures) if found else None,
        "coverage": _coverage(found) if found else None,
        "findings": list(found.findings) if found else [],
        "error": _error(row.error),
    }


def _coverage(found: Found) -> dict[str, int]:
    return {
        "ops": found.matched + found.unmatched,
        "matched": found.matched,
        "unmatched": found.unmatched,
        "unchecked": found.unchecked,
    }


def _error(error: TfldbgError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def _spread_dict(spread: Spread) -> dict[str, Any]:
    return {
        "model": spread.family,
        "runtime": spread.runtime,
        "figure": spread.figure,
        "rows": spread.rows,
        "min": spread.minimum,
        "median": spread.median,
        "max": spread.maximum,
    }
