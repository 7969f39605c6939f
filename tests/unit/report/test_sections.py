"""What stands below the table of operators: outputs, accuracy, histograms, single samples."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.diagnose.evidence import evidence, operator
from tfldbg.compare.accuracy import Accuracy, Disagreement, SideAccuracy
from tfldbg.compare.custom import MetricStats
from tfldbg.compare.histogram import BINS
from tfldbg.compare.outputs import OutputStats, PairStats
from tfldbg.diagnose.evidence import Evidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result
from tfldbg.measures.accuracy.section import percent
from tfldbg.measures.histograms.section import bars
from tfldbg.measures.own.section import metric_section
from tfldbg.measures.worst.examine import Parting, WorstSample
from tfldbg.options.judge import Thresholds
from tfldbg.report.document import build_document
from tfldbg.report.notebook import trace_html
from tfldbg.report.terminal import draw

EVIL = "net/\x1b[31m<b>/Softmax"


def _parting(op: int, largest: int) -> Parting:
    return Parting(
        op=op,
        kind="DEPTHWISE_CONV_2D",
        tensor=100 + op,
        name=f"net/layer_{op}/Relu",
        codes=True,
        elements=1_000_000,
        saturated=0,
        differing=largest and 123_456,
        largest=largest,
        index=(0, 111, 111, 63),
        tflite=-128,
        reference=largest - 128,
        excerpt_start=999_992,
        tflite_excerpt=(-128,) * 8,
        reference_excerpt=(largest - 128,) * 8,
    )


def _worst(count: int, part: int) -> WorstSample:
    sizes = [0 if i < part - 2 else 1 if i < part else 200 for i in range(count)]
    return WorstSample(
        sample=1234,
        error=0.5,
        error_lsb=128.0,
        relative=12.0,
        first_difference_op=part - 2,
        first_part_op=part,
        ops=tuple(_parting(i, size) for i, size in enumerate(sizes)),
    )


def _full(count: int = 6) -> Evidence:
    pair = PairStats("tflite", "reference", 640, 0.286, 0.00269, 36.2, 1, 1 / 640, False, 3)
    sides = tuple(
        SideAccuracy(side, 62, (0.893, 0.991), 64, 2)
        for side in ("reference", "emulation", "tflite")
    )
    changed = (
        Disagreement("tflite", "reference", 9, (1, 2, 3, 4, 5, 6, 7, 8)),
        Disagreement("tflite", "emulation", 0, ()),
    )
    made = evidence(*(operator(i, local=0.5) for i in range(count)))
    counts = tuple(1000 * (i == BINS // 2) + (i == 0) for i in range(BINS))
    ops = tuple(
        replace(o, local=replace(o.local, histogram=counts)) if o.local else o for o in made.ops
    )
    return replace(
        made,
        ops=ops,
        outputs=(OutputStats(105, EVIL, 1 / 256, 0.01, (pair,)),),
        measures={
            "accuracy": Accuracy(105, "labels", 300, 64, 10, 5, sides, changed),
            "worst": (_worst(count, 3),),
        },
    )


def _result(made: Evidence) -> Result:
    return Result(made, diagnose(made, Thresholds()))


def _drawn(made: Evidence, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=80, highlight=False, force_terminal=True, color_system=None)
    draw(build_document(_result(made)), console)
    file.seek(0)
    return file.read()


def test_everything_fits_80_columns() -> None:
    drawn = _drawn(_full())
    assert max(len(line) for line in drawn.splitlines()) <= 80
    for said in (
        "tflite - reference",
        "62  96.9%  89.3 - 99.1%",
        "choose differently in 9 samples: 1, 2, 3, 4, 5, 6, 7, 8,  ...",
        "64 of 300 labelled samples: --samples 300 uses all",
        "sample 1234: 128 LSB (0.5) at the outputs",
        " >3  DEPTHWISE_CONV_2D ",
        "codes first differ at operator 1, by more than one at operator 3",
        "  tflite     -128 -128",
    ):
        assert said in " ".join(drawn.split("\n"))
    assert "tflite and emulation choose" not in drawn
    assert "\x1b" not in drawn


def test_nothing_is_shown_that_was_not_asked_for() -> None:
    made = replace(_full(), measures={}, ops=evidence(operator(0, local=0.5)).ops)
    assert build_document(_result(made)).sections == ()
    assert len(build_document(_result(replace(made, tolerance=0.01))).sections) == 1


def test_a_console_without_blocks_gets_ascii() -> None:
    made = _full()
    named = replace(made, outputs=(replace(made.outputs[0], name="softmax"),))
    drawn = _drawn(named, encoding="ascii")
    assert drawn.isascii()
    assert ".        @         " in drawn
    assert "▁        █" in _drawn(named)


def test_long_models_show_where_both_sides_part() -> None:
    made = replace(_full(60), measures={"worst": (_worst(60, 40),)})
    (shown,) = [s for s in build_document(_result(made)).sections if s.title.startswith("sample")]
    ops = [row[0] for row in shown.rows]
    assert {"38", "39", ">40", "41", "42", "57", "58", "59"} <= set(ops)
    assert len([o for o in ops if o != "..."]) == 12
    assert "(38 more, 0 differ)" in {row[1] for row in shown.rows}
    (all_rows,) = [
        s
        for s in build_document(_result(made), everything=True).sections
        if s.title.startswith("sample")
    ]
    assert len(all_rows.rows) == 60


@pytest.mark.parametrize(
    ("count", "total", "said"),
    [(0, 9, "0.0%"), (9, 9, "100%"), (1, 5000, "<0.1%"), (4999, 5000, "99.9%"), (1, 8, "12.5%")],
)
def test_few_is_not_none_and_most_is_not_all(count: int, total: int, said: str) -> None:
    assert percent(count, total) == said


def test_what_is_not_empty_has_a_bar() -> None:
    assert bars([0, 1, 500, 1000]) == " ▁▄█"
    assert bars([0, 0]) == "  "


def test_notebooks_show_the_sections() -> None:
    page = trace_html(_result(_full()))
    assert "accuracy on 64 samples" in page and "sample 1234" in page
    assert "<b>/" not in page and "&lt;b&gt;" in page


def test_metrics_of_the_user_are_shown_beside_each_operator() -> None:
    some = MetricStats(41.5, 40.0, 43.0, 1, 0, samples=2, infinite=3, left_out=0)
    never = MetricStats(None, None, None, None, None, samples=0, infinite=5, left_out=0)
    ops = []
    for op in (operator(0, local=0.5), operator(1, local=0.5, accumulated=2.0)):
        assert op.local is not None and op.accumulated is not None
        local = replace(op.local, metrics={"psnr": never})
        ops.append(
            replace(op, local=local, accumulated=replace(op.accumulated, metrics={"psnr": some}))
        )
    ops.append(operator(2, local=None))
    (section,) = metric_section(evidence(*ops), [1, 2])
    assert [c.title for c in section.columns] == ["op", "kind", "local psnr", "accumulated psnr"]
    assert section.rows[0] == ("1", "CONV_2D", "5 inf", "41.5 (40 to 43, 3 inf)")
    assert section.rows[1][2:] == ("-", "-")
    assert metric_section(evidence(operator(0, local=0.5)), None) == ()
