"""A result as a small HTML table for notebooks."""

from __future__ import annotations

from html import escape

from tfldbg.diagnose.result import Result
from tfldbg.report.document import build
from tfldbg.report.plain import printable
from tfldbg.report.section import BLOCKS, Section


def to_html(result: Result) -> str:
    """Return the verdict and the table of operators as an HTML fragment."""
    document = build(result)
    head = ("op", "kind", "tensor", f"local {document.unit}", f"accumulated {document.unit}")
    lines = [
        f"<p><b>{document.verdict.upper()}</b>: {_safe(document.sentence)}</p>",
        "<table><tr>",
        *(f"<th>{title}</th>" for title in (*head, "SQNR dB", "status")),
        "</tr>",
    ]
    for row in document.rows:
        cells = (row.op, row.kind, row.tensor, row.local, row.accumulated, row.sqnr, row.status)
        tag = "b" if row.status == "origin" else "span"
        lines.append("<tr>")
        lines += [f"<td><{tag}>{_safe(cell or '')}</{tag}></td>" for cell in cells]
        lines.append("</tr>")
    lines.append("</table>")
    for section in document.sections:
        lines += _section(section)
    return "".join(lines)


def _section(section: Section) -> list[str]:
    lines = [f"<p><b>{_safe(section.title)}</b></p>"]
    if section.rows:
        lines += ["<table><tr>", *(f"<th>{_safe(c.title)}</th>" for c in section.columns), "</tr>"]
        for row in section.rows:
            lines.append("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>")
        lines.append("</table>")
    return [*lines, *(f"<pre>{_safe(line)}</pre>" for line in section.lines)]


def _cell(text: str) -> str:
    """Return a cell; the spaces of a histogram keep their width."""
    bars = any(c in BLOCKS for c in text)
    return f'<span style="white-space:pre">{_safe(text)}</span>' if bars else _safe(text)


def _safe(text: str) -> str:
    return escape(printable(text))
