"""``tfldbg sweep``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfldbg.cli import options as o
from tfldbg.cli.console import report_console, show_note
from tfldbg.errors import UsageError

if TYPE_CHECKING:
    from tfldbg.diagnose.outcome import Case, Outcome
    from tfldbg.report.sweep_files import ResultFile
    from tfldbg.store.rows import KeptRows

_TEMPLATE = "{stem}, {name} and {dir} are the model's, {seed} is the row's."


def sweep(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL.tflite", help="Paths or quoted patterns; {seed} in them."),
    ] = None,
    keras: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE", help=f"The Keras models. {_TEMPLATE}", rich_help_panel=o.REFERENCE
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Sound .tflite files, or recordings, likewise.",
            rich_help_panel=o.REFERENCE,
        ),
    ] = None,
    against_runtime: Annotated[
        str | None,
        typer.Option(
            metavar="RUNTIME",
            help="Compare with the same files under other kernels.",
            rich_help_panel=o.REFERENCE,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE", help="The data, as for trace; likewise.", rich_help_panel=o.RUN
        ),
    ] = None,
    scale: o.Scale = None,
    given: o.Input = None,
    samples: o.Samples = None,
    steps: o.Steps = 1,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="RANGE", help="One row a model and seed: 0-11 or 0,3,5.", rich_help_panel=o.RUN
        ),
    ] = "0",
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(o.RUNTIMES),
            help="The kernels to run. Repeatable: one row a model and runtime.",
            show_default="xnnpack",
            rich_help_panel=o.RUN,
        ),
    ] = None,
    delegate: o.Delegate = None,
    delegate_option: o.DelegateOption = None,
    signature: o.Signature = None,
    timeout: o.Timeout = 600,
    memory_limit: o.MemoryLimit = None,
    workers: o.Workers = None,
    scheduler: o.Scheduler = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            metavar="F.csv",
            help="A table of models, each with options of its own.",
            rich_help_panel=o.RUN,
        ),
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="F",
            help="Write the rows to F; - is stdout.",
            rich_help_panel=o.REPORTS,
        ),
    ] = None,
    json: o.Json = None,
    unsafe: o.Unsafe = False,
    no_cache: o.NoCache = False,
    local_lsb: o.LocalLsb = 0.75,
    float_tolerance: o.FloatTolerance = 1e-4,
    hybrid_tolerance: o.HybridTolerance = 0.02,
) -> None:
    """Trace many models: one row each, also for those that fail, in one file of results.

    Exit code 2 if one failed, else 1 if one diverged.
    """
    from tfldbg import session
    from tfldbg.cli.progress import ProgressBar
    from tfldbg.report.sweep_files import write_sweep_csv, write_sweep_json

    shared = session.Shared(
        o.parse_inputs(given),
        steps,
        session.delegate_of(delegate, delegate_option),
        o.thresholds(local_lsb, float_tolerance, hybrid_tolerance),
        o.parse_scale(scale),
    )
    default = session.Request(
        keras=keras,
        against=against,
        against_runtime=against_runtime,
        data=data,
        seeds=session.parse_seeds(seeds),
        samples=samples,
        runtimes=tuple(runtime or ("xnnpack",)),
        signature=signature,
    )
    cases = session.plan(session.requests(models or (), manifest, default))
    targets = {"--csv": (csv, write_sweep_csv), "--json": (json, write_sweep_json)}
    files = _files(targets, manifest, cases)
    target = next((t for t in (csv, json) if t not in (None, "-")), None)
    kept = session.kept_rows(Path(target), shared) if target is not None else None
    if kept is not None:
        _tell_known(kept, cases)
    with session.limited(timeout=timeout, memory=memory_limit), ProgressBar() as progress:
        outcomes = session.sweep(
            cases,
            shared=shared,
            unsafe=unsafe,
            cached=not no_cache,
            kept=kept,
            progress=progress,
            workers=workers,
            scheduler=scheduler,
        )
        rows, ended = _collect(outcomes, files)
    _show(rows, "-" in (csv, json))
    if not ended:
        raise _stopped(rows, len(cases), files)
    for file in files:
        file.finish(rows)
    if kept is not None:
        kept.remove()
    verdicts = {row.verdict for row in rows}
    raise typer.Exit(2 if "error" in verdicts else 1 if "diverged" in verdicts else 0)


def _tell_known(kept: KeptRows, cases: Sequence[Case]) -> None:
    """Say on stderr how many rows an earlier sweep has traced already."""
    known = sum(kept.find(case) is not None for case in cases)
    if known:
        show_note(
            f"{known} of {len(cases)} rows are those of an earlier sweep that did not finish; to "
            f"trace them again, delete '{kept.path}'"
        )


def _stopped(rows: Sequence[Outcome], cases: int, files: Sequence[ResultFile]) -> typer.Exit:
    """Leave the rows of a sweep that was interrupted, say where, and return how to leave."""
    for file in files:
        file.stop(rows)
    where = "".join(f"; they are in {file.partial}" for file in files if file.partial)
    following = "; the same command goes on after them" if where and rows else ""
    sys.stderr.write(f"interrupted after {len(rows)} of {cases} rows{where}{following}\n")
    return typer.Exit(130)


def _files(
    targets: Mapping[str, tuple[str | None, Callable[[Sequence[Outcome], str], None]]],
    manifest: str | None,
    cases: Sequence[Case],
) -> list[ResultFile]:
    """Return the files to write.

    Raises:
        UsageError: They are the same, or one of them is a folder or a file that is read.
    """
    from tfldbg.report.sweep_files import ResultFile
    from tfldbg.session import protect

    named = {option: target for option, (target, _) in targets.items() if target is not None}
    if len(set(named.values())) < len(named):
        raise UsageError(
            f"{' and '.join(named)} are both '{next(iter(named.values()))}'",
            hint="name two files, or leave one of the options out",
        )
    read = {path for c in cases for path in (c.model, c.reference, c.data)} | {manifest}
    for option, target in named.items():
        protect(None if target == "-" else Path(target), option, *read)
        if Path(target).is_dir():
            raise UsageError(
                f"{option} {target} is a folder", hint=f"name a file in it with {option}"
            )
    return [ResultFile(target, write) for target, write in targets.values() if target is not None]


def _collect(
    outcomes: Iterator[Outcome], files: Sequence[ResultFile]
) -> tuple[list[Outcome], bool]:
    """Return the rows and whether they are all there; an interrupted sweep keeps what it has."""
    rows: list[Outcome] = []
    for file in files:
        file.update(rows)
    try:
        for row in outcomes:
            rows.append(row)
            for file in files:
                file.update(rows)
    except KeyboardInterrupt:
        return rows, False
    return rows, True


def _show(rows: Sequence[Outcome], silent: bool) -> None:
    if rows and not silent:
        from tfldbg.report.sweep import draw_sweep

        draw_sweep(rows, report_console())
