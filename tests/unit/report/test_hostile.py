"""Whatever a tensor, a file or a message is called: no report is driven by it."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.cli import console
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Finding, Subject
from tfldbg.diagnose.result import Result
from tfldbg.errors import TfldbgError
from tfldbg.options.judge import Thresholds
from tfldbg.report.document import build_document
from tfldbg.report.html import to_page
from tfldbg.report.junit import to_junit
from tfldbg.report.machine import to_json, write_csv
from tfldbg.report.markdown import to_markdown
from tfldbg.report.notebook import trace_html
from tfldbg.report.plain import printable
from tfldbg.report.tabular import write_trace_csv
from tfldbg.report.terminal import draw
from tfldbg.report.trace_json import trace_to_dict

PIECES = [
    "\x1b[2J\x1b[31m", "\x1b]8;;http://x.y\x07", "\x9b31m", "\r", "\n::error::", "\t", "\0", "\x7f",
    "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\uffff", "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>", "]]>", "<!--", "&amp;", "[red]", "[/]", "[link=x]y",
    "{{7*7}}", "${x}", "=1+1", "@SUM(1)", "+1", "-1", "=cmd|' /C calc'!A0", '"', "'", "`", "|", ",",
    ";", "../", "*/", "\\", "%s", "{0}", "conv/Relu",
]  # fmt: skip
HOSTILE = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), min_size=1, max_size=6
).map("".join)
COMMAND = ("=", "+", "-", "@", "\t", "\r")


def _result(name: str) -> Result:
    op = replace(operator(1, local=40.0), name=name, kind=f"CUSTOM {name}", reference=name)
    lost = replace(operator(2, local=None), name=name, local_reason=f"see {name}")
    said, subject = f"of {name}", Subject(1, f"CUSTOM {name}", name)
    finding = Finding(
        "TFL001", "error", 1, name, said, {"found": name}, f"mend {name}", subject=subject
    )
    made = evidence(operator(0, local=0.5), op, lost)
    run = replace(made.run, model_path=f"{name}.tflite", reference_path=name, data=name)
    made = replace(made, run=run, file=(finding,))
    return Result(made, diagnose(made, Thresholds()))


def _steers(text: str) -> list[str]:
    """Return the characters that drive a terminal or hide what stands there."""
    return sorted({c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")})


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def _tags(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Tags()
    parser.feed(page)
    return parser.found


def _drawn(result: Result) -> str:
    stream = io.StringIO()
    document = build_document(result, everything=True, verbose=True)
    draw(document, Console(file=stream, width=300, highlight=False, color_system=None))
    return stream.getvalue()


_FEW = settings.default.max_examples // 3
_SETTINGS = settings(max_examples=_FEW, suppress_health_check=list(HealthCheck), deadline=None)


@_SETTINGS
@given(name=HOSTILE)
def test_no_text_report_is_driven_by_a_name(name: str) -> None:
    result = _result(name)
    page = to_markdown(result).replace("&#8203;", "")
    for text in (_drawn(result), page, to_junit(result), trace_html(result)):
        assert _steers(text) == []
    ET.fromstring(to_junit(result).encode())
    assert "<script" not in page and "<img" not in page
    text = to_json(trace_to_dict(result))
    assert text.isascii() and json.loads(text)
    assert _steers(text) == []


@_SETTINGS
@given(name=HOSTILE)
def test_rich_markup_in_a_name_is_shown(name: str) -> None:
    assert printable(f"[bold]{name}")[:6] in _drawn(_result(f"[bold]{name}"))


@settings(_SETTINGS, max_examples=8)
@given(name=HOSTILE)
def test_no_page_gets_other_elements(name: str) -> None:
    honest, hostile = _result("conv/Relu"), _result(name)
    assert set(_tags(trace_html(hostile))) <= set(_tags(trace_html(honest))) | {("br", ())}
    assert set(_tags(to_page(hostile))) <= set(_tags(to_page(honest)))


@_SETTINGS
@given(name=HOSTILE)
def test_no_cell_is_a_formula_and_numbers_stay_numbers(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.csv"
    write_trace_csv(_result(name), str(path))
    text = path.read_text()
    assert _steers(text) == []
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["zero_point"]) for row in rows] == [-3, -3, -3]
    for row in rows:
        for cell in (row["tensor"], row["kind"], row["reference"], row["unchecked_reason"]):
            assert not cell.lstrip().startswith(COMMAND), cell


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("\uff1d1", "'\uff1d1"),
        ("\uff0b1", "'\uff0b1"),
        (" =1", "' =1"),
        ("-1.5", "'-1.5"),
        (-1.5, "-1.5"),
        ("a=b", "a=b"),
        (None, '""'),
    ],
)
def test_what_a_spreadsheet_would_run_is_text(
    tmp_path: Path, cell: str | float | None, shown: str
) -> None:
    write_csv(["x"], [[cell]], str(tmp_path / "f.csv"))
    assert (tmp_path / "f.csv").read_text() == f"x\n{shown}\n"


@_SETTINGS
@given(name=HOSTILE)
def test_an_error_is_one_line_and_its_hint_another(name: str) -> None:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        console.show_error(TfldbgError(f"bad '{name}'", hint=f"not '{name}'"))
    said = stream.getvalue()
    assert _steers(said) == []
    assert [line[:5] for line in said.splitlines()] == ["error", "hint:"]
