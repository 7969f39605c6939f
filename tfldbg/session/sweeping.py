"""Trace many files; a file that fails is a row and not the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tfldbg import __version__
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.outcome import Case, Found, Outcome, reduced
from tfldbg.errors import TfldbgError, unexpected
from tfldbg.progress import Progress, Silent
from tfldbg.reference.keras import load_frozen
from tfldbg.run.child import Limits, within
from tfldbg.run.job import load
from tfldbg.session.pool import Pool, in_order, open_pool
from tfldbg.session.request import absolute
from tfldbg.session.tracing import check_whole, trace
from tfldbg.store.rows import KeptRows

if TYPE_CHECKING:
    from tfldbg.reference.evaluate import Frozen
    from tfldbg.run.runtimes import Delegate


@dataclass(frozen=True, slots=True)
class Shared:
    """What all traces of a sweep have in common; each means what it means for `trace`."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    steps: int = 1
    delegate: Delegate | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    scale: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Settings:
    """What all cases are traced with, and what of it may be trusted."""

    shared: Shared
    unsafe: bool
    cached: bool


def sweep(
    cases: Sequence[Case],
    *,
    shared: Shared | None = None,
    unsafe: bool = False,
    cached: bool = True,
    kept: KeptRows | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """Trace every case and yield its row as soon as it and those before it are there.

    No trace is kept.  An error ends its own row alone, which then holds it.  With ``TFLDBG_DEBUG``
    set, an error that is a bug ends the sweep, so that it can be looked at.

    Args:
        cases: What `tfldbg.session.plan` made.
        shared: What all traces have in common.
        unsafe: As for `trace`.
        cached: As for `trace`.
        kept: Rows that need not be traced again; it is given the others.
        progress: Is told which case of how many is traced, and how far it is.
        workers: How many cases to trace at a time, each in a process of this machine.
        scheduler: The address of a Dask cluster whose workers trace the cases.
    """
    settings = _Settings(shared or Shared(), unsafe, cached)
    if workers is not None:
        check_whole("workers", workers)
    with open_pool(workers, scheduler) as pool:
        if pool is None:
            yield from _one_by_one(cases, settings, kept, progress or Silent())
        else:
            yield from _side_by_side(cases, settings, kept, progress or Silent(), pool)


def _one_by_one(
    cases: Sequence[Case], settings: _Settings, kept: KeptRows | None, progress: Progress
) -> Iterator[Outcome]:
    """Trace every case in this process."""
    tracer = _Tracer(settings)
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
    settings: _Settings,
    kept: KeptRows | None,
    progress: Progress,
    pool: Pool,
) -> Iterator[Outcome]:
    """Trace every case in some process of a pool; keep a row at once, and yield it in order."""
    progress.stage(f"tracing {len(cases)} cases", len(cases))

    def found() -> Iterator[tuple[int, Outcome]]:
        missing = []
        for number, case in enumerate(cases):
            known = kept.find(case) if kept is not None else None
            if known is None:
                missing.append(number)
                continue
            progress.advance()
            yield number, known
        asked = [_Asked(settings, _elsewhere(cases[number]), pool.limits()) for number in missing]
        for number, made in pool.each(_trace_case, asked):
            row = replace(made, case=cases[missing[number]])
            if kept is not None:
                kept.add(row)
            progress.advance()
            yield missing[number], row

    yield from in_order(found())


@dataclass(frozen=True, slots=True)
class _Asked:
    """A case for a process of a pool."""

    settings: _Settings
    case: Case
    limits: Limits


def _trace_case(asked: _Asked) -> Outcome:
    with within(asked.limits):
        return _row(_Tracer(asked.settings), asked.case, Silent())


def _elsewhere(case: Case) -> Case:
    """Return a case for a process that may work in another folder."""
    kind, reference = case.reference_kind, case.reference
    return replace(
        case,
        model=absolute(case.model),
        reference=reference if kind == "runtime" else absolute(reference),
        data=absolute(case.data),
    )


def _row(tracer: _Tracer, case: Case, progress: Progress) -> Outcome:
    """Trace one case; an error is what came of it."""
    began = perf_counter()
    found: Found | None = None
    error: TfldbgError | None = None
    # Elsewhere only tfldbg.cli catches.  Here an error is a result: the row of a file that
    # cannot be traced, which the caller asked for together with the others.
    try:
        found = tracer.trace(case, progress)
    except TfldbgError as known:
        error = known
    except Exception as bug:
        if os.environ.get("TFLDBG_DEBUG"):
            raise
        error = unexpected(bug)
    if error is not None:
        # The frames that it was raised in hold the model and the samples.
        error.__traceback__ = error.__cause__ = error.__context__ = None
    return Outcome(case, perf_counter() - began, found, error)


def kept_rows(target: Path, shared: Shared) -> KeptRows:
    """Return what keeps the rows of a sweep until its file of results is whole.

    Args:
        target: The file of results.
        shared: As for `sweep`.
    """
    libraries = ("ai-edge-litert", "numpy", "tensorflow", "tf-keras")
    versions = {name: metadata.version(name) for name in libraries}
    settings = {**asdict(shared), "tfldbg": __version__, **versions}
    return KeptRows(target, settings)


class _Tracer:
    """Traces cases, and keeps the last Keras model for the next one of the same path."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._kept: tuple[tuple[str, str | None], Frozen] | None = None

    def trace(self, case: Case, progress: Progress) -> Found:
        """Trace one case and reduce what it found to a row."""
        progress.stage("reading")
        loaded, shared = load(case.model, case.signature), self._settings.shared
        result = trace(
            case.model,
            **self._reference(case, progress),
            data=case.data,
            samples=case.samples,
            steps=shared.steps,
            scale=shared.scale,
            seed=case.seed or 0,
            runtime=case.runtime,
            signature=case.signature,
            inputs=shared.inputs,
            unsafe=self._settings.unsafe,
            thresholds=shared.thresholds,
            delegate=shared.delegate,
            progress=progress,
        )
        return reduced(result, loaded.subgraph.outputs)

    def _reference(self, case: Case, progress: Progress) -> dict[str, Any]:
        if case.reference is None:
            return {}
        if case.reference_kind == "keras":
            return {"keras": self._keras(case.reference, case.signature, progress)}
        option = "against_runtime" if case.reference_kind == "runtime" else "against"
        return {option: case.reference}

    def _keras(self, path: str, signature: str | None, progress: Progress) -> Frozen:
        key = (path, signature)
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        self._kept = None  # Before the next one is loaded: both may not fit.
        progress.stage("loading the reference")
        frozen = load_frozen(
            Path(path),
            unsafe=self._settings.unsafe,
            signature=signature,
            cached=self._settings.cached,
        )
        self._kept = (key, frozen)
        return frozen


class _Numbered:
    """Says before every stage which case it belongs to."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage."""
        self._progress.stage(f"{self._label}: {name}", total)

    def advance(self, steps: int = 1) -> None:
        """Move on."""
        self._progress.advance(steps)
