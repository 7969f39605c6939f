"""Results as small HTML fragments for notebooks.

Colours are those of the notebook, so that the fragments suit light and dark themes; only the
statuses have their own colours, which are readable on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number, op_name
from tfldbg.measures.section import BLOCKS, Section
from tfldbg.report.document import Row, build_document
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Finding, Status
    from tfldbg.diagnose.result import Result

_STYLE = """
.tfldbg table {border-collapse: collapse; margin: 0.4em 0; border: none; width: auto}
.tfldbg th, .tfldbg td {text-align: left; padding: 0.15em 0.7em; border: none;
  vertical-align: top; white-space: normal; max-width: none}
.tfldbg th {border-bottom: 1px solid rgba(128, 128, 128, 0.6); font-weight: 600}
.tfldbg .right {text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap}
.tfldbg .name, .tfldbg .bars, .tfldbg pre {font-family: ui-monospace, Menlo, Consolas, monospace}
.tfldbg .name {overflow-wrap: anywhere}
.tfldbg .bars {white-space: pre}
.tfldbg pre {margin: 0; padding: 0; background: none; color: inherit; white-space: pre-wrap}
.tfldbg p {margin: 0.3em 0}
.tfldbg .gap, .tfldbg .facts {opacity: 0.7}
.tfldbg tr.origin, .tfldbg tr.origin:hover {background: rgba(229, 72, 77, 0.18)}
.tfldbg tr.origin td {font-weight: 600}
.tfldbg .diverged, .tfldbg .origin .status {color: #e5484d}
.tfldbg .clean, .tfldbg .ok .status {color: #2e9e5b}
.tfldbg .inherited .status {color: #b866c9}
.tfldbg .unchecked .status {opacity: 0.7}
"""
_FACTS = ("model", "reference", "data")


def trace_html(result: Result) -> str:
    """Return the verdict, the cause, the table of operators and the sections as HTML."""
    document = build_document(result)
    facts = dict(document.facts)
    verdict = f'<b class="{document.verdict}">{document.verdict.upper()}</b>'
    lines = [f"<p>{verdict}: {_safe(document.sentence)}</p>"]
    if "why" in facts:
        lines.append(f"<p><b>why</b> {_safe(facts['why'])}</p>")
    said = " · ".join(_safe(facts[name]) for name in _FACTS if name in facts)
    lines.append(f'<p class="facts">{said}</p>')
    lines += _operators(document.rows, document.unit)
    for section in document.sections:
        lines += _section(section)
    return _fragment(lines)


def operator_html(op: OpEvidence, status: Status, findings: Sequence[Finding]) -> str:
    """Return one operator output with its errors and findings as an HTML fragment."""
    tensor = f"tensor {op.tensor}, {op.type.lower()}"
    if op.scale is not None:
        tensor += f", scale {number(op.scale)}, zero point {op.zero_point}"
    known = [("local", op.local), ("accumulated", op.accumulated)]
    return _fragment(
        [
            f'<p class="{status}"><b>{_safe(op_name(op.op, op.kind, op.name))}</b> '
            f'<b class="status">{status}</b></p>',
            f'<p><span class="name">{_safe(op.name)}</span></p>',
            f'<p class="facts">{_safe(tensor)}; reference: {_safe(_counterpart(op))}</p>',
            *_errors([(name, stats) for name, stats in known if stats is not None]),
            *(f"<p><b>{f.code}</b> {f.severity}: {_safe(f.message)}</p>" for f in findings),
        ]
    )


def _counterpart(op: OpEvidence) -> str:
    return op.reference or op.unmatched_reason or "none"


def _errors(known: Sequence[tuple[str, TensorStats]]) -> list[str]:
    if not known:
        return ["<p>no figures</p>"]
    lsb = any(stats.max_lsb is not None for _, stats in known)
    titles = ["max LSB", "mean LSB", "RMSE LSB"] if lsb else ["max abs", "mean abs", "RMSE"]
    lines = ["<table><thead><tr>", _head("error")]
    lines += [_head(title, right=True) for title in (*titles, "SQNR dB", "channel", "sample")]
    lines.append("</tr></thead><tbody>")
    for name, stats in known:
        sizes = [stats.max_lsb, stats.mean_lsb, stats.rmse_lsb]
        if not lsb:
            sizes = [stats.max_abs, stats.mean_abs, stats.rmse]
        places = [stats.worst_channel, stats.worst_sample]
        cells = [_figure(v) for v in (*sizes, stats.sqnr_db)]
        cells += ["-" if place is None else str(place) for place in places]
        lines += ["<tr>", _cell(name), *(_cell(cell, "right") for cell in cells), "</tr>"]
    return [*lines, "</tbody></table>"]


def _figure(value: float | None) -> str:
    return "-" if value is None else number(value)


def _operators(rows: Sequence[Row], unit: str) -> list[str]:
    lines = ["<table><thead><tr>", _head("op", right=True), _head("kind"), _head("tensor")]
    errors = (f"local {unit}", f"accumulated {unit}", "SQNR dB")
    lines += [*(_head(title, right=True) for title in errors), _head("status")]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append(f'<tr class="{row.status or "gap"}">')
        lines += [_cell(row.op, "right"), _cell(row.kind), _cell(row.tensor, "name")]
        lines += [_cell(cell, "right") for cell in (row.local, row.accumulated, row.sqnr)]
        lines += [_cell(row.status or "", "status"), "</tr>"]
    return [*lines, "</tbody></table>"]


def _section(section: Section) -> list[str]:
    lines = [f"<p><b>{_safe(section.title)}</b></p>"]
    if section.rows:
        heads = (_head(column.on_one_line, right=column.right) for column in section.columns)
        lines += ["<table><thead><tr>", *heads, "</tr></thead><tbody>"]
        for row in section.rows:
            pairs = zip(section.columns, row, strict=True)
            cells = (_cell(cell, "right" if column.right else "") for column, cell in pairs)
            lines += ["<tr>", *cells, "</tr>"]
        lines.append("</tbody></table>")
    return [*lines, *(f"<pre>{_safe(line)}</pre>" for line in section.lines)]


def _head(title: str, *, right: bool = False) -> str:
    return f'<th class="right">{_safe(title)}</th>' if right else f"<th>{_safe(title)}</th>"


def _cell(text: str, kind: str = "") -> str:
    """Return a cell, in which the spaces of a histogram keep their width."""
    kind = "bars" if any(c in BLOCKS for c in text) else kind
    mark = f' class="{kind}"' if kind else ""
    return f"<td{mark}>{_safe(text)}</td>"


def _fragment(lines: Iterable[str]) -> str:
    return f'<div class="tfldbg"><style>{_STYLE}</style>{"".join(lines)}</div>'


def _safe(text: str) -> str:
    return escape(printable(text))
