"""What a notebook shows, in any theme."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.options.judge import Thresholds
from tfldbg.report.notebook import operator_html, trace_html


def _result() -> Result:
    ops = [
        operator(0, local=0.5),
        operator(1, local=40.0),
        operator(2, local=0.5, accumulated=40.0),
    ]
    made = evidence(*ops)
    return Result(made, diagnose(made, Thresholds()))


def _style(page: str) -> str:
    return re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]


def test_the_origin_is_marked_and_numbers_are_to_the_right() -> None:
    page = trace_html(_result())
    rows = re.findall(r'<tr class="(\w+)">(.*?)</tr>', page)
    assert [status for status, _ in rows] == ["ok", "origin", "inherited"]
    assert '<td class="right">1</td>' in rows[1][1] and '<td class="right">40</td>' in rows[1][1]
    assert '<td class="name">layer_1</td>' in rows[1][1]
    assert '<b class="diverged">DIVERGED</b>' in page


def test_text_and_page_keep_the_colours_of_the_theme() -> None:
    style = _style(trace_html(_result()))
    assert "background: #" not in style and "white;" not in style and "black" not in style
    assert all(line.startswith((".tfldbg", "  ")) for line in style.strip().splitlines())


def test_one_operator_shows_its_errors_and_findings() -> None:
    result = _result()
    findings = [f for f in result.diagnosis.findings if f.op == 1]
    page = operator_html(result.evidence.ops[1], "origin", findings)
    assert "operator 1 CONV_2D &#x27;layer_1&#x27;" in page and findings[0].code in page
    assert '<td>local</td><td class="right">40</td>' in page.replace("\n", "")


def test_one_operator_without_figures_says_so() -> None:
    unmatched = replace(operator(0, local=None), reference=None, unmatched_reason="<nothing>")
    page = operator_html(unmatched, "unchecked", ())
    assert "no figures" in page and "&lt;nothing&gt;" in page


def test_names_cannot_drive_the_page() -> None:
    evil = replace(operator(0, local=9.0), name="x/<script>alert(1)</script>\x1b/y")
    page = operator_html(evil, "origin", ())
    assert "<script>" not in page and "\x1b" not in page
