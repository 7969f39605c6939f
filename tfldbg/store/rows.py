"""The rows of an unfinished sweep, kept for the next sweep to the same file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfldbg.diagnose.outcome import Case, Found, Outcome
from tfldbg.files import sha256_of_path, worded
from tfldbg.store.typed import build


def rows_path(target: Path) -> Path:
    """Return the path of the rows of an unfinished sweep."""
    return target.parent / f".{target.name}.rows"


class KeptRows:
    """Keeps the rows of traces that ended without an error, one JSON object per line.

    A row of an earlier sweep is found if its files have the same content, and everything else that
    it depends on is the same.

    Args:
        target: The file of results.
        settings: Other things that all rows depend on, such as versions and thresholds.

    Raises:
        TfldbgError: The kept rows cannot be read.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any]) -> None:
        self._target, self.path = target, rows_path(target)
        self._settings = dict(settings)
        self._digests: dict[str, str | None] = {}
        with worded(target):
            content = self.path.read_bytes() if self.path.exists() else b""
        read = map(_read, content.splitlines())
        self._rows = {row["key"]: row for row in read if row is not None}

    def find(self, case: Case) -> Outcome | None:
        """Return the row of a case, None if there is no valid one."""
        plain = self._rows.get(self._key(case)) if self._rows else None
        return None if plain is None else Outcome(case, plain["seconds"], _found(plain), None)

    def add(self, row: Outcome) -> None:
        """Write a row to the disk.

        Raises:
            TfldbgError: The disk is full.
        """
        if row.found is None:
            return
        key = self._key(row.case)
        plain = {"key": key, "seconds": row.seconds, "found": asdict(row.found)}
        self._rows[key] = plain
        with worded(self._target), self.path.open("ab") as file:
            # A killed sweep may have left half a line.
            file.write(b"\n" + json.dumps(plain).encode())
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the file, since the sweep is finished."""
        self.path.unlink(missing_ok=True)

    def _key(self, case: Case) -> str:
        """Return a key from everything that a row depends on."""
        files = [p for p in (case.model, case.reference, case.data) if p is not None]
        digests = {path: self._digest(path) for path in files}
        return json.dumps([asdict(case), digests, self._settings], sort_keys=True, default=str)

    def _digest(self, path: str) -> str | None:
        if path not in self._digests:
            exists = Path(path).exists()  # it may be the name of a runtime
            self._digests[path] = sha256_of_path(Path(path)) if exists else None
        return self._digests[path]


def _read(line: bytes) -> dict[str, Any] | None:
    """Return a row, None for other content, such as half a line."""
    try:
        plain: dict[str, Any] = json.loads(line)
        _found(plain)
        hash(plain["key"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return plain


def _found(plain: Mapping[str, Any]) -> Found:
    return build(Found, plain["found"], "found")
