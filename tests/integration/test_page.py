"""The HTML page in a browser: it works, asks for nothing, and runs nothing that is not its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tfldbg
from tests.unit.diagnose.evidence import evidence, operator, replace
from tfldbg.diagnose.limits import read_rules
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.result import Result, gated
from tfldbg.measures.pictures.points import PicturePairs, Points
from tfldbg.options.judge import Thresholds
from tfldbg.report.html import to_page

WIDE = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}
BROKEN = 5
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("there is no chromium on this machine to open the page with")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("page") / "run.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the page shows the paths as they were given
        tfldbg.trace(
            "sample_models/cnn_negated_channel.tflite",
            keras="sample_models/cnn.h5",
            data="sample_models/digits.npz",
            samples=16,
            dump=run,
        )
    return run


Opened = tuple[Any, list[str]]


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Open a result; what the browser complains about, and what it asks for, is listed."""
    contexts = []

    def open_page(result: Result, size: dict[str, int] = WIDE, scheme: str = "light") -> Opened:
        file = tmp_path / "page.html"
        file.write_text(to_page(result), "utf-8")
        context = chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page, heard = context.new_page(), []

        def asked(url: str) -> None:
            if not url.startswith(("file:", "data:")):
                heard.append(url)

        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: asked(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("#operator h2, main")
        return page, heard

    yield open_page
    for context in contexts:
        context.close()


def _visible(page: Any) -> list[str]:
    """The operator numbers of the rows that are shown, in their order."""
    script = "rows => rows.filter(r => !r.hidden).map(r => r.cells[0].textContent)"
    return list(page.eval_on_selector_all("#operators tbody tr", script))


def _heading(page: Any) -> str:
    return str(page.inner_text("#operator h2"))


def test_the_origin_is_shown_first_with_all_its_pictures(recorded: Path, show: Any) -> None:
    page, heard = show(tfldbg.load_trace(recorded))
    assert heard == []
    assert page.inner_text(".verdict h1").lower() == "diverged"
    assert f"Operator {BROKEN} CONV_2D" in _heading(page)
    assert page.locator("#operator .chart canvas").count() == 4
    assert f"{BROKEN} CONV_2D" in page.text_content("#graph .node.selected")
    assert page.locator("#overview canvas").count() == 1
    assert page.get_attribute("tr.origin", "aria-current") == "true"


def test_the_picture_in_the_docs(recorded: Path, show: Any, request: pytest.FixtureRequest) -> None:
    picture = ROOT / "docs" / "pictures" / "page.png"
    page, _ = show(tfldbg.load_trace(recorded), size={"width": 1360, "height": 1240})
    if request.config.getoption("--renew"):
        page.screenshot(path=picture)
    assert picture.is_file()


def test_the_table_sorts_by_figures_and_by_text(recorded: Path, show: Any) -> None:
    page, _ = show(tfldbg.load_trace(recorded))
    page.click("#operators th:nth-child(4) button")
    assert _visible(page)[0] == str(BROKEN)
    page.click("#operators th:nth-child(4) button")
    assert _visible(page)[-1] == str(BROKEN)
    page.click("#operators th:nth-child(2) button")
    kinds = page.eval_on_selector_all(
        "#operators tbody td:nth-child(2)", "c => c.map(x => x.textContent)"
    )
    assert kinds == sorted(kinds)
    page.click("#operators th:nth-child(1) button")
    assert _visible(page) == [str(i) for i in range(12)]


def test_the_table_filters_by_text_and_status(recorded: Path, show: Any) -> None:
    page, _ = show(tfldbg.load_trace(recorded))
    page.fill("#filter", "SOFTMAX")
    assert _visible(page) == ["11"]
    assert page.inner_text("#shown") == "1 of 12 shown"
    page.fill("#filter", "")
    page.click(".chip.ok")
    page.click(".chip.inherited")
    assert _visible(page) == [str(BROKEN)]


def test_a_click_on_a_row_the_graph_or_the_chart_shows_an_operator(
    recorded: Path, show: Any
) -> None:
    page, heard = show(tfldbg.load_trace(recorded))
    page.click("#operators tbody tr:nth-child(9)")
    assert "Operator 8 " in _heading(page)
    page.click("#graph .node:has-text('6 CONCATENATION')")
    assert "Operator 6 " in _heading(page)
    page.locator("#overview").scroll_into_view_if_needed()
    box = page.locator("#overview").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2)
    assert "Operator 11 " in _heading(page)
    page.goto(page.url.partition("#")[0] + "#op-3")
    assert "Operator 3 " in _heading(page)
    assert heard == []


def test_the_link_of_a_finding_works_again_and_again(recorded: Path, show: Any) -> None:
    page, heard = show(tfldbg.load_trace(recorded))
    for row in (2, 3):
        page.click(f"#operators tbody tr:nth-child({row})")
        assert f"Operator {row - 1} " in _heading(page)
        page.click(f"#findings a >> text=operator {BROKEN} >> nth=0")
        assert f"Operator {BROKEN} " in _heading(page)
    assert page.url.endswith(f"#op-{BROKEN}")
    assert heard == []


def test_the_keyboard_moves_through_the_rows_that_are_shown(recorded: Path, show: Any) -> None:
    page, _ = show(tfldbg.load_trace(recorded))
    page.fill("#filter", "CONV")
    page.focus("#operators tbody tr:nth-child(3)")
    page.keyboard.press("ArrowDown")
    assert "Operator 4 " in _heading(page)


def test_the_hover_names_the_operator_and_its_errors(recorded: Path, show: Any) -> None:
    page, heard = show(tfldbg.load_trace(recorded))
    box = page.locator("#overview").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator(".tip").first
    tip.wait_for()
    assert "local: " in tip.inner_text()
    assert heard == []


def test_it_follows_the_theme_and_the_button_changes_it(recorded: Path, show: Any) -> None:
    page, _ = show(tfldbg.load_trace(recorded), scheme="dark")
    back = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(back)
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    assert page.evaluate(back) != dark
    page.click("#theme")
    assert page.evaluate(back) == dark


def test_nothing_sticks_out_on_a_phone(recorded: Path, show: Any) -> None:
    page, heard = show(tfldbg.load_trace(recorded), size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.click("#operators tbody tr:nth-child(2)")
    assert page.evaluate("document.querySelector('#operator').getBoundingClientRect().top") < 300
    assert heard == []


def _made(*ops: Any) -> Result:
    found = evidence(*ops)
    return Result(found, diagnose(found, Thresholds()))


def test_a_name_runs_nothing(show: Any) -> None:
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script>{{7*7}}"
    ops = [replace(operator(i, local=9.0), name=hostile, reference=hostile) for i in range(3)]
    page, heard = show(_made(*ops))
    box = page.locator("#overview").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".tip").first.wait_for()
    assert heard == []
    assert page.locator("img").count() == 0
    assert "{{7*7}}" in page.inner_text("#operator")


def test_five_hundred_operators_are_sorted_filtered_and_shown(show: Any) -> None:
    points = Points(tuple(i / 10 for i in range(200)), tuple(i / 10 for i in range(200)), None)
    made = _made(*(operator(i, local=0.1 + i / 1000) for i in range(500)))
    pairs = {op.tensor: points for op in made.evidence.ops}
    drawn = replace(made.evidence, measures={"pictures": PicturePairs(pairs, pairs)})
    page, heard = show(replace(made, evidence=drawn))
    page.click("#operators th:nth-child(4) button")
    assert _visible(page)[0] == "499"
    page.fill("#filter", "layer_123")
    assert _visible(page) == ["123"]
    page.click("#operators tbody tr:not([hidden])")
    assert "Operator 123 " in _heading(page)
    assert heard == []


def test_values_that_are_not_finite_stand_above_all_others(show: Any) -> None:
    fine = [operator(i, local=0.4) for i in range(3)]
    assert fine[1].local is not None and fine[1].accumulated is not None
    broken = replace(
        fine[1],
        local=replace(fine[1].local, nan=4, max_abs=0.0, max_lsb=0.0),
        accumulated=replace(fine[1].accumulated, infinite=1),
    )
    page, heard = show(_made(fine[0], broken, fine[2]))
    cells = page.locator("#operators tbody tr:nth-child(2) td").all_inner_texts()
    assert cells[3:5] == ["NaN", "inf"]
    page.click("#operators th:nth-child(4) button")
    assert _visible(page)[0] == "1"
    script = (
        "echarts.getInstanceByDom(document.querySelector('#overview')).getOption().series[0].data"
    )
    heights = [point["value"][1] for point in page.evaluate(script)]
    assert heights[1] > 5 * max(heights[0], heights[2])
    assert heard == []


def test_a_failed_gate_is_not_green(show: Any) -> None:
    result = gated(_made(operator(0, local=0.4)), read_rules(["local<=0.3lsb"]))
    page, _ = show(result)
    assert page.inner_text(".verdict h1").lower() == "clean, gate failed"
    assert "diverged" in page.get_attribute(".verdict", "class")


def test_several_outputs_of_an_operator_are_one_node(show: Any) -> None:
    halves = [replace(operator(1, local=0.4), tensor=201 + i, reads=(100,)) for i in range(2)]
    reader = replace(operator(2, local=0.4), reads=(201, 202))
    page, heard = show(_made(operator(0, local=0.4), *halves, reader))
    assert page.locator("#graph .node").count() == 3
    page.click("#operators tbody tr:nth-child(3)")
    assert "Operator 1 " in _heading(page)
    assert heard == []


def test_a_page_without_pictures_says_how_to_get_them(show: Any) -> None:
    page, heard = show(_made(operator(0, local=0.4), operator(1, local=None)))
    assert "trace with --html or --dump" in page.inner_text("#operator")
    page.click("#operators tbody tr:nth-child(2)")
    assert "its input has no counterpart" in page.inner_text("#operator")
    assert heard == []


def test_a_page_of_no_operators_opens(show: Any) -> None:
    page, heard = show(_made())
    assert page.inner_text(".verdict h1").lower() == "clean"
    assert heard == []
