"""The tables of `benchmarks.corpus`, and the page of the docs that is made of them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

RUNTIMES = ("xnnpack", "builtin", "reference")
COMMANDS = ("inspect", "expose", "trace", "dump", "keras")
Record = Mapping[str, Any]

_SHAPES = "it computes a shape and no values of the network"
"""The only outputs that a trace leaves unchecked without giving a reason of their own."""

_INTRODUCTION = """# The corpus

Every file of a corpus of third-party models goes through every command under every runtime. Does
the untouched file run in the bare interpreter? Is it inspected and exposed, and are the final
outputs of the exposed file the same, bit for bit? Is it traced against its own float arithmetic,
and dumped? Files with a Keras model beside them are traced against that too, under xnnpack. A file
with several signatures counts once for each subgraph that can be called.

`benchmarks/corpus.py` wrote this page. Every command ran in a process of its own, on two random
samples (on one where an input holds more than 2^24 elements):

```sh
python3 -m benchmarks.corpus FOLDER --out corpus.jsonl --docs docs/corpus.md
```
"""


def page(records: Sequence[Record], missing: Sequence[str] = ()) -> str:
    """Return the whole page.

    Args:
        records: What was measured.
        missing: Files that a run which was ended halfway has not reached.
    """
    parts = [_INTRODUCTION]
    if missing:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(missing))
        parts += [f"This run was ended before it reached {len(missing)} files: {names}.", ""]
    parts += [*summary(records), "", *_alarms(records), "", *_unchecked(records)]
    parts += ["", *_refusals(records), "", *_files(records), ""]
    return "\n".join(parts)


def summary(records: Sequence[Record]) -> Iterator[str]:
    """Yield the table of totals, and everything that is not as it should be."""
    yield "## Totals"
    yield ""
    yield from _header(
        "runtime",
        "files",
        "inspected",
        "exposed",
        "run untouched",
        "identical of these",
        "traced of these",
        "dumped of these",
        "run repaired",
        "traced with Keras",
        "crashes of tfldbg",
    )
    for runtime in RUNTIMES:
        mine = [r for r in records if r["runtime"] == runtime]
        run = [r for r in mine if r["ran"]]
        pairs = [r for r in mine if "keras" in r]
        with_keras = f"{_count(pairs, 'keras')} of {len(pairs)}" if pairs else "-"
        yield _row(
            runtime,
            len(mine),
            _count(mine, "inspect"),
            _count(mine, "expose"),
            len(run),
            sum(r["identical"] is True for r in run),
            _count(run, "trace"),
            _count(run, "dump"),
            sum(not r["ran"] and r["trace"]["outcome"] == "ok" for r in mine),
            with_keras,
            sum(r[c]["outcome"] == "bug" for r in mine for c in COMMANDS if c in r),
        )
    wrong = list(_wrong(records))
    if wrong:
        yield ""
        yield "Not as it should be:"
        yield ""
        yield from wrong


def _count(records: Iterable[Record], command: str) -> int:
    return sum(r[command]["outcome"] == "ok" for r in records)


def _wrong(records: Iterable[Record]) -> Iterator[str]:
    for r in records:
        for command in COMMANDS:
            if command in r and r[command]["outcome"] == "bug":
                yield f"- {_name(r)} under {r['runtime']}: {command}: {_plain(r[command]['said'])}"
        if r["ran"] and r["expose"]["outcome"] == "ok" and not r["identical"]:
            yield f"- {_name(r)} under {r['runtime']}: the exposed file has other outputs"
        if r["ran"] and r["trace"]["outcome"] == "refused":
            yield f"- {_name(r)} under {r['runtime']}: not traced: {_plain(r['trace']['said'])}"
        if r["trace"].get("identical") is False:
            yield f"- {_name(r)} under {r['runtime']}: the trace found other final outputs"


def _alarms(records: Sequence[Record]) -> Iterator[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for r in records:
        if r["trace"].get("verdict") == "diverged":
            found[_name(r)].append(r["runtime"])
    yield "## Files on which the self trace is not silent"
    yield ""
    yield "What is behind each of them stands in [the self trace on real files](selftrace.md)."
    yield ""
    yield from _header("file", "runtimes")
    yield from (_row(name, _which(runtimes)) for name, runtimes in found.items())


def _unchecked(records: Sequence[Record]) -> Iterator[str]:
    yield "## Operators that were not checked"
    yield ""
    traced = [r for r in records if r["trace"]["outcome"] == "ok"]
    for runtime in RUNTIMES:
        mine = [r["trace"] for r in traced if r["runtime"] == runtime]
        total = sum(t["operators"] for t in mine)
        left = sum(sum(t["unchecked"].values()) for t in mine)
        yield f"- {runtime}: {total - left:,} of {total:,} operator outputs were checked"
    yield ""
    yield "The reasons, counted over all three runtimes:"
    yield ""
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for r in traced:
        for said, count in r["trace"]["unchecked"].items():
            kind, _, reason = said.partition(": ")
            reason = _SHAPES if reason == "None" else reason
            reasons[re.sub(r"tensor \d+", "tensor N", _plain(reason))][kind] += count
    yield from _header("reason", "outputs", "operators")
    for reason, kinds in sorted(reasons.items(), key=lambda pair: -sum(pair[1].values())):
        names = ", ".join(kind for kind, _ in kinds.most_common(6))
        yield _row(reason, sum(kinds.values()), names + (", ..." if len(kinds) > 6 else ""))


def _refusals(records: Sequence[Record]) -> Iterator[str]:
    """Yield what the files that do not run untouched end with."""
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for r in records:
        if not r["ran"]:
            found[_name(r), _reason(r)].append(r)
    yield "## Files that do not run untouched"
    yield ""
    yield from _header("file", "runtimes", "what the trace says", "inspected", "exposed")
    for (name, reason), mine in found.items():
        marks = ["yes" if _count(mine, c) == len(mine) else "no" for c in ("inspect", "expose")]
        yield _row(name, _which([r["runtime"] for r in mine]), reason, *marks)


def _reason(record: Record) -> str:
    if record["trace"]["outcome"] == "ok":
        return "runs as a repaired copy, which the report says"
    said = re.sub(r"; without running it, .*", "", _plain(record["trace"]["said"]))
    said = re.sub(r"^sample \d+: ", "", said)
    return re.sub(r"^the \w+ runtime refused '[^']*'(?: at)?:? ?", "", said)


def _files(records: Sequence[Record]) -> Iterator[str]:
    by_name: dict[str, list[Record]] = defaultdict(list)
    for r in records:
        by_name[_name(r)].append(r)
    yield "## Every file"
    yield ""
    yield "`all` stands for all three runtimes; `-` for none."
    yield ""
    yield from _header("file", "runs", "exposed", "identical", "traced", "dumped", "not checked")
    for name, mine in by_name.items():
        cells = [
            _which([r["runtime"] for r in mine if r["ran"]]),
            "yes" if mine[0]["expose"]["outcome"] == "ok" else "no",
            _which([r["runtime"] for r in mine if r["identical"]]),
            _which([r["runtime"] for r in mine if r["trace"]["outcome"] == "ok"]),
            _which([r["runtime"] for r in mine if r["dump"]["outcome"] == "ok"]),
        ]
        traced = [r["trace"] for r in mine if r["trace"]["outcome"] == "ok"]
        left = max((sum(t["unchecked"].values()) for t in traced), default=0)
        total = max((t["operators"] for t in traced), default=0)
        yield _row(name, *cells, f"{left} of {total}" if traced else "-")


def _which(runtimes: Sequence[str]) -> str:
    if not runtimes:
        return "-"
    return "all" if len(runtimes) == len(RUNTIMES) else ", ".join(runtimes)


def _name(record: Record) -> str:
    name = str(record["file"]).removeprefix("tflite/")
    return f"`{name}`" + (f" `{record['signature']}`" if record["signature"] else "")


def _plain(said: str) -> str:
    """Leave out the folders of files, and what would break a table."""
    return re.sub(r"'/[^']*/", "'", said).replace("|", "/")


def _header(*names: str) -> tuple[str, str]:
    return _row(*names), "|---" * len(names) + "|"


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
