"""``tfldbg sweep``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console, show_note
from tfldbg.cli.reports import check_reports, to_stdout
from tfldbg.options.against import Against
from tfldbg.options.judge import Judge
from tfldbg.options.reports import Reports
from tfldbg.options.run_on import RunOn
from tfldbg.options.runtimes import RUNTIMES

if TYPE_CHECKING:
    from tfldbg.diagnose.outcome import Case, Outcome
    from tfldbg.store.rows import KeptRows

_TEMPLATE = "{stem}, {name} and {dir} are those of the model, {seed} that of the row."
_RUN_ON = (
    *("data", "scale", "inputs", "samples", "steps", "delegate", "delegate_options", "signature"),
    *("timeout", "memory_limit", "workers", "scheduler"),
)
_LIMITS = ("local_lsb", "float_relative", "hybrid_relative")


@o.grouped
def sweep(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL.tflite", help="Paths or quoted patterns; may hold {seed}."),
    ] = None,
    *,
    against: Annotated[
        Against,
        o.some(
            *("keras", "against", "against_runtime", "unsafe", "cached"),
            keras={"metavar": "TEMPLATE", "help": f"The Keras models. {_TEMPLATE}"},
            against={
                "metavar": "TEMPLATE",
                "help": "Sound .tflite files, or recordings; template as above.",
            },
            against_runtime={"help": "Compare with the same files under other kernels."},
        ),
    ],
    run_on: Annotated[
        RunOn,
        o.some(
            *_RUN_ON,
            data={
                "metavar": "TEMPLATE",
                "help": "The data, as for trace; template as above.",
            },
        ),
    ],
    judge: Annotated[Judge, o.some(*_LIMITS)],
    reports: Annotated[
        Reports, o.some("csv", "json", csv={"help": "Write the rows to F; - for stdout."})
    ],
    seeds: Annotated[
        str,
        typer.Option(
            metavar="RANGE",
            help="The seeds, with one row per model and seed: 0-11 or 0,3,5.",
            rich_help_panel=RunOn.PANEL,
        ),
    ] = "0",
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(RUNTIMES),
            help="The kernels to run. Repeatable, with one row per model and runtime.",
            show_default="xnnpack",
            rich_help_panel=RunOn.PANEL,
        ),
    ] = None,
) -> None:
    """Trace many models, with one row each, even for those that fail, in one file of results.

    Exit code 2 if one failed, else 1 if one diverged.
    """
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar

    runtimes = tuple(runtime or ("xnnpack",))
    numbers = session.parse_seeds(seeds)
    cases = session.plan(
        [session.Models(model, against, run_on, numbers, runtimes) for model in models or ()]
    )
    read = {path for c in cases for path in (c.model, c.reference, c.data)}
    check_reports(reports, *read)
    targets = [target for target in (reports.csv, reports.json) if target not in (None, "-")]
    kept = session.kept_rows(Path(targets[0]), judge) if targets else None
    if kept is not None:
        _tell_known(kept, cases)
    limited = session.limited(timeout=run_on.timeout, memory=run_on.memory_limit)
    with limited, ProgressBar() as progress:
        outcomes = session.sweep(
            cases,
            judge=judge,
            kept=kept,
            progress=progress,
            workers=run_on.workers,
            scheduler=run_on.scheduler,
        )
        rows, ended = _collect(outcomes)
    _write(rows, reports, ended=ended)
    if not ended:
        following = "; the same command continues after them" if kept is not None and rows else ""
        sys.stderr.write(f"interrupted after {len(rows)} of {len(cases)} rows{following}\n")
        raise typer.Exit(130)
    if kept is not None:
        kept.remove()
    verdicts = {row.verdict for row in rows}
    raise typer.Exit(2 if "error" in verdicts else 1 if "diverged" in verdicts else 0)


def _tell_known(kept: KeptRows, cases: Sequence[Case]) -> None:
    """Print a note on the number of rows that an earlier sweep has already traced."""
    known = sum(kept.find(case) is not None for case in cases)
    if known:
        show_note(
            f"{known} of {len(cases)} rows are taken from an earlier, unfinished sweep; to trace "
            f"them again, delete '{kept.path}'"
        )


def _collect(outcomes: Iterator[Outcome]) -> tuple[list[Outcome], bool]:
    """Return the rows, and whether they are complete or the sweep was interrupted."""
    rows: list[Outcome] = []
    try:
        for row in outcomes:
            rows.append(row)  # noqa: PERF402  (those before an interruption stay)
    except KeyboardInterrupt:
        return rows, False
    return rows, True


def _write(rows: Sequence[Outcome], reports: Reports, *, ended: bool) -> None:
    """Print the table and write the files; for an interrupted sweep, only those on stdout.

    Raises:
        TfldbgError: A file cannot be written.
    """
    from tfldbg.report.sweep import draw_sweep
    from tfldbg.report.sweep_files import write_sweep_csv, write_sweep_json

    if rows and not to_stdout(reports):
        draw_sweep(rows, report_console())
    for target, write in ((reports.csv, write_sweep_csv), (reports.json, write_sweep_json)):
        if target is not None and (ended or target == "-"):
            write(rows, target)
