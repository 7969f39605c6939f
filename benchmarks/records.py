"""What came of each planted fault, as lines of JSON that a killed run leaves whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

CLEAN = "clean"
"""Kind of the record of a file without a fault."""


@dataclass(frozen=True, slots=True)
class Record:
    """What came of one planted fault, or of a sound file (kind ``clean``)."""

    entry: str
    network: str
    scheme: str
    half: str
    reference: str
    kind: str
    op: int
    op_kind: str
    detail: str
    outcome: str
    """exact, among, wrong, missed, error, refused, ineffective; clean or false alarm."""
    first: int | None = None
    origins: tuple[int, ...] = ()
    signal: str | None = None
    status: str | None = None
    """What the trace says of the planted operator."""
    effect: float | None = None
    """Largest change of the planted operator's output, in its steps; for floats relative."""
    largest: float | None = None
    """Largest change of any operator's output, in the larger of both files' steps.

    None where a shape changed.
    """
    named: bool | None = None
    """Of a refused file or a wrong answer: whether the message names the planted operator."""
    message: str = ""
    seconds: float = 0.0
    runtime: str = "xnnpack"
    cause: str | None = None
    """Code of the finding that explains the first divergence."""

    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """What a rerun recognizes a fault by."""
        return (self.reference, self.runtime, self.entry, self.kind, self.op, self.detail)

    def changed(self, **changes: Any) -> Record:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def append(path: Path, record: Record) -> None:
    """Append one line; a single write, so that several processes may share the file."""
    line = (json.dumps(asdict(record)) + "\n").encode()
    with path.open("ab", buffering=0) as file:
        file.write(line)


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a file; a line that a killed run left half written is skipped."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            plain = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield Record(**{**plain, "origins": tuple(plain["origins"])})


def end_last_line(path: Path) -> None:
    """Keep what a killed run left half written from swallowing the next record."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
