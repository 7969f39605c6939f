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
    "not exact, but only rounding",
)
ROUNDING_LSB = 1.01
"""A file that differs from the sound one by no more than this anywhere only rounds elsewhere."""


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


def _row(name: str, records: Sequence[Record]) -> str:
    count = Counter(r.outcome for r in records)
    effective = sum(count[o] for o in EFFECTIVE)
    share = f" ({count['exact'] / effective:.1%})" if effective else ""
    cells = [str(effective), f"{count['exact']}{share}", str(count["among"])]
    cells += [_with_named("wrong", records), str(count["missed"]), str(count["error"])]
    cells += [_with_named("refused", records), str(count["ineffective"])]
    cells.append(str(sum(_only_rounds(r) for r in records)))
    return f"| {name} | " + " | ".join(cells) + " |"


def _with_named(outcome: str, records: Sequence[Record]) -> str:
    """How many records came out so, and of how many the message names the planted operator."""
    found = [r for r in records if r.outcome == outcome]
    return f"{len(found)} ({sum(bool(r.named) for r in found)})" if found else "0"


def _only_rounds(record: Record) -> bool:
    """Whether a fault that was not named exactly moves no output by more than a step."""
    quantized = record.scheme in ("qat", "ptq")
    if record.outcome not in EFFECTIVE[1:] or record.largest is None or not quantized:
        return False
    return record.largest <= ROUNDING_LSB


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
