"""What is written and printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfldbg.errors import UsageError
from tfldbg.options.declare import option


def _json_name(target: str) -> str:
    if not target.endswith(".json"):
        raise UsageError(
            f"--model-explorer {target}: it writes several files, and needs a name for them",
            hint="name a file that ends in .json",
        )
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Where to write which report; ``-`` is stdout, None is nowhere."""

    PANEL: ClassVar[str] = "Reports to write"

    dump: Path | str | None = option(
        metavar="F.h5", help="Record every tensor of both sides, and the statistics."
    )
    """Where to record every tensor of both sides (HDF5)."""
    json: str | None = option(python=False, metavar="F", help="Write JSON to F; - is stdout.")
    html: str | None = option(
        python=False,
        metavar="F.html",
        help="Write a page of its own that needs no network to F.html.",
    )
    csv: str | None = option(
        python=False, metavar="F", help="Write a row an operator to F; - is stdout."
    )
    junit: str | None = option(
        python=False,
        metavar="F.xml",
        help="Write JUnit XML, a test case an operator; - is stdout.",
    )
    markdown: str | None = option(
        python=False, metavar="F.md", help="Write Markdown for a pull request; - is stdout."
    )
    model_explorer: str | None = option(
        python=False,
        metavar="F.json",
        read=_json_name,
        help="Write node data for Model Explorer to F.json and beside it; tfldbg view shows it.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How much to print."""

    PANEL: ClassVar[str] = "What is printed"

    everything: bool = option(
        default=False,
        names=("--all",),
        python=False,
        help="Every operator in the table, not only those that matter.",
    )
    quiet: bool = option(
        default=False,
        names=("--quiet", "-q"),
        python=False,
        help="Print the verdict alone, and no progress.",
    )
    verbose: bool = option(
        default=False,
        names=("--verbose", "-v"),
        python=False,
        help="Print too what was matched with what, versions and times.",
    )
