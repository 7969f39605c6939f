"""Trace many files, with a row for each, even for those that fail."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from tfldbg.diagnose.outcome import Case, Found, Outcome, reduced
from tfldbg.errors import TfldbgError, unexpected
from tfldbg.options.judge import Judge
from tfldbg.progress import Progress, Silent
from tfldbg.reference.keras import load_frozen
from tfldbg.run.job import load
from tfldbg.session.pool import Pool, open_pool
from tfldbg.session.request import Request
from tfldbg.session.tracing import trace
from tfldbg.store.rows import KeptRows
from tfldbg.version import VERSION

if TYPE_CHECKING:
    from tfldbg.reference.evaluate import Frozen


def sweep(
    cases: Sequence[Case],
    *,
    judge: Judge | None = None,
    kept: KeptRows | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """Trace all cases, and yield their rows in order, as soon as they are complete.

    Traces are not kept.  An error becomes the row of its case.  With ``TFLDBG_DEBUG`` set, an error
    that is a bug ends the sweep, for debugging.

    Args:
        cases: The cases from `tfldbg.session.plan`.
        judge: The thresholds of all traces.
        kept: The store of known rows, to which new ones are added.
        progress: Receives the progress, with the number of the case.
        workers: The number of cases to trace at a time, each in a process of this machine.
        scheduler: The address of a Dask cluster whose workers trace the cases.
    """
    judge, progress = judge or Judge(), progress or Silent()
    with open_pool(workers, scheduler) as pool:
        if pool is None:
            yield from _one_by_one(cases, judge, kept, progress)
        else:
            yield from _side_by_side(cases, judge, kept, progress, pool)


def _one_by_one(
    cases: Sequence[Case], judge: Judge, kept: KeptRows | None, progress: Progress
) -> Iterator[Outcome]:
    """Trace all cases in this process."""
    tracer = _Tracer(judge)
    for number, case in enumerate(cases, 1):
        told = _Numbered(progress, f"{number}/{len(cases)} {Path(case.model).name}")
        known = kept.find(case) if kept is not None else None
        if known is None:
            known = _row(tracer, case, told)
            if kept is not None:
                kept.add(known)
        yield known


def _side_by_side(
    cases: Sequence[Case],
    judge: Judge,
    kept: KeptRows | None,
    progress: Progress,
    pool: Pool,
) -> Iterator[Outcome]:
    """Trace all cases in a pool; keep each row at once, and yield the rows in order."""
    progress.stage(f"tracing {len(cases)} cases", len(cases))
    rows = [kept.find(case) if kept is not None else None for case in cases]
    missing = [case for case, row in zip(cases, rows, strict=True) if row is None]
    progress.advance(len(cases) - len(missing))

    def done(number: int, made: Outcome) -> None:
        if kept is not None:
            kept.add(replace(made, case=missing[number]))
        progress.advance()

    made = pool.each(partial(_trace_case, judge), [_elsewhere(case) for case in missing], done)
    for case, row in zip(cases, rows, strict=True):
        yield replace(next(made), case=case) if row is None else row


def _trace_case(judge: Judge, case: Case) -> Outcome:
    return _row(_Tracer(judge), case, Silent())


def _elsewhere(case: Case) -> Case:
    """Return a case for a process that may run in another folder."""
    request = Request(case.model, case.against, case.run_on).elsewhere
    return replace(case, model=str(request.model), against=request.against, run_on=request.run_on)


def _row(tracer: _Tracer, case: Case, progress: Progress) -> Outcome:
    """Trace one case and return its row, which may hold an error."""
    began = perf_counter()
    found: Found | None = None
    error: TfldbgError | None = None
    # Elsewhere only tfldbg.cli catches.  Here an error is a result: the row of a file that cannot
    # be traced, which the caller requested together with the others.
    try:
        found = tracer.trace(case, progress)
    except TfldbgError as known:
        error = known
    except Exception as bug:
        if os.environ.get("TFLDBG_DEBUG"):
            raise
        error = unexpected(bug)
    if error is not None:
        # The frames of its traceback hold the model and the samples.
        error.__traceback__ = error.__cause__ = error.__context__ = None
    return Outcome(case, perf_counter() - began, found, error)


def kept_rows(target: Path, judge: Judge) -> KeptRows:
    """Return the store of rows of a sweep until its file of results is complete.

    Args:
        target: The file of results.
        judge: As for `sweep`.
    """
    libraries = ("ai-edge-litert", "numpy", "tensorflow", "tf-keras")
    versions = {name: metadata.version(name) for name in libraries}
    settings = {**asdict(judge.thresholds), "tfldbg": VERSION, **versions}
    return KeptRows(target, settings)


class _Tracer:
    """Traces cases, and keeps the last Keras model for the next one of the same path."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._kept: tuple[tuple[str, str | None], Frozen] | None = None

    def trace(self, case: Case, progress: Progress) -> Found:
        """Trace one case, and reduce the result to a row."""
        progress.stage("reading")
        loaded, against = load(case.model, case.run_on.signature), case.against
        if against.keras is not None:
            against = replace(against, keras=self._keras(case, progress))
        request = Request(case.model, against, case.run_on, judge=self._judge)
        return reduced(trace(request, progress), loaded.subgraph.outputs)

    def _keras(self, case: Case, progress: Progress) -> Frozen:
        path, signature = str(case.against.keras), case.run_on.signature
        key = (path, signature)
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        self._kept = None  # before the next one is loaded, since both may not fit into memory
        progress.stage("loading the reference")
        against = case.against
        frozen = load_frozen(
            Path(path), unsafe=against.unsafe, signature=signature, cached=against.cached
        )
        self._kept = (key, frozen)
        return frozen


class _Numbered:
    """Adds the case to the names of stages."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage."""
        self._progress.stage(f"{self._label}: {name}", total)

    def advance(self, steps: int = 1) -> None:
        """Advance the progress."""
        self._progress.advance(steps)
