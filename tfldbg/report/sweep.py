"""The output of ``tfldbg sweep``: one row per trace, the totals, and the spread over seeds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfldbg.diagnose.outcome import Found, Outcome, Spread, spreads
from tfldbg.diagnose.words import number, op_label
from tfldbg.report.plain import printable

_STYLES = {"clean": "green", "diverged": "bold red", "error": "red"}
_NOTHING = "-"
_FIRST_WORDS = 72
_LABEL_WIDTH = 16
_FIRST_WIDTH = 15
_MOST_LINES = 8
_SHOWN = {
    "local_max_lsb": "local LSB",
    "output_max_lsb": "output max LSB",
    "output_max_abs": "output max abs",
    "output_mean_abs": "output mean abs",
    "output_sqnr_db": "output SQNR dB",
}
"""The figures whose spread is shown; files hold all of them."""


def draw_sweep(rows: Sequence[Outcome], console: Console) -> None:
    """Print the table, the spread of the figures, the errors and the totals."""
    wrap = not console.is_terminal
    folder = _common_folder(rows)
    for label, said in _facts(rows, folder):
        console.print(Text.assemble((f"{label:<10}", "dim"), printable(said)), soft_wrap=wrap)
    console.print(_table(rows, folder, console))
    over = [s for s in spreads(rows) if s.figure in _SHOWN]
    if over:
        console.print(_spread_table(over, folder))
    failed = [row for row in rows if row.error is not None]
    if failed:
        console.print(Text("errors:", style="bold"))
    for row in failed[:_MOST_LINES]:
        console.print(Text(printable(f"  {row.case.model}: {_said(row)}")), soft_wrap=wrap)
    if len(failed) > _MOST_LINES:
        console.print(f"  ... and {len(failed) - _MOST_LINES} more: see --csv", style="dim")
    title, sentence = summary(rows)
    style = _STYLES["clean"] if title == "CLEAN" else _STYLES["diverged"]
    console.print(Text.assemble((title, f"bold {style}"), ": ", sentence), soft_wrap=wrap)


def summary(rows: Sequence[Outcome]) -> tuple[str, str]:
    """Return the verdict about all rows in a word and in a sentence."""
    counts = Counter(row.verdict for row in rows)
    title = "FAILED" if counts["error"] else "DIVERGED" if counts["diverged"] else "CLEAN"
    traces = f"{len(rows)} trace{'' if len(rows) == 1 else 's'}"
    seconds = sum(row.seconds for row in rows)
    return title, (
        f"{traces} in {seconds:.0f} s: {counts['clean']} clean, {counts['diverged']} diverged, "
        f"{counts['error']} failed"
    )


def _said(row: Outcome) -> str:
    if row.error is None:
        return row.found.sentence if row.found else ""
    return row.error.message + (f" (hint: {row.error.hint})" if row.error.hint else "")


def _common_folder(rows: Sequence[Outcome]) -> str:
    """Return the common folder of all models, so that the table does not repeat it."""
    folders = {str(Path(row.case.model).parent) for row in rows}
    if not folders or len({Path(folder).is_absolute() for folder in folders}) > 1:
        return ""
    common = os.path.commonpath(folders)
    return "" if common in (".", os.sep) else common


def _facts(rows: Sequence[Outcome], folder: str) -> Iterator[tuple[str, str]]:
    if folder:
        yield "models in", folder
    kinds = Counter(row.case.against.kind for row in rows)
    references = sorted({row.case.reference or "its own float arithmetic" for row in rows})
    one = references[0] if len(references) == 1 else f"{len(references)} references"
    yield "reference", f"{one} ({', '.join(kinds)})"
    yield "runtime", ", ".join(dict.fromkeys(row.case.run_on.runtime for row in rows))
    given = dict.fromkeys(row.case.data for row in rows if row.case.data is not None)
    if given:
        yield "data", next(iter(given)) if len(given) == 1 else f"{len(given)} data sets"
    if any(row.found and row.found.data == "random" for row in rows):
        seeds = {row.case.seed for row in rows if row.case.seed is not None}
        which = f"seed {min(seeds)}" if len(seeds) == 1 else f"{len(seeds)} seeds"
        yield "data", f"random ({which}): give real data with --data"
    counts = sorted({row.found.samples for row in rows if row.found})
    if counts:
        yield "samples", f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _table(rows: Sequence[Outcome], folder: str, console: Console) -> Table:
    seeds = len({row.case.seed for row in rows}) > 1
    runtimes = len({row.case.run_on.runtime for row in rows}) > 1
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    longest = max((len(_label(row.case.model, folder)) for row in rows), default=0)
    widest = max((len("first to"), *(len(_first(row, False)) for row in rows)))
    drawn.add_column("model", overflow="fold", min_width=min(longest, _LABEL_WIDTH))
    if seeds:
        drawn.add_column("seed", justify="right", no_wrap=True)
    if runtimes:
        drawn.add_column("runtime", no_wrap=True)
    drawn.add_column("verdict", no_wrap=True)
    for title in ("local\nLSB", "output\nLSB", "output\nSQNR dB"):
        drawn.add_column(title, justify="right", no_wrap=True)
    drawn.add_column("first to\ndiffer", overflow="fold", min_width=min(widest, _FIRST_WIDTH))
    for row in rows:
        cells = [Text(printable(_label(row.case.model, folder)))]
        cells += [Text(_NOTHING if row.case.seed is None else str(row.case.seed))] if seeds else []
        cells += [Text(row.case.run_on.runtime)] if runtimes else []
        cells += [Text(row.verdict, style=_STYLES[row.verdict])]
        cells += _figure_cells(row.found)
        style = _STYLES["error"] if row.error else ""
        cells += [Text(printable(_first(row, console.is_terminal)), style=style)]
        drawn.add_row(*cells)
    return drawn


def _label(model: str, folder: str) -> str:
    return os.path.relpath(model, folder) if folder else model


def _figure_cells(found: Found | None) -> list[Text]:
    if found is None:
        return [Text(_NOTHING)] * 3
    figures = found.figures
    sqnr = _NOTHING if figures.output_sqnr_db is None else f"{figures.output_sqnr_db:.0f}"
    if figures.output_max_abs == 0:
        sqnr = "same"
    return [_lsb(figures.local_max_lsb), _lsb(figures.output_max_lsb), Text(sqnr)]


def _lsb(value: float | None) -> Text:
    if value is None:
        return Text(_NOTHING)
    return Text(f"{value:.2f}" if value < 10 else f"{value:.0f}")


def _first(row: Outcome, cut: bool) -> str:
    found = row.found
    if found is None:
        said = row.error.message if row.error else _NOTHING
        return said[: _FIRST_WORDS - 3] + "..." if cut and len(said) > _FIRST_WORDS else said
    first = found.first
    if first is None:
        return f"({found.unchecked} unchecked)" if found.unchecked else _NOTHING
    label = op_label(first.op, first.kind, first.tensor)
    more = len(found.origins) - 1
    return f"{label}: {first.signal}" + (f"; {more} more" if more else "")


def _spread_table(over: Sequence[Spread], folder: str) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    drawn.add_column("over all rows of", overflow="fold")
    drawn.add_column("figure", no_wrap=True)
    for title in ("rows", "min", "median", "max"):
        drawn.add_column(title, justify="right", no_wrap=True)
    many = len({s.runtime for s in over}) > 1
    said = None
    for s in over:
        label = _label(s.family, folder) + (f", {s.runtime}" if many else "")
        values = (number(v) for v in (s.minimum, s.median, s.maximum))
        shown = "" if label == said else printable(label)
        drawn.add_row(Text(shown), _SHOWN[s.figure], str(s.rows), *values)
        said = label
    return drawn
