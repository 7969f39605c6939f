"""A trace as a single HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.diagnose.rules import CATALOG
from tfldbg.report.document import build_document, verdict_word
from tfldbg.report.machine import write_text
from tfldbg.report.page_data import page_data
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.model import Finding
    from tfldbg.diagnose.result import Result

_FOLDER = Path(__file__).with_name("page")
_LIBRARIES = ("vendor/echarts.common.min.js", "vendor/dagre.min.js")
_SCRIPTS = ("shared", "overview", "graph", "operator", "table", "page")
"""The scripts, in the order of their dependencies."""


def write_page(result: Result, target: str) -> None:
    """Write the page.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_text(to_page(result), target)


def to_page(result: Result) -> str:
    """Return the page of a trace.

    A content security policy in the page allows only its own scripts, so that a tensor's name
    cannot run code, and forbids all requests.

    Args:
        result: The trace.  Histograms and scatter plots are drawn if it holds their data.
    """
    document = build_document(result, everything=True, histograms=False)
    scripts = _scripts()
    page: str = _template().render(
        document=document,
        outcome=_outcome(result),
        run=result.evidence.run,
        data=_embedded(page_data(result)),
        rows=_rows(result),
        findings=[_finding(number, f) for number, f in enumerate(document.findings)],
        counts=_counts(result),
        style=_text("page.css"),
        scripts=scripts,
        policy=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    )
    return page


def _outcome(result: Result) -> dict[str, str]:
    """Return the verdict in a word and its colour, green only if a build may go on."""
    word = verdict_word(result)
    if word == "recorded":
        return {"word": word, "colour": "nothing"}
    if result.gate is not None:
        word += f", gate {'passed' if result.passed else 'failed'}"
    return {"word": word, "colour": "clean" if result.passed else "diverged"}


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
    )
    return environment.get_template("page.html.j2")


def _printable(value: Any) -> Any:
    """Return foreign text that is safe to show; the page's own markup is unchanged."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


@cache
def _scripts() -> tuple[str, ...]:
    """Return the libraries and the page's script, escaped so that none ends its element early."""
    own = "\n".join(_text(f"script/{name}.js") for name in _SCRIPTS)
    texts = (*(_text(name) for name in _LIBRARIES), f'"use strict";\n(() => {{\n{own}}})();\n')
    return tuple(_without_source_map(t).replace("</script", "<\\/script") for t in texts)


def _without_source_map(script: str) -> str:
    """Return a script without the comment that makes developer tools request another file."""
    lines = script.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("//# sourceMappingURL"))


def _digest(script: str) -> str:
    """Return a script's SHA-256 in the form of a content security policy."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON for the inside of a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _rows(result: Result) -> list[dict[str, Any]]:
    """Return the data by which the table's rows are sorted, filtered and labelled."""
    ops = result.evidence.ops
    # Float tensors of a quantized file have no LSB to sort by, and come last.
    figure = "max_lsb" if result.evidence.quantized else "max_abs"
    return [
        {
            "name": op.name,
            "group": group,
            "local": _size(op.local, figure),
            "accumulated": _size(op.accumulated, figure),
            "sqnr": getattr(op.accumulated, "sqnr_db", None),
        }
        for op, group in zip(ops, _groups(result), strict=True)
    ]


def _size(stats: TensorStats | None, figure: str) -> float | str | None:
    """Return the sort key of an error, with JavaScript's name for infinity."""
    if stats is None:
        return None
    return "Infinity" if stats.nan or stats.infinite else getattr(stats, figure)


def _groups(result: Result) -> list[str]:
    """Return the status of each row, ``other`` for constants and shapes, which are not checked."""
    pairs = zip(result.evidence.ops, result.diagnosis.statuses, strict=True)
    return [
        "other" if status == "unchecked" and not op.activation else status for op, status in pairs
    ]


def _finding(number: int, finding: Finding) -> dict[str, Any]:
    about = CATALOG.get(finding.code)
    return {"number": number, "found": finding, "about": about}


def _counts(result: Result) -> list[tuple[str, int]]:
    """Return the number of rows of each group, the most severe first."""
    groups = _groups(result)
    names = ("origin", "inherited", "unchecked", "ok", "other")
    return [(name, groups.count(name)) for name in names if name in groups]
