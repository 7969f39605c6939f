"""``tfldbg explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfldbg.cli.console import report_console


def _codes() -> list[str]:
    from tfldbg.diagnose.rules import CATALOG

    return sorted(CATALOG)


def explain(
    code: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TFL0xx]",
            help="The code of a finding; without it, list all findings.",
            autocompletion=_codes,
        ),
    ] = None,
) -> None:
    """Explain a finding: its meaning, its evidence, and what to do."""
    from tfldbg.report.explain import draw_catalog, draw_explanation, explanation_of

    console = report_console()
    if not code:
        draw_catalog(console)
    else:
        draw_explanation(explanation_of(" ".join(code)), console)
