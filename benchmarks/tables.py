"""Markdown tables of the fault campaign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.records import Record

EFFECTIVE = ("exact", "among", "wrong", "missed", "error")
COLUMNS = (
    "effective",
    "exact",
    "among origins",
    "wrong (mentioned)",
    "missed",
    "error",
    "refused (named)",
    "ineffective",
    "another calibration",
    "exact of the others",
)
FLOAT_REFERENCES = ("keras", "against")
"""What post-training files are compared with has no scales."""


def render(records: Sequence[Record]) -> str:
    """Return every table: for each reference and half by kind and by pair, then what went wrong."""
    return "\n".join(_lines(records)) + "\n"


def _lines(records: Sequence[Record]) -> Iterator[str]:
    for title in dict.fromkeys(_title(r) for r in sorted(records, key=_place)):
        yield from _section(title, [r for r in records if _title(r) == title])


def _place(record: Record) -> tuple[str, str, str]:
    return record.reference, record.runtime, record.half


def _title(record: Record) -> str:
    return f"{record.reference}, {record.runtime}, {record.half.replace('_', ' ')} half"


def _section(title: str, records: Sequence[Record]) -> Iterator[str]:
    clean = [r for r in records if r.kind == "clean"]
    faults = [r for r in records if r.kind != "clean"]
    alarms = [r for r in clean if r.outcome != "clean"]
    yield f"## {title}"
    yield ""
    yield f"Sound files: {len(clean)}, of which {len(alarms)} with a false alarm or an error."
    yield ""
    yield from _table("scheme", faults, lambda r: r.scheme)
    yield from _table("kind", faults, lambda r: r.kind)
    yield from _table("pair", faults, lambda r: r.entry)
    yield from _causes([r for r in faults if r.outcome == "exact"])
    yield from _listed("Not silent on the sound file", alarms)
    yield from _listed(
        "Not exact", [r for r in faults if r.outcome in EFFECTIVE and r.outcome != "exact"]
    )
    refused = [r for r in faults if r.outcome == "refused" and not r.named]
    yield from _listed("Refused, and the message does not name the operator", refused)


def _table(by: str, records: Sequence[Record], group: Callable[[Record], str]) -> Iterator[str]:
    groups = sorted({group(r) for r in records})
    yield f"| {by} | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for name in groups:
        yield _row(name, [r for r in records if group(r) == name])
    yield _row("**all**", records)
    yield ""


def _causes(exact: Sequence[Record]) -> Iterator[str]:
    """Yield what explained the faults that were named exactly, by kind."""
    yield "| kind | exact | explained | by |"
    yield "|---|---|---|---|"
    for kind in sorted({r.kind for r in exact}):
        of_kind = [r for r in exact if r.kind == kind]
        causes = Counter(r.cause for r in of_kind if r.cause)
        said = ", ".join(f"{code} {count}" for code, count in causes.most_common()) or "-"
        yield f"| {kind} | {len(of_kind)} | {sum(causes.values())} | {said} |"
    explained = sum(r.cause is not None for r in exact)
    yield f"| **all** | {len(exact)} | {explained} | |"
    yield ""


def _row(name: str, records: Sequence[Record]) -> str:
    count = Counter(r.outcome for r in records)
    effective = sum(count[o] for o in EFFECTIVE)
    share = f" ({count['exact'] / effective:.1%})" if effective else ""
    cells = [str(effective), f"{count['exact']}{share}", str(count["among"])]
    cells += [_with_named("wrong", records), str(count["missed"]), str(count["error"])]
    cells += [_with_named("refused", records), str(count["ineffective"])]
    other = sum(_recalibrated(r) for r in records)
    rest = effective - other
    cells += [str(other), f"{count['exact'] / rest:.1%}" if rest else "-"]
    return f"| {name} | " + " | ".join(cells) + " |"


def _with_named(outcome: str, records: Sequence[Record]) -> str:
    """How many records came out so, and of how many the message names the planted operator."""
    found = [r for r in records if r.outcome == outcome]
    return f"{len(found)} ({sum(bool(r.named) for r in found)})" if found else "0"


def _recalibrated(record: Record) -> bool:
    """Whether a fault made a file that is as right as before, only calibrated otherwise.

    The reference has no scales, and nothing in the file contradicts the one that was changed.
    """
    without_scales = record.scheme == "ptq" and record.reference.split(",")[0] in FLOAT_REFERENCES
    of_output = record.kind.startswith(("output scale", "zero point"))
    return without_scales and of_output and record.outcome == "missed"


def _listed(title: str, records: Sequence[Record]) -> Iterator[str]:
    if not records:
        return
    yield f"{title}:"
    yield ""
    for r in records:
        what = f"{r.kind} at operator {r.op} {r.op_kind}" if r.op >= 0 else "no fault"
        detail = f" ({r.detail})" if r.detail else ""
        effect = f", changes its output by {r.effect:g}" if r.effect is not None else ""
        effect += f" and any by up to {r.largest:g}" if r.largest is not None else ""
        named = f", named {r.first} of {list(r.origins[:6])}" if r.origins else ""
        yield f"- {r.entry}: {what}{detail}: {r.outcome}{named}{effect}. {r.message[:300]}"
    yield ""
