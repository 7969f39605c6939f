"""CSV, JUnit XML and Markdown: well formed and complete, whatever a tensor is called."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Failure, JUnitXml, Skipped, TestCase
from markdown_it import MarkdownIt

from tests.schema import assert_documented, validator
from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.diagnose.evidence import Evidence, OpEvidence
from tfldbg.diagnose.limits import read_rules
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Divergence
from tfldbg.diagnose.result import Result, gated
from tfldbg.options.judge import Thresholds
from tfldbg.report.junit import to_junit
from tfldbg.report.markdown import escape, to_markdown
from tfldbg.report.plain import printable
from tfldbg.report.tabular import columns, write_trace_csv
from tfldbg.report.trace_json import trace_to_dict

EVIL = (
    'n/<img src=x onerror="a()">|`a`|@octocat/\x1b[31m#12 ]]>&amp;_b_ *c* [l](http://x.y) ~~d~~ $e$'
    "\ud800\ufffe{0}\\"
)
PLAIN = evidence(
    operator(0, local=0.5),
    operator(1, local=40.0),
    operator(2, local=0.5, accumulated=30.0),
    operator(3, local=None),
)


def _result(made: Evidence = PLAIN, *rules: str) -> Result:
    return gated(Result(made, diagnose(made, Thresholds())), read_rules(rules))  # type: ignore[return-value]


def _named(op: OpEvidence, name: str) -> OpEvidence:
    return replace(op, name=name, local_reason=None if op.local else f"see {name}")


def _evil(*rules: str) -> Result:
    made = replace(PLAIN, ops=tuple(_named(op, EVIL) for op in PLAIN.ops))
    return _result(replace(made, run=replace(made.run, model_path=f"a b/{EVIL}.tflite")), *rules)


# CSV


def _csv(result: Result, tmp_path: Path) -> list[dict[str, str]]:
    write_trace_csv(result, str(tmp_path / "t.csv"))
    return list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))


def test_csv_holds_the_figures_of_the_json(tmp_path: Path) -> None:
    result = _result()
    rows = _csv(result, tmp_path)
    assert list(rows[0]) == [column.name for column in columns(result)]
    for row, op in zip(rows, trace_to_dict(result)["ops"], strict=True):
        assert (row["op"], row["status"]) == (str(op["op"]), op["status"])
        assert (
            float(row["accumulated_max_lsb"] or 0)
            == (op["accumulated"] or {"max_lsb": 0})["max_lsb"]
        )
    assert rows[3]["local_max_lsb"] == "" and rows[3]["unchecked_reason"]


def test_every_column_is_a_path_of_the_schema() -> None:
    schema = validator().schema

    def paths(part: dict[str, object], front: str) -> set[str]:
        found: set[str] = set()
        for key, value in part["properties"].items():  # type: ignore[attr-defined]
            refs = [a["$ref"] for a in value.get("anyOf", ()) if "$ref" in a]
            name = refs[0].rpartition("/")[2] if refs else None
            found |= paths(schema["$defs"][name], f"{front}{key}_") if name else {front + key}
        return found

    documented = paths(schema["$defs"]["op"], "")
    names = {column.name for column in columns(_result())}
    assert names - documented == {"expected_scale", "expected_zero_point"}
    left_out = {c for c in documented - names if not c.endswith(("channel_max_abs", "_metrics"))}
    assert left_out == {"expected_parameters", "histogram_local", "histogram_accumulated"}


# JUnit


def _cases(result: Result) -> list[TestCase]:
    (suite,) = JUnitXml.fromstring(to_junit(result).encode())
    return list(suite)


def _kinds(cases: list[TestCase]) -> list[type | None]:
    return [type(c.result[0]) if c.result else None for c in cases]


def test_junit_fails_origins_and_skips_what_is_unchecked() -> None:
    cases = _cases(_result())
    assert _kinds(cases) == [None, Failure, None, Skipped]
    assert [c.name for c in cases][:2] == ["0 CONV_2D layer_0", "1 CONV_2D layer_1"]
    assert {c.classname for c in cases} == {"tfldbg.net"}
    assert "40 LSB" in cases[1].result[0].message and "40 LSB" in cases[1].result[0].text
    assert cases[2].system_out.startswith("inherited: ")
    assert cases[3].result[0].message == "its input has no counterpart"
    (suite,) = JUnitXml.fromstring(to_junit(_result()).encode())
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (4, 1, 1, 0)


def test_junit_fails_what_fails_the_build_and_nothing_else() -> None:
    lenient = _cases(_result(PLAIN, "local<=50lsb", "layer_3:local<=any"))
    assert _kinds(lenient) == [None, None, None, Skipped]
    assert lenient[1].system_out.startswith("tfldbg's verdict")
    strict = _cases(_result(PLAIN, "accumulated<=5lsb", "local<=50lsb"))
    assert _kinds(strict) == [None, Failure, Failure, Failure]
    assert strict[2].result[0].message == (
        "accumulated.max_lsb is 30, beyond the limit of 5 (rule accumulated<=5lsb)"
    )
    assert strict[2].result[0].type == "accumulated.max_lsb"
    assert strict[3].result[0].message.startswith("unchecked: ")


def test_junit_names_are_unique_and_survive_hostile_tensors() -> None:
    two = evidence(*(replace(operator(0, local=0.5), tensor=t) for t in (7, 8)))
    names = [c.name for c in _cases(_result(two))]
    assert names == ["0 CONV_2D layer_0 (tensor 7)", "0 CONV_2D layer_0 (tensor 8)"]
    cases = _cases(_evil())
    assert _kinds(cases) == [None, Failure, None, Skipped]
    assert printable(EVIL) in cases[1].result[0].text
    assert cases[3].result[0].message == printable(f"see {EVIL}")


def test_junit_skips_what_inherited_an_error_and_was_not_checked_itself() -> None:
    made = evidence(operator(0, local=40.0), operator(1, local=None, accumulated=40.0))
    result = _result(made)
    # As `diff` says it of operators whose inputs always differ.
    found = replace(result.diagnosis, statuses=("origin", "inherited"))
    result = replace(result, diagnosis=found)
    cases = _cases(result)
    assert _kinds(cases) == [Failure, Skipped]
    assert cases[1].result[0].message == "its input has no counterpart"
    assert "arithmetic is right" not in (cases[1].system_out or "")
    behind = replace(operator(2, local=0.5, accumulated=40.0), joint=(1, 2))
    assert _kinds(_cases(_result(evidence(*made.ops, behind)))) == [Failure, None, None]


def test_junit_fails_the_output_that_differs_and_not_its_neighbours() -> None:
    first, second = operator(0, local=0.5), replace(operator(0, local=40.0), tensor=8)
    assert _kinds(_cases(_result(evidence(first, second)))) == [None, Failure]
    result = _result(evidence(first, replace(second, local=first.local)))
    shared = Divergence(0, "CONV_2D", "input", 99, "input", "its zero point is 1, not 2")
    found = replace(result.diagnosis, divergences=(shared,))
    assert _kinds(_cases(replace(result, diagnosis=found))) == [Failure, Failure]


def test_junit_calls_tensors_without_a_name_as_the_terminal_does() -> None:
    (case,) = _cases(_result(evidence(replace(operator(7, local=0.5), name=""))))
    assert case.name == "7 CONV_2D tensor 107"


# Markdown


class _Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def _rendered(markdown: str) -> _Text:
    drawn = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return _Text(drawn.render(markdown))


@given(
    st.text(
        alphabet=st.one_of(st.sampled_from("\\`*_{}[]<>()#+-.!|~&@:/$ \"'aw1;"), st.characters())
    )
)
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    page = _rendered(f"| x |\n| --- |\n| a{escape(text)}a |\n")
    shown = page.text.replace("\u200b", "").split("\n")
    assert f"a{printable(text)}a".replace("\u200b", "").strip() in " ".join(shown)
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td"}


def test_markdown_mentions_and_links_nothing() -> None:
    page = _rendered(to_markdown(_evil("sqnr>=30db", "diverged")))
    assert page.tags <= {
        "h3", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "details",
        "summary",
    }  # fmt: skip
    for linked in ("@o", "#1", "://", "www."):
        assert linked not in page.text
    assert "@\u200boctocat" in page.text


def test_markdown_says_what_matters() -> None:
    text = to_markdown(_result(PLAIN, "sqnr>=30db"))
    assert text.startswith("### tfldbg: DIVERGED, gate FAILED\n\noperator 1 CONV_2D 'layer_1'")
    assert "| **1** | **CONV_2D** | **layer_1** | **40** |" in text
    assert "gate: FAILED 1 rule" in text and "- **TFL" in text
    assert "All operators" not in text
    many = _result(evidence(*(operator(i, local=0.5) for i in range(60))))
    folded = to_markdown(many)
    assert "<summary>All operators</summary>" in folded
    assert folded.count("| 31 | CONV_2D |") == 1
    assert folded.startswith("### tfldbg: CLEAN\n")


# JSON


def test_the_schema_describes_every_key() -> None:
    def undescribed(part: object, path: str) -> list[str]:
        if not isinstance(part, dict):
            return []
        keys = part.get("properties", {})
        missing = [f"{path}.{k}" for k, v in keys.items() if not v.get("description")]
        inner = [u for k, v in keys.items() for u in undescribed(v, f"{path}.{k}")]
        return missing + inner

    schema = validator().schema
    parts = {"$": schema, **schema["$defs"]}
    assert [u for name, part in parts.items() for u in undescribed(part, name)] == []
    owned = [p for p in parts.values() if p["additionalProperties"] is not False]
    assert owned == []


def test_the_gate_is_documented_json() -> None:
    for rules in (
        (),
        ("sqnr>=30db", "local<=1lsb", "diverged"),
        ("local<=50lsb", "layer_3:local<=any"),
    ):
        plain = trace_to_dict(_result(PLAIN, *rules))
        assert_documented(plain)
        assert (plain["gate"] is None) == (not rules)
    with pytest.raises(AssertionError, match="'extra' was unexpected"):
        assert_documented({**plain, "extra": 1})
