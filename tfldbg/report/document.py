"""The view model: the content of a report as text, built from a result and drawn by others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.diagnose.words import short
from tfldbg.measures import MEASUREMENTS
from tfldbg.measures.measurement import Shown
from tfldbg.report.bodies import bodies_section
from tfldbg.report.gate import gate_line, gate_section
from tfldbg.report.matching import about_run, matching_section

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.diagnose.evidence import Evidence, OpEvidence
    from tfldbg.diagnose.model import Divergence, Finding, Status
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.section import Section

_SHOW_ALL_BELOW = 24
_AROUND = 2
_WORST = 5
_MOST_TAKEN = 6
"""The number of operators of a delegate that are named."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operator output, or a gap."""

    op: str
    kind: str
    tensor: str
    local: str
    accumulated: str
    sqnr: str
    """The SQNR of the accumulated error."""
    status: Status | None
    """The status, None for a gap, whose ``kind`` tells what was left out."""


@dataclass(frozen=True, slots=True)
class Document:
    """A report."""

    verdict: str
    """The verdict in a word (`verdict_word`)."""
    sentence: str
    facts: tuple[tuple[str, str], ...]
    unit: str
    """The unit of the error columns: ``LSB``, or ``max abs`` if no tensor is quantized."""
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    """One line per activation that could not be checked, with the reason."""
    cause: Finding | None = None
    """The finding in the fact ``why``."""
    first: Divergence | None = None
    """The divergence in the sentence, if an operator differs."""
    gate: str | None = None
    """The outcome of the user's rules, in a line."""
    sections: tuple[Section, ...] = ()
    """The other parts that were requested."""


def verdict_word(result: Result) -> str:
    """Return the verdict in a word, ``recorded`` if nothing was compared."""
    alone = not result.evidence.run.traits.exists and result.verdict == "clean"
    return "recorded" if alone else result.verdict


def build_document(
    result: Result, *, everything: bool = False, histograms: bool = True, verbose: bool = False
) -> Document:
    """Return the content of a report.

    Args:
        result: The trace.
        everything: True to show all operators, not only origins, their surroundings and the worst.
        histograms: True to show the histograms of the errors, if the trace holds them.
        verbose: True to show the matches of tensors, the versions and the times.
    """
    evidence = result.evidence
    quantized = evidence.quantized
    rows = [
        _row(o, s, quantized) for o, s in zip(evidence.ops, result.diagnosis.statuses, strict=True)
    ]
    chosen = None
    if not everything and len(rows) > _SHOW_ALL_BELOW:
        chosen = _chosen(evidence, result.diagnosis.statuses)
        rows = _with_gaps(rows, chosen)
    listed = sorted(chosen) if chosen is not None else None
    shown = Shown(everything, listed, histograms)
    return Document(
        verdict=verdict_word(result),
        sentence=result.diagnosis.sentence,
        facts=(*_facts(result), *(about_run(evidence.run) if verbose else ())),
        unit="LSB" if quantized else "max abs",
        rows=tuple(rows),
        findings=result.diagnosis.findings,
        unchecked=_unchecked(evidence),
        cause=result.cause,
        first=result.first_divergence,
        gate=gate_line(result.gate) if result.gate is not None else None,
        sections=(
            *gate_section(result.gate, everything=everything),
            *(section for one in MEASUREMENTS for section in one.sections(result, shown)),
            *bodies_section(result),
            *(matching_section(evidence) if verbose else ()),
        ),
    )


def _facts(result: Result) -> tuple[tuple[str, str], ...]:
    run = result.evidence.run
    data = run.data
    if data == "random":
        seed = "" if run.seed is None else f" (seed {run.seed})"  # recordings do not tell it
        data = f"random{seed}: give real data with --data"
    activations = [o for o in result.evidence.ops if o.activation]
    matched = sum(o.reference is not None for o in activations)
    original = "untouched" if run.repair is None else "repaired"
    observer = f"identical to the {original} model's on {run.observer_samples} samples"
    if not run.observer_identical:
        observer = f"NOT identical to the {original} model's: this trace is of another program"
    facts = [("model", run.model_path)]
    cause = result.cause
    if cause is not None:
        facts.insert(0, ("why", f"{cause.code} {cause.predicate}"))
    if run.traits.exists:
        facts.append(("reference", f"{run.reference_path} ({run.reference_kind})"))
        facts.append(("matched", f"{matched} of {len(activations)} activations"))
    facts += [("runtime", run.runtime), *_delegate(result), ("data", f"{data}, {run.extent}")]
    if run.observer_samples:
        facts.append(("outputs", observer))
    if run.repair is not None:
        facts.append(("repaired", run.repair))
    split = next((o.split for o in reversed(result.evidence.ops) if o.split is not None), None)
    if split is not None:
        causes = f"saturation {split.saturation:.2f}, rounding {split.rounding:.2f}"
        facts.append(("drift", f"{causes}, kernels {split.kernel:.2f} LSB RMSE at the last output"))
    return (*facts, *(("note", note) for note in run.notes))


def _delegate(result: Result) -> Iterator[tuple[str, str]]:
    """Yield the fact about the external delegate, which may have computed nothing."""
    delegate = result.evidence.run.delegate
    if delegate is None:
        return
    kinds = {o.op: o.kind for o in result.evidence.ops}
    taken = [f"{index} {kinds[index]}" for index in delegate.operators if index in kinds]
    said = "computes no operator"
    if taken:
        more = f" and {len(taken) - _MOST_TAKEN} more" if len(taken) > _MOST_TAKEN else ""
        listed = ", ".join(taken[:_MOST_TAKEN])
        said = f"computes {len(taken)} of {len(kinds)} operators: {listed}{more}"
    options = "".join(f" {key}={value}" for key, value in delegate.options.items())
    yield "delegate", f"{delegate.path}{options}: {said}"


def _row(op: OpEvidence, status: Status, quantized: bool) -> Row:
    stats = op.accumulated
    sqnr = stats.sqnr_db if stats else None
    return Row(
        op=str(op.op),
        kind=op.kind,
        tensor=short(op.name) or f"tensor {op.tensor}",
        local=_error(op.local, quantized),
        accumulated=_error(op.accumulated, quantized),
        sqnr=_equal(stats) or (f"{sqnr:.0f}" if sqnr is not None else "-"),
        status=status,
    )


def _equal(stats: TensorStats | None) -> str:
    return "same" if stats and stats.max_abs == 0 and not stats.nan + stats.infinite else ""


def _error(stats: TensorStats | None, quantized: bool) -> str:
    if stats is None:
        return "-"
    if stats.nan or stats.infinite:
        return "NaN" if stats.nan else "inf"
    if stats.max_lsb is not None:
        form = ".2f" if stats.max_lsb < 10 else ".0f" if stats.max_lsb < 1e6 else ".1e"
        return f"{stats.max_lsb:{form}}"
    return f"{stats.max_abs:.1e}" if not quantized else f"({stats.max_abs:.0e})"


def _chosen(evidence: Evidence, statuses: Sequence[Status]) -> set[int]:
    """Return the numbers of the rows to show: origins, their surroundings, the worst, the last."""
    chosen = {len(statuses) - 1}
    for i, status in enumerate(statuses):
        if status == "origin" or (status == "unchecked" and evidence.ops[i].activation):
            around = _AROUND if status == "origin" else 0
            chosen |= set(range(max(0, i - around), min(len(statuses), i + around + 1)))
    local = [(o.local.max_lsb or 0.0) if o.local else 0.0 for o in evidence.ops]
    drift = [(o.accumulated.max_lsb or 0.0) if o.accumulated else 0.0 for o in evidence.ops]
    for errors in (local, drift):
        chosen |= set(sorted(range(len(errors)), key=lambda i: -errors[i])[:_WORST])
    return chosen


def _with_gaps(rows: list[Row], chosen: set[int]) -> list[Row]:
    shown: list[Row] = []
    skipped: list[Row] = []
    for i, row in enumerate(rows):
        if i not in chosen:
            skipped.append(row)
            continue
        if skipped:
            shown.append(_gap(skipped))
            skipped = []
        shown.append(row)
    return shown


def _gap(rows: list[Row]) -> Row:
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row.status)] = counts.get(str(row.status), 0) + 1
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    return Row("...", f"({said})", "", "", "", "", None)


def _unchecked(evidence: Evidence) -> tuple[str, ...]:
    covered = evidence.covered
    said = (
        f"operator {o.op} {o.kind}: {o.local_reason}"
        for o in evidence.ops
        if o.op not in covered and o.local_reason is not None and o.activation
    )
    return tuple(dict.fromkeys(said))  # an operator with several outputs has one line
