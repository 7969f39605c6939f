"""What came of each file of the matrix, as lines of JSON that a killed run leaves whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.matrix.build import Place


DOUBTFUL_DB = 10.0
"""Below it the interpreter's outputs are as far from Keras's as a third of them: the converter may
have broken the file, and to call it diverged may be right."""


CONVERTER = frozenset({"TFL053", "TFL054", "TFL058", "TFL064"})
"""Findings that name what the converter did wrong: another tensor's range, a sentinel in a range,
codes that are copied between scales, a bias that is shared."""


@dataclass(frozen=True)
class Planted:
    """What came of the fault that was planted in a file."""

    kind: str
    op: int
    op_kind: str
    detail: str
    outcome: str
    """exact; joint: the one that is named is measured together with it; among, wrong, missed,
    error."""
    path: str
    origins: tuple[int, ...] = ()
    cause: str | None = None
    message: str = ""

    def changed(self, **changes: Any) -> Planted:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Row:
    """What came of one file."""

    framework: str
    case: str
    batch: str
    form: str
    reference: str
    path: str
    """Of the .tflite, or of the text that says why there is none."""
    keras: str
    outcome: str = "error"
    """clean, false alarm, error; not built, not converted."""
    message: str = ""
    first: str | None = None
    ops: int = 0
    matched: int = 0
    unmatched: dict[str, int] = field(default_factory=dict)
    """By kind of operator and reason how many."""
    unchecked: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sqnr: float | None = None
    """Of the sound file's outputs against the live model's, dB, measured without the product."""
    fault: Planted | None = None
    """None where no fault that was tried changed a value."""
    seconds: float = 0.0

    @staticmethod
    def of(place: Place, form: str, reference: str) -> Row:
        """Return the row of a file of which nothing is known yet."""
        about = (place.framework, place.case, place.batch, form, reference)
        row = Row(*about, str(place.tflite(form)), str(place.keras(reference, form)))
        if not place.about(form).exists():
            return row
        plain = json.loads(place.about(form).read_text())
        fault, path = plain["fault"], str(place.planted(form))
        return row.changed(
            sqnr=plain["sqnr"],
            fault=Planted(**fault, outcome="error", path=path) if fault else None,
        )

    @property
    def key(self) -> tuple[str, ...]:
        """What a row is recognized by."""
        return (self.framework, self.case, self.batch, self.form, self.reference)

    @property
    def traced(self) -> bool:
        """Whether there was a file to trace."""
        return not self.outcome.startswith("not ")

    @property
    def doubtful(self) -> bool:
        """Whether the file is called diverged and the interpreter, without the product, agrees."""
        far = self.sqnr is not None and self.sqnr < DOUBTFUL_DB
        return self.outcome == "false alarm" and far

    @property
    def broken(self) -> bool:
        """Whether the file is called diverged, and a finding tells what the converter broke."""
        return self.outcome == "false alarm" and not CONVERTER.isdisjoint(self.warnings)

    @property
    def refused(self) -> bool:
        """Whether LiteRT does not run the file, or the framework does not load its own model."""
        said = ("runtime refused", "runtime died", "does not load")
        return self.outcome == "error" and any(words in self.message for words in said)

    @property
    def short(self) -> bool:
        """Whether the product fell short of what is expected."""
        if not self.traced or self.broken or self.refused:
            return False
        named = self.fault is None or self.fault.outcome == "exact"
        return not (self.outcome == "clean" and named)

    def changed(self, **changes: Any) -> Row:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def append(path: Path, row: Row) -> None:
    """Append one line; a single write."""
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps(asdict(row)) + "\n").encode())


def read_rows(path: Path) -> Iterator[Row]:
    """Read rows; the last of each key counts."""
    found: dict[tuple[str, ...], Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        plain = json.loads(line)
        plain["warnings"] = tuple(plain["warnings"])
        if plain["fault"] is not None:
            plain["fault"] = Planted(
                **{**plain["fault"], "origins": tuple(plain["fault"]["origins"])}
            )
        row = Row(**plain)
        found[row.key] = row
    yield from found.values()
