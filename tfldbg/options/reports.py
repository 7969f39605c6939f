"""The options of written reports and of printed output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfldbg.errors import UsageError
from tfldbg.options.declare import option


def _json_name(target: str) -> str:
    if not target.endswith(".json"):
        raise UsageError(
            f"invalid value '{target}' for --model-explorer: must end in .json",
            hint="for example --model-explorer F.json",
        )
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """The files for the reports; ``-`` for stdout, None to omit a report."""

    PANEL: ClassVar[str] = "Reports"

    dump: Path | str | None = option(
        metavar="F.h5", help="Record all tensors of both sides, and the statistics, to F.h5."
    )
    """The file for a recording of all tensors of both sides (HDF5)."""
    dump_exact: bool = option(
        default=False,
        help="Record the reference's own values instead of the errors rounded to 1/1024 LSB.",
    )
    """True to record the reference's own values (float32) instead of the errors rounded to 1/1024
    LSB (float16)."""
    json: str | None = option(python=False, metavar="F", help="Write JSON to F; - for stdout.")
    html: str | None = option(
        python=False,
        metavar="F.html",
        help="Write a single page that needs no network to F.html.",
    )
    csv: str | None = option(
        python=False, metavar="F", help="Write CSV with one row per operator to F; - for stdout."
    )
    junit: str | None = option(
        python=False,
        metavar="F.xml",
        help="Write JUnit XML with one test case per operator to F.xml; - for stdout.",
    )
    markdown: str | None = option(
        python=False,
        metavar="F.md",
        help="Write Markdown for pull requests to F.md; - for stdout.",
    )
    model_explorer: str | None = option(
        python=False,
        metavar="F.json",
        read=_json_name,
        help="Write node data for Model Explorer to F.json and files next to it; tfldbg view shows "
        "it.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The amount of printed output."""

    PANEL: ClassVar[str] = "Output"

    everything: bool = option(
        default=False,
        names=("--all",),
        python=False,
        help="Show all operators in the table, not only those that matter.",
    )
    quiet: bool = option(
        default=False,
        names=("--quiet", "-q"),
        python=False,
        help="Print only the verdict, and no progress.",
    )
    verbose: bool = option(
        default=False,
        names=("--verbose", "-v"),
        python=False,
        help="Also print the matches of tensors, versions and times.",
    )
