"""The section of a report about the time steps of a recurrent network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number, plural
from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.compare.steps import Step
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.diagnose.result import Result

_MOST_ROWS = 30
_BAR = 10
"""The width of the longest bar."""
_COLUMNS = (
    Column("step", right=True),
    Column("ops", right=True),
    Column("local\n{}", right=True),
    Column("at operator", fold=True),
    Column("accumulated\n{}", right=True),
    Column("at operator", fold=True),
    Column(""),
)
_NONE = (
    "no recurrence was found: there are no weights that three operators read of which each depends "
    "on the previous one, and no operator loops over time"
)


def step_section(result: Result, steps: Sequence[Step] | None) -> tuple[Section, ...]:
    """Return the section about the steps of a trace, empty unless requested."""
    evidence = result.evidence
    if steps is None:
        return ()
    readers = Counter(op for step in steps for op in step.ops)
    alone = {op for op in result.origins if readers[op] == 1}
    chosen = _chosen(steps, alone)
    rows: list[tuple[str, ...]] = []
    for before, current in zip((-1, *chosen), chosen, strict=False):
        if current - before > 1:
            rows.append(("...", *[""] * (len(_COLUMNS) - 1)))
        rows.append(_row(steps[current], steps, evidence, alone))
    unit = "LSB" if any(map(_in_lsb, steps)) else "max abs"
    columns = tuple(replace(c, title=c.title.format(unit)) for c in _COLUMNS)
    title = f"step by step: {_sentence(steps, result, alone)}"
    return (Section(title, columns if rows else (), tuple(rows)),)


def _in_lsb(step: Step) -> bool:
    return step.max_local_lsb is not None or step.max_accumulated_lsb is not None


def _chosen(steps: Sequence[Step], alone: set[int]) -> list[int]:
    """Return the steps to show: all of few, else every n-th, the worst and the first origin."""
    count = len(steps)
    if count <= _MOST_ROWS:
        return list(range(count))
    kept = {count - 1, *range(0, count, -(-count // (_MOST_ROWS - 4)))}
    kept.add(max(range(count), key=lambda k: _local(steps[k])))
    kept.add(max(range(count), key=lambda k: _accumulated(steps[k])))
    kept |= set([k for k in range(count) if alone & set(steps[k].ops)][:1])
    return sorted(kept)


def _size(lsb: float | None, largest: float | None) -> float:
    return lsb if lsb is not None else largest if largest is not None else 0.0


def _local(step: Step) -> float:
    return _size(step.max_local_lsb, step.max_local_abs)


def _accumulated(step: Step) -> float:
    return _size(step.max_accumulated_lsb, step.max_accumulated_abs)


def _row(step: Step, steps: Sequence[Step], evidence: Evidence, alone: set[int]) -> tuple[str, ...]:
    """Return one step's cells, with a bar for its share of the largest accumulated error."""
    largest = max(map(_accumulated, steps))
    share = _accumulated(step) / largest if 0 < largest < float("inf") else 0.0
    local_at = _operator(evidence, step.worst_op, step.worst_body_op)
    accumulated_at = _operator(evidence, step.worst_accumulated_op, None)
    return (
        str(step.step),
        str(len(step.ops)),
        _error(step.max_local_lsb, step.max_local_abs),
        local_at,
        _error(step.max_accumulated_lsb, step.max_accumulated_abs),
        "same" if accumulated_at == local_at else accumulated_at,
        "#" * round(_BAR * share) + " origin" * (not alone.isdisjoint(step.ops)),
    )


def _error(lsb: float | None, largest: float | None) -> str:
    if lsb is not None:
        return f"{lsb:.2f}" if lsb < 10 else f"{lsb:.0f}"
    return "-" if largest is None else f"{largest:.1e}"


def _operator(evidence: Evidence, op: int | None, inner: int | None) -> str:
    """Return an operator in words: ``12 ADD``, or ``4 ADD in 1`` inside a loop."""
    if op is None:
        return ""
    if inner is None:
        return f"{op} {_kind(evidence, op)}"
    bodies = [b.evidence for b in evidence.bodies if b.op == op and b.role == "body"]
    return f"{inner} {_kind(bodies[0], inner) if bodies and bodies[0] else ''} in {op}"


def _kind(evidence: Evidence, op: int) -> str:
    return next((o.kind for o in evidence.ops if o.op == op), "")


def _sentence(steps: Sequence[Step], result: Result, alone: set[int]) -> str:
    if not steps:
        return _NONE
    for step in steps:
        first = sorted(alone & set(step.ops))
        if first:
            kind = _kind(result.evidence, first[0])
            return f"operator {first[0]} {kind} of step {step.step} is the first origin"
    known = [s for s in steps if s.max_accumulated_abs is not None]
    what, of = ("accumulated", _accumulated) if known else ("local", _local)
    worst = max(known or steps, key=of)
    lsb = worst.max_accumulated_lsb if known else worst.max_local_lsb
    unit = "" if lsb is None else " LSB"
    said = f"{number(of(worst))}{unit}, in step {worst.step}"
    return f"{plural(len(steps), 'step')}; the largest {what} error is {said}"
