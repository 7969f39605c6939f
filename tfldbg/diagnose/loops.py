"""What was found inside loops: as evidence, and as a verdict about the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tfldbg.compare.loop_body import LoopMeasured, PartMeasured
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.evidence import Body, Evidence, Run
from tfldbg.diagnose.judge import divergence_of
from tfldbg.diagnose.model import Diagnosis, Divergence
from tfldbg.diagnose.words import op_name

_ROLES = ("cond", "body")


def collect_loops(run: Run, loops: Sequence[LoopMeasured]) -> tuple[Body, ...]:
    """Gather the evidence about every loop.

    Args:
        run: The run that they were part of.
        loops: What was measured.
    """
    return tuple(body for loop in loops for body in _bodies(run, loop))


def _bodies(run: Run, loop: LoopMeasured) -> list[Body]:
    op, options = loop.op, loop.op.options
    bodies = []
    for number, role in enumerate(_ROLES):
        evidence = None
        if loop.reason is None:
            evidence = _evidence(run, loop.parts[number], loop.samples)
        subgraph = int(options.get(f"{role}SubgraphIndex", -1))
        about = (subgraph, loop.samples, loop.steps, loop.identical, loop.reason)
        bodies.append(Body(op.index, op.kind, role, *about, evidence))
    return bodies


def _evidence(run: Run, part: PartMeasured, samples: int) -> Evidence:
    """Collect a part as the trace of a file that is compared with itself."""
    alone = replace(run, reference_kind="self", signature=None, samples=samples, notes=())
    found = collect(part.loaded, alone, part.relation, part.measured)
    # A shape that changes from step to step is no other shape than the file states.
    kept = (replace(o, expected_shape=None) if o.tensor in part.changing else o for o in found.ops)
    return replace(found, ops=tuple(kept))


def with_insides(
    evidence: Evidence, found: Sequence[Divergence], inside: Sequence[Diagnosis | None]
) -> list[Divergence]:
    """Add the first divergence inside every loop, as one of the loop itself.

    It takes the place of what the loop's values tell, which is less.

    Args:
        evidence: Of the main subgraph.
        found: What differs there.
        inside: The verdict over each of its bodies.
    """
    loops: dict[int, Divergence] = {}
    for body, diagnosis in zip(evidence.bodies, inside, strict=True):
        if diagnosis is not None and diagnosis.divergences and body.op not in loops:
            loops[body.op] = _of_loop(diagnosis.divergences[0], body, evidence)
    kept = [d for d in found if d.op not in loops or d.signal not in ("local", "nonfinite")]
    return [*kept, *loops.values()]


def _of_loop(inner: Divergence, body: Body, evidence: Evidence) -> Divergence:
    outputs = [o for o in evidence.ops if o.op == body.op]
    loop = next((o for o in outputs if o.scale is not None or "FLOAT" in o.type), outputs[0])
    where = f"{op_name(inner.op, inner.kind, inner.tensor)} of its {body.role}"
    step = _worst_step(inner, body)
    worst = "" if step is None else f", worst at step {step}"
    message = f"{where} (subgraph {body.subgraph}): {inner.message}{worst}"
    return divergence_of(loop, inner.signal, message, inner.confidence)


def _worst_step(inner: Divergence, body: Body) -> int | None:
    rows = body.evidence.ops if body.evidence else ()
    row = next((o for o in rows if o.tensor == inner.tensor_index), None)
    if row is None or row.local is None or inner.signal != "local":
        return None
    return row.local.worst_sample
