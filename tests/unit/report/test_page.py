"""The HTML page, as text: what it holds, and what it cannot be made to hold."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from typing import Any

import pytest

from tests.unit.diagnose.evidence import evidence, operator, replace
from tfldbg.compare.usage import Usage
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.measures.pictures.points import Extreme, PicturePairs, Points
from tfldbg.options.judge import Thresholds
from tfldbg.report.html import to_page
from tfldbg.report.page_data import page_data

HOSTILE = "</script><script>alert(1)</script>\x1b[31m<img src=x onerror=alert(2)>"


def _result(*ops: Any) -> Result:
    found = evidence(*ops)
    return Result(found, diagnose(found, Thresholds()))


def _diverged(count: int = 4) -> Result:
    return _result(
        *(operator(i, local=40.0 if i == 2 else 0.4, accumulated=0.4 + i) for i in range(count))
    )


def _data(page: str) -> dict[str, Any]:
    block = re.search(r'<script id="trace-data" type="application/json">(.*?)</script>', page, re.S)
    assert block is not None
    found: dict[str, Any] = json.loads(block[1])
    return found


def _without_scripts(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.S)


def test_the_verdict_the_table_and_the_findings_need_no_script() -> None:
    result = _diverged()
    page = to_page(result)
    still = _without_scripts(page)
    assert html.escape(result.diagnosis.sentence) in still.replace("&#39;", "&#x27;")
    assert len(re.findall(r"<tr [^>]*data-row=", still)) == len(result.evidence.ops)
    for finding in result.diagnosis.findings:
        assert finding.code in still


def test_the_page_asks_for_nothing() -> None:
    page = to_page(_diverged())
    still = _without_scripts(page)
    assert not re.search(r'\b(src|href)="(?!data:|#)', still)
    assert not re.search(r"@import|url\(", still)
    assert "sourceMappingURL" not in page


def test_only_the_scripts_of_the_page_may_run() -> None:
    page = to_page(_diverged())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy[1]))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    digests = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts}
    assert digests == allowed
    assert len(scripts) == 3


@pytest.mark.parametrize("where", ["name", "reference", "kind", "local_reason"])
def test_names_from_a_foreign_file_stay_text(where: str) -> None:
    clean = to_page(_diverged())
    ops = [
        replace(operator(i, local=None if where == "local_reason" else 0.4), **{where: HOSTILE})
        for i in range(3)
    ]
    page = to_page(_result(*ops))
    assert page.count("<script") == clean.count("<script")
    page = _without_scripts(page)
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\\u001b" not in page


def test_a_page_of_no_operators_says_so() -> None:
    page = to_page(_result())
    assert 'id="overview"' not in page
    assert _data(page)["rows"] == []


def test_it_begins_with_the_first_divergence() -> None:
    assert page_data(_diverged())["first"] == 2


def test_a_clean_page_begins_with_the_largest_accumulated_error() -> None:
    ops = [operator(i, local=0.4, accumulated=drift) for i, drift in enumerate((1.0, 9.0, 3.0))]
    assert page_data(_result(*ops))["first"] == 1


def test_operators_know_whom_they_read() -> None:
    rows = page_data(_diverged())["rows"]
    assert [row["from"] for row in rows] == [[], [0], [1], [2]]


def _with_points(result: Result, local: Points | None, accumulated: Points | None) -> Result:
    """The result with the same pairs of values for every operator."""
    tensors = [op.tensor for op in result.evidence.ops]
    given = (dict.fromkeys(tensors, p) if p is not None else {} for p in (local, accumulated))
    return replace(
        result, evidence=replace(result.evidence, measures={"pictures": PicturePairs(*given)})
    )


def test_what_was_recorded_is_drawn_and_what_is_not_finite_is_null() -> None:
    worst = Extreme(0, (0, 1, 1), float("inf"), 0.5)
    drawn = replace(
        operator(0, local=0.4),
        usage=Usage(-3, 5, 4, 0, 0, 12, 256, (0,) * 32 + (12,) + (0,) * 31),
    )
    result = _with_points(_result(drawn), Points((0.1, 0.2), (0.1, 0.25), worst), None)
    (row,) = page_data(result)["rows"]
    assert row["points"]["local"]["tflite"] == [0.1, 0.2]
    assert row["points"]["local"]["worst"]["tflite"] is None
    assert row["points"]["accumulated"] is None
    assert row["usage"]["bins"][32] == 12
    assert row["usage"]["first_code"] == -128


def test_many_channels_are_drawn_in_groups_that_keep_the_largest() -> None:
    op = operator(0, local=0.4)
    assert op.local is not None
    many = tuple(0.01 * (i == 700) for i in range(1000))
    (row,) = page_data(_result(replace(op, local=replace(op.local, channel_max_abs=many))))["rows"]
    channels = row["channels"]
    assert channels["group"] == 4
    assert len(channels["local"]) == 250
    assert [i for i, v in enumerate(channels["local"]) if v] == [175]


def test_a_large_network_draws_fewer_pairs_of_each_tensor() -> None:
    points = Points(tuple(range(256)), tuple(range(256)), None)
    result = _with_points(_result(*(operator(i, local=0.4) for i in range(500))), points, points)
    rows = page_data(result)["rows"]
    drawn = sum(
        len(row["points"][side]["tflite"]) for row in rows for side in ("local", "accumulated")
    )
    assert 10_000 < drawn <= 26_000
    assert len(to_page(result)) < 5_000_000
