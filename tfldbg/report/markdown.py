"""Markdown for a pull request or a job summary on GitHub and GitLab."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tfldbg.report.document import Document, Row, build_document, verdict_word
from tfldbg.report.gate import gate_section
from tfldbg.report.machine import write_text
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Finding
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.section import Section

_INVISIBLE = "&#8203;"
"""A zero-width space, which prevents ``@name`` from notifying, and ``#1`` and URLs from linking."""
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~$!]")
_EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LINKING = re.compile(r"@|#(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
_MOST_FINDINGS = 20


def write_markdown(result: Result, target: str) -> None:
    """Write Markdown.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_text(to_markdown(result), target)


def to_markdown(result: Result) -> str:
    """Return the report, with all operators and additional sections folded."""
    document = build_document(result, histograms=False)
    lines = [f"### tfldbg: {_headline(result)}", "", escape(document.sentence), ""]
    why = dict(document.facts).get("why")
    if why is not None:
        lines += [f"**Why:** {escape(why)}", ""]
    lines += [*(f"- {name}: {escape(text)}" for name, text in document.facts if name != "why"), ""]
    gate = gate_section(result.gate, everything=False)
    for section in gate:
        lines += _section(section)
    lines += [*_operators(document.rows, document.unit), *_findings(document)]
    if any(row.status is None for row in document.rows):
        rows = build_document(result, everything=True).rows
        lines += _folded("All operators", _operators(rows, document.unit))
    for section in document.sections:
        if section not in gate:
            lines += _folded(escape(section.title), _section(section, titled=False))
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """Return text that Markdown shows unchanged, without markup, HTML, mentions or links.

    Character references are used instead of backslashes, because they have the same meaning inside
    and outside of tables.
    """
    plain = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", printable(text))
    plain = _EDGE.sub("&#95;", plain)
    # The references themselves hold a '#' before digits, so they are skipped.
    parts = re.split(r"(&#\d+;)", plain)
    return "".join(
        part if i % 2 else _LINKING.sub(lambda found: found[0] + _INVISIBLE, part)
        for i, part in enumerate(parts)
    )


def _headline(result: Result) -> str:
    gate = result.gate
    rules = "" if gate is None else f", gate {'passed' if gate.passed else 'FAILED'}"
    return f"{verdict_word(result).upper()}{rules}"


def _operators(rows: Iterable[Row], unit: str) -> list[str]:
    titles = ["op", "kind", "tensor", f"local {unit}", f"accumulated {unit}", "SQNR dB", "status"]
    right = [True, False, False, True, True, True, False]
    body = []
    for row in rows:
        cells = [row.op, row.kind, row.tensor, row.local, row.accumulated, row.sqnr]
        drawn = [*map(escape, cells), row.status or ""]
        body.append([f"**{c}**" if c else c for c in drawn] if row.status == "origin" else drawn)
    return _table(titles, right, body)


def _table(
    titles: Sequence[str], right: Sequence[bool], rows: Iterable[Sequence[str]]
) -> list[str]:
    lines = [
        _line(titles),
        _line(["---:" if r else "---" for r in right]),
        *(_line(row) for row in rows),
    ]
    return [*lines, ""]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _findings(document: Document) -> list[str]:
    if not document.findings:
        return []
    shown = document.findings[:_MOST_FINDINGS]
    lines = ["**Findings**", "", *(_finding(f) for f in shown)]
    if len(document.findings) > len(shown):
        lines.append(f"- ... and {len(document.findings) - len(shown)} more")
    return [*lines, ""]


def _finding(finding: Finding) -> str:
    advice = finding.suggestion[:1].upper() + finding.suggestion[1:]
    said = f"{escape(finding.message)}. {escape(advice)}."
    return f"- **{finding.code}** {finding.severity}: {said}"


def _section(section: Section, *, titled: bool = True) -> list[str]:
    lines = [f"**{escape(section.title)}**", ""] if titled else []
    if section.rows:
        titles = [escape(column.on_one_line) for column in section.columns]
        right = [column.right for column in section.columns]
        lines += _table(titles, right, ([escape(c) for c in row] for row in section.rows))
    for line in section.lines:
        lines += [escape(line), ""]
    return lines


def _folded(title: str, lines: Iterable[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "</details>", ""]
