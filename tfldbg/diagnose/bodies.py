"""Evidence and divergences from inside the operators that run subgraphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.evidence import Body, Evidence, Run
from tfldbg.diagnose.judge import divergence_of
from tfldbg.diagnose.traits import ITSELF
from tfldbg.diagnose.words import op_name

if TYPE_CHECKING:
    from tfldbg.compare.bodies.callers import BodyMeasured
    from tfldbg.compare.bodies.part import PartMeasured
    from tfldbg.diagnose.model import Diagnosis, Divergence


def collect_bodies(run: Run, measured: Sequence[BodyMeasured]) -> tuple[Body, ...]:
    """Return the evidence about each subgraph that an operator runs.

    Args:
        run: The run of the main subgraph.
        measured: The measurements of the subgraphs.
    """
    return tuple(_body(run, body) for body in measured)


def _body(run: Run, body: BodyMeasured) -> Body:
    found, reason, evidence = body.found, None, None
    if isinstance(found, str):
        reason = found
    else:
        evidence = _evidence(run, found, body.samples)
    about = (body.subgraph, body.samples, body.steps, body.identical, reason)
    return Body(body.op.index, body.op.kind, body.role, *about, evidence)


def _evidence(run: Run, part: PartMeasured, samples: int) -> Evidence:
    """Return a subgraph's evidence, as of a file that is compared with its own float arithmetic."""
    alone = replace(
        run, reference_kind="self", traits=ITSELF, signature=None, samples=samples, notes=()
    )
    found = collect(part.loaded, alone, part.relation, part.measured)
    # A shape that changes from run to run does not contradict the shape that the file states.
    kept = (replace(o, expected_shape=None) if o.tensor in part.changing else o for o in found.ops)
    return replace(found, ops=tuple(kept))


def with_insides(
    evidence: Evidence, found: Sequence[Divergence], inside: Sequence[Diagnosis | None]
) -> list[Divergence]:
    """Add the first divergence inside each operator that runs subgraphs, as the operator's own.

    It replaces the divergence of the operator's values, which says less.

    Args:
        evidence: The evidence of the main subgraph.
        found: The divergences there.
        inside: The verdict about each of its bodies.
    """
    callers: dict[int, Divergence] = {}
    for body, diagnosis in zip(evidence.bodies, inside, strict=True):
        if diagnosis is not None and diagnosis.divergences and body.op not in callers:
            callers[body.op] = _of_caller(diagnosis.divergences[0], body, evidence)
    kept = [d for d in found if d.op not in callers or d.signal not in ("local", "nonfinite")]
    return [*kept, *callers.values()]


def _of_caller(inner: Divergence, body: Body, evidence: Evidence) -> Divergence:
    outputs = [o for o in evidence.ops if o.op == body.op]
    caller = next((o for o in outputs if o.scale is not None or "FLOAT" in o.type), outputs[0])
    where = f"{op_name(inner.op, inner.kind, inner.tensor)} of its {body.role}"
    run = _worst_run(inner, body)
    of = "at step" if body.kind == "WHILE" else "in sample"
    worst = "" if run is None else f", worst {of} {run}"
    message = f"{where} (subgraph {body.subgraph}): {inner.message}{worst}"
    return divergence_of(caller, inner.signal, message, inner.confidence)


def _worst_run(inner: Divergence, body: Body) -> int | None:
    rows = body.evidence.ops if body.evidence else ()
    row = next((o for o in rows if o.tensor == inner.tensor_index), None)
    if row is None or row.local is None or inner.signal != "local":
        return None
    return row.local.worst_sample
