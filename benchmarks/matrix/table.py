"""Markdown tables of a run of the matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.matrix.coverage import LEFT_OUT, all_cases
from benchmarks.matrix.rows import Row

FAR = 100
"""Characters of a sentence that the grouping looks at."""


def render(rows: Sequence[Row]) -> str:
    """Return every table: sums, by layer, what falls short, what is not covered."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    traced = [r for r in rows if r.traced]
    yield "## Sums"
    yield ""
    yield from _table("framework", traced, lambda r: r.framework)
    yield from _table("format", traced, lambda r: r.form)
    yield from _table("batch", traced, lambda r: r.batch)
    yield from _table("reference", traced, lambda r: r.reference)
    yield "## What falls short, by kind"
    yield ""
    yield from _short(traced)
    yield "## By layer"
    yield ""
    yield from _table("layer", traced, _layer)
    yield "## Unmatched, by reason"
    yield ""
    yield from _reasons(traced, "unmatched")
    yield "## Unchecked, by reason"
    yield ""
    yield from _reasons(traced, "unchecked")
    yield from _warned(traced)
    yield "## Not covered"
    yield ""
    yield from _left_out(rows)


def _layer(row: Row) -> str:
    case = all_cases().get(row.case)
    return case.layer if case else row.case


HEADS = (
    "files",
    "clean",
    "false alarms",
    "doubtful",
    "broken by the converter",
    "refused",
    "errors",
    "matched",
    "operators unchecked",
    "faults",
    "named",
    "joint",
    "among",
    "wrong",
    "missed",
    "errors with a fault",
)


def _table(by: str, rows: Sequence[Row], group: object) -> Iterator[str]:
    yield f"| {by} | " + " | ".join(HEADS) + " |"
    yield "|---" * (len(HEADS) + 1) + "|"
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)  # type: ignore[operator]
    for name in sorted(groups):
        yield _line(name, groups[name])
    yield _line("**all**", rows)
    yield ""


def _line(name: str, rows: Sequence[Row]) -> str:
    sound = Counter(r.outcome for r in rows)
    broken, refused = sum(r.broken for r in rows), sum(r.refused for r in rows)
    doubtful = sum(r.doubtful and not r.broken for r in rows)
    faults = [r.fault for r in rows if r.fault is not None and not (r.broken or r.refused)]
    came = Counter(f.outcome for f in faults)
    ops, matched = sum(r.ops for r in rows), sum(r.matched for r in rows)
    cells = [
        len(rows),
        f"{sound['clean']} ({_share(sound['clean'], len(rows))})",
        sound["false alarm"] - doubtful - broken,
        doubtful,
        broken,
        refused,
        sound["error"] - refused,
        _share(matched, ops),
        sum(sum(r.unchecked.values()) for r in rows),
        len(faults),
        f"{came['exact']} ({_share(came['exact'], len(faults))})",
        *(came[o] for o in ("joint", "among", "wrong", "missed", "error")),
    ]
    return f"| {name} | " + " | ".join(map(str, cells)) + " |"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _short(rows: Sequence[Row]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for row in rows:
        for kind, line in _failures(row):
            kinds.setdefault(kind, []).append(line)
    for kind in sorted(kinds, key=lambda k: (-len(kinds[k]), k)):
        yield f"### {kind} ({len(kinds[kind])})"
        yield ""
        yield from kinds[kind]
        yield ""


def _failures(row: Row) -> Iterator[tuple[str, str]]:
    """Yield for each way a row falls short its kind and a line."""
    what = f"- {row.framework} {row.case}, {row.form}, batch {row.batch}, {row.reference}"
    third = "" if row.sqnr is None else f" [interpreter against Keras: {row.sqnr} dB]"
    if row.refused:
        yield f"refused: {_kind_of(row.message)}", f"{what}: {row.message} `{row.path}`"
        return
    if row.outcome == "error":
        yield f"error: {_kind_of(row.message)}", f"{what}: {row.message}{third} `{row.path}`"
    if row.outcome == "false alarm":
        said = f"{what}: {row.message}{third} `{row.path}`"
        kind, signal = (row.first or "? ?").split(" ", 1)[1].rsplit(" ", 1)
        what = "doubtful, the interpreter is far from Keras" if row.doubtful else "false alarm"
        what = "broken by the converter" if row.broken else what
        yield f"{what}: {kind}, {signal}", said
    fault = row.fault
    if fault is None or fault.outcome == "exact" or row.outcome != "clean":
        return  # of a file that is no clean one the sums alone tell
    planted = f"{fault.kind} at {fault.op} {fault.op_kind} ({fault.detail})"
    line = f"{what}: {planted}, said {list(fault.origins)}: {fault.message} `{fault.path}`"
    yield f"fault {fault.outcome}: {fault.kind} at {fault.op_kind}", line


def _kind_of(message: str) -> str:
    """Return a message without what differs from file to file."""
    plain = re.sub(r"'[^']*'", "'...'", message.split(" (hint")[0])
    plain = re.sub(r"\S*\w[/:]\w\S*", "...", plain)
    return re.sub(r"\d+", "N", plain)[:FAR]


def _reasons(rows: Iterable[Row], which: str) -> Iterator[str]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for row in rows:
        for reason, count in getattr(row, which).items():
            kind, _, said = reason.partition(": ")
            said = re.sub(r"\d+(, \d+)*", "N", re.sub(r"'[^']*'", "'...'", said))
            general = f"{kind}: {said}"
            counts[general] += count
            examples.setdefault(general, row.path)
    yield "| operators | kind and reason | for example |"
    yield "|---|---|---|"
    for reason, count in counts.most_common():
        yield f"| {count} | {reason} | `{examples[reason]}` |"
    yield ""


def _warned(rows: Iterable[Row]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for row in rows:
        if row.outcome == "clean":
            counts.update(row.warnings)
            for code in row.warnings:
                examples.setdefault(code, row.path)
    yield "## Warnings on clean files"
    yield ""
    for code, count in counts.most_common():
        yield f"- {code}: {count}, for example `{examples[code]}`"
    yield ""


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    for name, reason in LEFT_OUT.items():
        yield f"- {name}: {reason}"
    yield ""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if not row.traced:
            key = f"{row.outcome}: {_kind_of(row.message.removeprefix(row.outcome + ': '))}"
            what = f"{row.framework} {row.case} {row.form} {row.batch}"
            reasons.setdefault(key, []).append(what)
    for key in sorted(reasons, key=lambda k: -len(reasons[k])):
        yield f"- {key.splitlines()[0]} ({len(reasons[key])}): {'; '.join(reasons[key][:12])}"
    yield ""
