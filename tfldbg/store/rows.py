"""The rows of a sweep that is not finished, for the sweep that goes on with it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tfldbg.diagnose.outcome import Case, Found, Outcome
from tfldbg.files import sha256_of_path, worded
from tfldbg.store.locked import begin, begun, open_locked, pour
from tfldbg.store.typed import build


def rows_path(target: Path) -> Path:
    """Return where the rows of a sweep that is not finished are kept."""
    return target.parent / f".{target.name}.rows"


class KeptRows:
    """Keeps every row that a trace ended with, one a line.  Use as a context manager.

    A row is handed out again if its files still have the same content, and everything else that it
    depends on is the same.  Errors are not kept: such a row is traced again.

    Args:
        target: The file of results.
        settings: What all rows depend on besides their case, such as versions and thresholds.
        resume: Whether to go on with an earlier sweep; else what it kept is thrown away.

    Raises:
        CaptureError: Another sweep writes the same target.
        TfldbgError: The folder cannot be written to.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self._target, self._path, self._resume = target, rows_path(target), resume
        self._settings = dict(settings)
        self._rows: dict[str, dict[str, Any]] = {}
        self._digests: dict[str, str | None] = {}

    def __enter__(self) -> KeptRows:
        with worded(self._target):
            self._file = open_locked(self._path, self._target)
            whole = self._read() if self._resume and begun(self._file) else 0
            self._file.truncate(whole)
            begin(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._rows:
            self.remove()
        self._file.close()

    def find(self, case: Case) -> Outcome | None:
        """Return the row of a case, None if there is none that still holds."""
        plain = self._rows.get(self._key(case))
        return None if plain is None else Outcome(case, plain["seconds"], _found(plain), None)

    def add(self, row: Outcome) -> None:
        """Keep a row, on the disk.

        Raises:
            TfldbgError: The disk is full.
        """
        if row.found is None:
            return
        key = self._key(row.case)
        plain = {"key": key, "seconds": row.seconds, "found": asdict(row.found)}
        self._rows[key] = plain
        with worded(self._target):
            pour(self._file, json.dumps(plain).encode() + b"\n")
            os.fsync(self._file.fileno())

    def remove(self) -> None:
        """Remove the file: the sweep is finished, or there is nothing in it."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> int:
        """Read the whole lines; return where they end."""
        end = self._file.tell()
        for line in self._file.readall().splitlines(keepends=True):
            try:
                plain = json.loads(line)
                _found(plain)
                self._rows[plain["key"]] = plain
            except (ValueError, TypeError, KeyError, RecursionError):
                break  # half a line, and with it the end
            if not line.endswith(b"\n"):
                break
            end += len(line)
        return end

    def _key(self, case: Case) -> str:
        """Return all that a row depends on."""
        files = [p for p in (case.model, case.reference, case.data) if p is not None]
        digests = {path: self._digest(path) for path in files}
        return json.dumps([asdict(case), digests, self._settings], sort_keys=True)

    def _digest(self, path: str) -> str | None:
        if path not in self._digests:
            exists = Path(path).exists()  # it may be the name of a runtime
            self._digests[path] = sha256_of_path(Path(path)) if exists else None
        return self._digests[path]


def _found(plain: Mapping[str, Any]) -> Found:
    return build(Found, plain["found"], "found")
