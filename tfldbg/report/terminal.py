"""Print a document with rich."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tfldbg.measures.section import ASCII_BLOCKS, Section
from tfldbg.report.document import Document, Row, build_document
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Finding
    from tfldbg.diagnose.result import Result

_STYLES = {"origin": "bold red", "inherited": "magenta", "ok": "green", "unchecked": "dim"}
_STYLES_OF_VERDICT = {"clean": "bold green", "diverged": "bold red", "recorded": "bold"}
_MOST_LINES = 8
_NARROW = 79
"""The width below which the status has no room next to unfolded kinds."""


def draw(document: Document, console: Console) -> None:
    """Print the verdict, the table and the findings."""
    _draw_verdict(document, console)
    console.print()
    for label, text in document.facts:
        console.print(
            Text.assemble((f"{label:<10}", "dim"), printable(text)),
            soft_wrap=not console.is_terminal,
        )
    console.print(_table(document, narrow=console.width < _NARROW))
    _draw_findings(document, console)
    _draw_lines("unchecked:", document.unchecked, console)
    for section in document.sections:
        _draw_section(section, console)


def draw_brief(document: Document, console: Console) -> None:
    """Print the verdict and the outcome of the user's rules, one line each."""
    _draw_verdict(document, console)
    if document.gate is not None:
        console.print(Text(printable(document.gate)), soft_wrap=not console.is_terminal)


def _draw_verdict(document: Document, console: Console) -> None:
    style = _STYLES_OF_VERDICT[document.verdict]
    console.print(
        Text.assemble((document.verdict.upper(), style), ": ", printable(document.sentence)),
        soft_wrap=not console.is_terminal,
    )


def plain_text(result: Result, width: int = 100) -> str:
    """Return the report of a trace as text of some width, without colours."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    draw(build_document(result, histograms=False), console)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _draw_section(section: Section, console: Console) -> None:
    """Print a titled table, in ASCII if the console supports nothing else."""

    def plain(text: str) -> Text:
        return Text(printable(text.translate(ASCII_BLOCKS) if console.options.ascii_only else text))

    console.print()
    console.print(Text(printable(section.title), style="bold"), soft_wrap=not console.is_terminal)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for column in section.columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold",
        )
    for row in section.rows:
        drawn.add_row(*(plain(cell) for cell in row))
    if section.rows:
        console.print(drawn)
    for line in section.lines:
        console.print(plain(line), soft_wrap=not console.is_terminal)


def _table(document: Document, narrow: bool) -> Table:
    """Return the table of operators; on a narrow console kinds are folded like tensors."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    drawn.add_column("op", justify="right", no_wrap=True)
    drawn.add_column("kind", min_width=7 if narrow else 17, overflow="fold")
    drawn.add_column("tensor", overflow="fold")
    drawn.add_column(f"local\n{document.unit}", justify="right", no_wrap=True)
    drawn.add_column(f"accumulated\n{document.unit}", justify="right", no_wrap=True)
    drawn.add_column("SQNR\ndB", justify="right", no_wrap=True)
    longest = max((len(row.status or "") for row in document.rows), default=0)
    drawn.add_column("status", no_wrap=True, min_width=max(longest, len("status")))
    for row in document.rows:
        drawn.add_row(*_cells(row), style="bold" if row.status == "origin" else None)
    return drawn


def _cells(row: Row) -> list[Text]:
    plain = [row.op, row.kind, row.tensor, row.local, row.accumulated, row.sqnr]
    cells = [Text(printable(cell)) for cell in plain]
    if row.status is None:
        return [Text(c.plain, style="dim") for c in cells]
    return [*cells, Text(row.status, style=_STYLES[row.status])]


def _draw_findings(document: Document, console: Console) -> None:
    seen: set[tuple[str, str]] = set()
    lines = []
    for finding in document.findings:
        said = [_message(finding, document)]
        if (finding.code, finding.suggestion) not in seen:
            said.append(finding.suggestion[:1].upper() + finding.suggestion[1:])
        seen.add((finding.code, finding.suggestion))
        lines.append(f"{finding.code} {finding.severity}: {'. '.join(said)}.")
    _draw_lines("findings:", tuple(lines), console)


def _message(finding: Finding, document: Document) -> str:
    """Return a finding as a sentence, or a pointer to the part above that already says it."""
    if finding is document.cause:
        return "see above"
    first, subject = document.first, finding.subject
    if first is not None and subject is not None and finding.predicate == first.message:
        return f"operator {subject.op}: see above"
    return finding.message


def _draw_lines(title: str, lines: tuple[str, ...], console: Console) -> None:
    if not lines:
        return
    console.print(Text(title, style="bold"))
    for line in lines[:_MOST_LINES]:
        if console.is_terminal:  # folded lines stay indented
            console.print(Padding(Text(printable(line)), (0, 0, 0, 2), expand=False))
        else:
            console.print(Text(f"  {printable(line)}"), soft_wrap=True)
    if len(lines) > _MOST_LINES:
        console.print(f"  ... and {len(lines) - _MOST_LINES} more: see --json", style="dim")
