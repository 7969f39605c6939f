"""The output of ``tfldbg explain``, and the pages of ``docs/findings``."""

from __future__ import annotations

import re
from types import ModuleType

from rich.console import Console
from rich.text import Text

from tfldbg.diagnose.rules import CATALOG, FAMILIES, Explanation, explanations
from tfldbg.errors import UsageError

_CODE = re.compile(r"(?:TFL)?[\s_-]*(\d{1,6})", re.IGNORECASE | re.ASCII)
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def explanation_of(code: str) -> Explanation:
    """Return the explanation of a finding.

    Raises:
        UsageError: There is no such code.
    """
    number = _CODE.fullmatch(code.strip())
    wanted = f"TFL{int(number[1]):03d}" if number else code.upper()
    if wanted not in CATALOG:
        raise UsageError(
            f"there is no finding '{code}'",
            hint=f"tfldbg explain lists them, {min(CATALOG)} to {max(CATALOG)}",
        )
    return CATALOG[wanted]


def draw_explanation(about: Explanation, console: Console) -> None:
    """Print one explanation."""
    wrap = not console.is_terminal
    heading = Text.assemble(
        (about.code, "bold"), f" {about.title} (", (about.severity, _STYLES[about.severity]), ")"
    )
    console.print(heading, soft_wrap=wrap)
    for label, text in _sections(about):
        console.print()
        console.print(Text(label, style="bold"))
        console.print(Text(text), soft_wrap=wrap)


def draw_catalog(console: Console) -> None:
    """Print one line per finding."""
    for code, about in sorted(CATALOG.items()):
        line = Text.assemble(
            (code, "bold"), " ", (f"{about.severity:<8}", _STYLES[about.severity]), about.title
        )
        console.print(line, soft_wrap=not console.is_terminal)


def _sections(about: Explanation) -> list[tuple[str, str]]:
    sections = [
        ("What it means", about.meaning),
        ("How it is detected", about.evidence),
        ("What to do", about.suggestion[:1].upper() + about.suggestion[1:] + "."),
    ]
    if about.sources:
        sections.append(("Described in", "; ".join(about.sources)))
    return sections


def family_page(family: ModuleType) -> str:
    """Return the page of a family of rules in Markdown."""
    title = (family.__doc__ or "").strip().splitlines()[0].rstrip(".")
    lines = [f"# {title}", ""]
    for about in explanations(family):
        lines += [f"## {about.code}: {about.title}", "", f"Severity: {about.severity}.", ""]
        for label, text in _sections(about):
            lines += [f"**{label}.** {text}", ""]
    return "\n".join(lines)


def index_page() -> str:
    """Return the table of all findings in Markdown."""
    lines = [
        "# Findings",
        "",
        "Every finding has a code that never changes its meaning; `tfldbg explain TFL022` prints",
        "its section. These pages are made from the rules (`python3 -m pytest --renew`).",
        "",
        "| code | severity | |",
        "|---|---|---|",
    ]
    for family in FAMILIES:
        name = family.__name__.rpartition(".")[2]
        for about in explanations(family):
            link = f"{name}.md#{_anchor(about)}"
            lines.append(f"| [{about.code}]({link}) | {about.severity} | {about.title} |")
    lines[7:] = sorted(lines[7:])
    return "\n".join(lines) + "\n"


def _anchor(about: Explanation) -> str:
    heading = f"{about.code}: {about.title}".lower()
    return "".join(c for c in heading if c.isalnum() or c in " -_").replace(" ", "-")
