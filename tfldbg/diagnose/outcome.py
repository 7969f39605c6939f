"""One trace of a sweep, reduced to the figures of a row so that thousands fit into memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tfldbg.diagnose.model import Divergence

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.result import Result
    from tfldbg.errors import TfldbgError
    from tfldbg.options.against import Against
    from tfldbg.options.run_on import RunOn


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The model, the reference and the data of one row."""

    model: str
    against: Against
    run_on: RunOn
    seed: int | None
    """The seed; None if nothing depends on it: the data is given, and no path holds ``{seed}``."""
    family: str
    """The group of rows whose figures are summarized together: the model as it was given, with
    ``{seed}`` not filled in."""

    @property
    def reference(self) -> str | None:
        """The path of the reference, or the other runtime; None for the file itself."""
        named = self.against.named
        return None if named is None else str(named)

    @property
    def data(self) -> str | None:
        """The path of the data; None for random samples."""
        return None if self.run_on.data is None else str(self.run_on.data)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a row, None if undefined."""

    local_max_lsb: float | None
    """The largest local error of any operator."""
    accumulated_max_lsb: float | None
    """The largest accumulated error of any operator."""
    output_max_lsb: float | None
    """The accumulated error of the model's output, as in all fields below; with several outputs, of
    the one with the largest RMSE relative to the reference."""
    output_max_abs: float | None
    output_mean_abs: float | None
    output_rmse: float | None
    output_sqnr_db: float | None
    output_cosine: float | None


FIGURES = tuple(f.name for f in fields(Figures))


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a trace."""

    verdict: str
    sentence: str
    model_sha256: str
    data: str
    """The path of the data or ``"random"``."""
    samples: int
    first: Divergence | None
    origins: tuple[int, ...]
    findings: tuple[str, ...]
    """The codes of the findings, in their order."""
    figures: Figures
    matched: int
    unmatched: int
    unchecked: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row: the result of a trace, or its error."""

    case: Case
    seconds: float
    found: Found | None
    error: TfldbgError | None
    """The error, if ``found`` is None."""

    @property
    def verdict(self) -> str:
        """The verdict: ``"clean"``, ``"diverged"`` or ``"error"``."""
        return self.found.verdict if self.found else "error"


def reduced(result: Result, outputs: Iterable[int]) -> Found:
    """Reduce a trace to a row.

    Args:
        result: The trace.
        outputs: The tensor indices of the model's outputs.
    """
    evidence, run = result.evidence, result.evidence.run
    activations = [o for o in evidence.ops if o.activation]
    matched = sum(o.reference is not None for o in activations)
    statuses = zip(evidence.ops, result.diagnosis.statuses, strict=True)
    return Found(
        verdict=result.verdict,
        sentence=result.diagnosis.sentence,
        model_sha256=run.model_sha256,
        data=run.data,
        samples=run.samples,
        first=result.first_divergence,
        origins=result.origins,
        findings=tuple(dict.fromkeys(f.code for f in result.diagnosis.findings)),
        figures=_figures(evidence.ops, frozenset(outputs)),
        matched=matched,
        unmatched=len(activations) - matched,
        unchecked=sum(o.activation and status == "unchecked" for o, status in statuses),
    )


def _figures(ops: tuple[OpEvidence, ...], outputs: frozenset[int]) -> Figures:
    found = [o.accumulated for o in ops if o.tensor in outputs and o.accumulated is not None]
    output = max(found, key=lambda stats: stats.relative_rmse, default=None)
    return Figures(
        local_max_lsb=_largest(o.local for o in ops),
        accumulated_max_lsb=_largest(o.accumulated for o in ops),
        output_max_lsb=output.max_lsb if output else None,
        output_max_abs=output.max_abs if output else None,
        output_mean_abs=output.mean_abs if output else None,
        output_rmse=output.rmse if output else None,
        output_sqnr_db=output.sqnr_db if output else None,
        output_cosine=output.cosine if output else None,
    )


def _largest(many: Iterable[TensorStats | None]) -> float | None:
    known = [s.max_lsb for s in many if s is not None and s.max_lsb is not None]
    return max(known, default=None)


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a figure over the rows of one model and runtime."""

    family: str
    runtime: str
    figure: str
    rows: int
    """The number of rows that have the figure."""
    minimum: float
    median: float
    maximum: float


def spreads(rows: Iterable[Outcome]) -> Iterator[Spread]:
    """Yield the minimum, median and maximum of each figure, for models with several rows."""
    groups: dict[tuple[str, str], list[Figures]] = {}
    for row in rows:
        if row.found is not None:
            key = (row.case.family, row.case.run_on.runtime)
            groups.setdefault(key, []).append(row.found.figures)
    for (family, runtime), figures in groups.items():
        for name in FIGURES if len(figures) > 1 else ():
            known = [v for v in (getattr(f, name) for f in figures) if v is not None]
            if known:
                middle = statistics.median(known)
                yield Spread(family, runtime, name, len(known), min(known), middle, max(known))
