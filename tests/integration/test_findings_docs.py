"""The pages of docs/findings are the rules' own texts; renew them with --renew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tfldbg.diagnose.rules import CATALOG, FAMILIES
from tfldbg.report.explain import family_page, index_page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "findings"
PAGES = {f"{family.__name__.rpartition('.')[2]}.md": family_page(family) for family in FAMILIES}
PAGES["README.md"] = index_page()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_rules_say(name: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--renew"):
        (FOLDER / name).write_text(PAGES[name])
    assert (FOLDER / name).read_text() == PAGES[name]


def test_there_is_no_other_page() -> None:
    assert {p.name for p in FOLDER.iterdir()} == set(PAGES)


def test_every_code_has_a_section_and_is_explained() -> None:
    sections = "".join(PAGES.values())
    assert all(f"## {code}: " in sections for code in CATALOG)
    assert len(CATALOG) >= 9 + 28


def _explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfldbg", "explain", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_explain_prints_a_section_and_the_list() -> None:
    one = _explain("tfl022")
    assert one.returncode == 0 and one.stdout.startswith("TFL022 ")
    assert CATALOG["TFL022"].meaning in one.stdout
    assert [line.split()[0] for line in _explain().stdout.splitlines()] == sorted(CATALOG)


def test_an_unknown_code_is_an_error_with_a_hint() -> None:
    done = _explain("TFL999")
    assert done.returncode == 2 and "there is no finding 'TFL999'" in done.stderr
    assert "hint:" in done.stderr and "Traceback" not in done.stderr
