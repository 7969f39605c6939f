"""Trace many files, one after the other; a file that fails is a row and not the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from tfldbg import __version__
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.outcome import Case, Found, Outcome, reduced
from tfldbg.errors import TfldbgError, unexpected
from tfldbg.progress import Progress, Silent
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.keras import load_frozen
from tfldbg.run.job import load
from tfldbg.run.runtimes import Delegate
from tfldbg.session.tracing import trace
from tfldbg.store.rows import KeptRows


@dataclass(frozen=True, slots=True)
class Shared:
    """What all traces of a sweep have in common; each means what it means for `trace`."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    steps: int = 1
    delegate: Delegate | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


def sweep(
    cases: Sequence[Case],
    *,
    shared: Shared | None = None,
    unsafe: bool = False,
    cached: bool = True,
    kept: KeptRows | None = None,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Trace every case and yield its row as soon as it is there; no trace is kept.

    An error ends its own row alone, which then holds it.  With ``TFLDBG_DEBUG`` set, an error that
    is a bug ends the sweep, so that it can be looked at.

    Args:
        cases: What `tfldbg.session.plan` made.
        shared: What all traces have in common.
        unsafe: As for `trace`.
        cached: As for `trace`.
        kept: Rows that need not be traced again; it is given the others.
        progress: Is told which case of how many is traced, and how far it is.
    """
    tracer = _Tracer(shared or Shared(), unsafe, cached)
    for number, case in enumerate(cases, 1):
        told = _Numbered(progress or Silent(), f"{number}/{len(cases)} {Path(case.model).name}")
        known = kept.find(case) if kept is not None else None
        if known is not None:
            yield known
            continue
        began = perf_counter()
        found: Found | None = None
        error: TfldbgError | None = None
        # Elsewhere only tfldbg.cli catches.  Here an error is a result: the row of a file that
        # cannot be traced, which the caller asked for together with the others.
        try:
            found = tracer.trace(case, told)
        except TfldbgError as known:
            error = known
        except Exception as bug:
            if os.environ.get("TFLDBG_DEBUG"):
                raise
            error = unexpected(bug)
        if error is not None:
            # The frames that it was raised in hold the model and the samples.
            error.__traceback__ = error.__cause__ = error.__context__ = None
        row = Outcome(case, perf_counter() - began, found, error)
        if kept is not None:
            kept.add(row)
        yield row


def kept_rows(target: Path, shared: Shared, *, resume: bool) -> KeptRows:
    """Return who keeps the rows of a sweep until its file of results is whole.

    Args:
        target: The file of results.
        shared: As for `sweep`.
        resume: Whether to go on with an earlier sweep that did not finish.
    """
    libraries = ("ai-edge-litert", "numpy", "tensorflow", "tf-keras")
    versions = {name: metadata.version(name) for name in libraries}
    settings = {**asdict(shared), "tfldbg": __version__, **versions}
    return KeptRows(target, settings, resume=resume)


class _Tracer:
    """Traces cases, and keeps the last Keras model for the next one of the same path."""

    def __init__(self, shared: Shared, unsafe: bool, cached: bool) -> None:
        self._shared, self._unsafe, self._cached = shared, unsafe, cached
        self._kept: tuple[tuple[str, str | None], Frozen] | None = None

    def trace(self, case: Case, progress: Progress) -> Found:
        """Trace one case and reduce what it found to a row."""
        progress.stage("reading")
        loaded, shared = load(case.model, case.signature), self._shared
        result = trace(
            case.model,
            **self._reference(case, progress),
            data=case.data,
            samples=case.samples,
            steps=shared.steps,
            seed=case.seed or 0,
            runtime=case.runtime,
            signature=case.signature,
            inputs=shared.inputs,
            unsafe=self._unsafe,
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
            Path(path), unsafe=self._unsafe, signature=signature, cached=self._cached
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
