"""The section of a report about the subgraphs that operators run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.diagnose.locate import worst_local
from tfldbg.diagnose.words import plural
from tfldbg.measures.section import Section

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Body
    from tfldbg.diagnose.model import Diagnosis
    from tfldbg.diagnose.result import Result


def bodies_section(result: Result) -> tuple[Section, ...]:
    """Return the section about operators that run subgraphs, with one line per subgraph."""
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
