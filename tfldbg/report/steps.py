"""The time steps of a recurrent network, and the insides of operators, as a report shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.locate import worst_local
from tfldbg.diagnose.words import number, plural
from tfldbg.report.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.compare.steps import Step
    from tfldbg.diagnose.evidence import Body, Evidence
    from tfldbg.diagnose.model import Diagnosis
    from tfldbg.diagnose.result import Result

_MOST_ROWS = 30
_BAR = 10
"""Width of the longest bar."""
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
    "no recurrence was found: no weights are read by three operators of which each depends on the "
    "one before, and no operator loops over time"
)


def step_section(result: Result) -> tuple[Section, ...]:
    """Word the steps of a trace; nothing where nobody asked for them."""
    evidence = result.evidence
    steps = evidence.steps
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
    """Return the steps worth a line: all of few, else every n-th, the worst and the wrong ones."""
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
    """Return one step's cells; its bar is long as its share of the largest accumulated error."""
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
    """Say an operator: ``12 ADD``, or ``4 ADD in 1`` inside a loop."""
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
            return f"operator {first[0]} {kind} of step {step.step} differs by itself, none before"
    known = [s for s in steps if s.max_accumulated_abs is not None]
    what, of = ("accumulated", _accumulated) if known else ("local", _local)
    worst = max(known or steps, key=of)
    lsb = worst.max_accumulated_lsb if known else worst.max_local_lsb
    unit = "" if lsb is None else " LSB"
    said = f"{number(of(worst))}{unit}, in step {worst.step}"
    return f"{plural(len(steps), 'step')}; the largest {what} error is {said}"


def bodies_section(result: Result) -> tuple[Section, ...]:
    """Say what was found inside operators that run subgraphs, a line a subgraph."""
    pairs = zip(result.evidence.bodies, result.diagnosis.inside, strict=True)
    lines = tuple(f"  {_body_line(body, diagnosis)}" for body, diagnosis in pairs)
    title = "inside operators that run subgraphs, against their own float arithmetic:"
    return (Section(title, lines=lines),) if lines else ()


def _body_line(body: Body, diagnosis: Diagnosis | None) -> str:
    named = f" (subgraph {body.subgraph})" if body.subgraph >= 0 else ""
    where = f"operator {body.op} {body.kind}, {body.role}{named}"
    if body.evidence is None or diagnosis is None:
        return f"{where}: not checked: {body.reason}"
    ops = [o for o in body.evidence.ops if o.activation]
    covered = body.evidence.covered
    count, blind = len({o.op for o in ops}), {o.op for o in ops if o.op not in covered}
    said = f"{where}: {plural(count, 'operator')} over {_extent(body)}"
    if diagnosis.divergences:
        first = diagnosis.divergences[0]
        return f"{said}; operator {first.op} {first.kind} differs: {first.message}"
    said += f", all within {worst_local(body.evidence)}"
    if blind:
        first_blind = next(o for o in ops if o.op in blind)
        reason = f"operator {first_blind.op} {first_blind.kind}: {first_blind.local_reason}"
        said += f"; {len(blind)} of them not checked ({reason})"
    return said


def _extent(body: Body) -> str:
    if body.kind != "WHILE":
        return plural(body.steps, "sample")
    of = f" of {body.samples} samples" if body.samples > 1 else ""
    return f"{plural(body.steps, 'step')}{of}"
