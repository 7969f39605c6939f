"""A result as a small HTML table for notebooks."""

from __future__ import annotations

from html import escape

from tfldbg.diagnose.result import Result
from tfldbg.report.document import build
from tfldbg.report.plain import printable


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
    return "".join([*lines, "</table>"])


def _safe(text: str) -> str:
    return escape(printable(text))
