"""Judge every operator and name the first that differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.bodies import with_insides
from tfldbg.diagnose.downstream import computed_from, downstream_of
from tfldbg.diagnose.findings import findings
from tfldbg.diagnose.fitting import exceeded, is_clipped, is_narrow, misplaced
from tfldbg.diagnose.judge import OutputJudge, divergence_of, judge_input
from tfldbg.diagnose.model import Diagnosis, Divergence, Status
from tfldbg.diagnose.scales import without_refuted, wrong_scales
from tfldbg.diagnose.words import number, op_name
from tfldbg.graph.query import SAME_SCALE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tfldbg.diagnose.evidence import Evidence, OpEvidence
    from tfldbg.options.judge import Thresholds


def diagnose(evidence: Evidence, thresholds: Thresholds) -> Diagnosis:
    """Return the verdict about the measurements of a trace.

    The verdict rests on each operator's local error and on its quantization parameters and
    weights.  The accumulated error only shows which operators inherited an error.
    """
    evidence = without_refuted(evidence)
    found = [d for e in evidence.inputs if (d := judge_input(e, evidence.ops)) is not None]
    costs = misplaced(evidence, thresholds.saturation)
    judge = OutputJudge(thresholds, wrong_scales(evidence), costs, evidence.run.traits)
    judged = [(op, d) for op in evidence.ops if (d := judge(op)) is not None]
    judged += [(op, d) for op in _alone(evidence, thresholds) if (d := judge(op)) is not None]
    by_themselves = {op.op for op, d in judged if d.signal != "local" or not op.joint}
    for op, divergence in judged:
        if divergence.signal == "local" and not by_themselves.isdisjoint(op.joint[:-1]):
            continue  # an operator that is measured with it is known to be wrong
        found.append(_placed(divergence, op, evidence))
    inside = tuple(
        diagnose(b.evidence, thresholds) if b.evidence is not None else None
        for b in evidence.bodies
    )
    found = with_insides(evidence, found, inside)
    found.sort(key=lambda d: d.op)
    divergences = tuple(found)
    downstream = downstream_of(evidence.ops, divergences)
    statuses = _statuses(evidence, divergences, downstream)
    return Diagnosis(
        verdict="diverged" if divergences else "clean",
        sentence=_sentence(evidence, divergences, statuses),
        divergences=divergences,
        statuses=statuses,
        findings=findings(evidence, divergences, thresholds, downstream),
        inside=inside,
    )


def _alone(evidence: Evidence, thresholds: Thresholds) -> Iterator[OpEvidence]:
    """Yield unchecked operators whose accumulated error is entirely their own.

    Both files were given the same inputs.  If all inputs of an operator agree and its output
    differs by far more than any rounding, the operator is to blame.
    """
    if not evidence.run.traits.other_file:
        return
    covered, equal = evidence.covered, {i.tensor for i in evidence.inputs if i.scale is None}
    for op in evidence.ops:
        free = op.accumulated
        if not set(op.reads) <= equal:
            continue
        error = free.relative_rmse if free is not None else None
        if not op.reads or (error is not None and error <= thresholds.float_relative):
            equal.add(op.tensor)  # computed from constants alone, or equal on both sides
        elif error is not None and error > thresholds.hybrid_relative and op.op not in covered:
            yield replace(op, local=free)


def _placed(divergence: Divergence, op: OpEvidence, evidence: Evidence) -> Divergence:
    """Attribute a divergence to the most likely of several operators that are checked together.

    That is an operator with a change that makes all of them agree with the reference: of several,
    the one with the fewest such changes, then the last.  If there is none, it is the last operator
    with its own constants, since it computes most; others move data.  NaN is attributed to the
    operator that computes it, unless a change of another operator explains it.  If the float
    arithmetic of all of them agrees with the reference, the divergence stays at its operator's
    kernel, since the others are checked against their own arithmetic.
    """
    if divergence.signal not in ("local", "nonfinite") or not op.joint:
        return divergence
    trials = [t for t in evidence.trials if t.tensor == op.tensor]
    if any(t.kind == "float" for t in trials):
        return divergence
    members = [o for o in evidence.ops if o.op in op.joint]
    computing = [o for o in members if o.kind not in SAME_SCALE_KINDS | {"QUANTIZE", "DEQUANTIZE"}]
    blamed = next((o for o in reversed(computing) if o.weighted), (computing or members)[-1])
    proved = Counter(t.op for t in trials if t.changed and t.agrees)
    # An operator that agrees after many changes, as one of zeros does, is less likely to blame.
    fewest = min(proved.values(), default=0)
    blamed = op if divergence.signal == "nonfinite" else blamed
    blamed = next((o for o in reversed(members) if proved.get(o.op) == fewest), blamed)
    if blamed.op == op.op:
        return divergence
    listed = ", ".join(str(i) for i in op.joint)
    message = f"{divergence.message}, measured after operators {listed} together"
    return divergence_of(blamed, "local", message, "likely")


def _statuses(
    evidence: Evidence, divergences: tuple[Divergence, ...], downstream: frozenset[int]
) -> tuple[Status, ...]:
    """Return the status of every operator output.

    Args:
        evidence: The trace.
        divergences: Its divergences.
        downstream: The tensors downstream of their origins.
    """
    origins, covered = {d.op for d in divergences}, evidence.covered

    def status(op: OpEvidence) -> Status:
        if op.op in origins:
            return "origin"
        checked = op.local is not None or op.op in covered
        if op.tensor in downstream and (checked or op.fed_alike) and _shows_error(op):
            return "inherited"
        return "ok" if checked else "unchecked"

    return tuple(status(op) for op in evidence.ops)


def _shows_error(op: OpEvidence) -> bool:
    accumulated = op.accumulated
    if accumulated is None:
        return False
    if accumulated.nan or accumulated.infinite:
        return True
    if accumulated.max_lsb is not None:
        return accumulated.max_lsb > 1.0
    return accumulated.max_abs > 1e-4 * max(accumulated.reference_max_abs, 1e-6)


def _sentence(
    evidence: Evidence,
    divergences: tuple[Divergence, ...],
    statuses: tuple[Status, ...],
) -> str:
    if divergences:
        return _diverged_sentence(evidence, divergences)
    if not evidence.run.traits.exists:
        return "nothing was compared: this recording has no reference"
    judged = [s for o, s in zip(evidence.ops, statuses, strict=True) if o.activation]
    activations, checked = len(judged), sum(s != "unchecked" for s in judged)
    if not checked:
        return "no operator could be checked"
    sentence = f"no operator differs{_where(evidence)}: {checked} of {activations} operators "
    sentence += (
        f"checked, all within {worst_local(evidence)} of the reference on the inputs they had"
    )
    other = sum(o.local is not None and o.local.max_abs > 0 for o in evidence.ops)
    if evidence.run.traits.kernels:
        sentence += f"; {other} of them yield other values"
    elif evidence.run.traits.rounds and other:
        sentence += f"; {other} of them round some values the other way"
    drift = [o.accumulated.max_lsb for o in evidence.ops if o.accumulated and o.accumulated.max_lsb]
    if drift and max(drift) > 1.5:
        sentence += f"; the accumulated error reaches {number(max(drift))} LSB"
    if evidence.run.has_real_data and any(is_clipped(i) or is_narrow(i) for i in evidence.inputs):
        sentence += "; the data does not suit the range of the file's input"
    cut = exceeded(evidence)
    if cut:
        tensor, share = max(cut.items(), key=lambda one: one[1])
        op = next(o.op for o in evidence.ops if o.tensor == tensor)
        sentence += f"; the range of operator {op} cuts off {share:.0%} of its values"
    if evidence.run.traits.of_the_file:
        sentence += "; without a reference its weights are not checked"
    return sentence


def _where(evidence: Evidence) -> str:
    """Return the kernels under which the file was judged, empty for a recording."""
    run = evidence.run
    if run.traits.recorded:
        return ""
    return f" under {run.runtime}{' with the delegate' if run.delegate is not None else ''}"


def worst_local(evidence: Evidence) -> str:
    """Return the largest local error of a trace in words, including the insides of operators."""
    inside = [b.evidence.ops for b in evidence.bodies if b.evidence is not None]
    known = [o.local for ops in (evidence.ops, *inside) for o in ops if o.local is not None]
    steps = [local.max_lsb for local in known if local.max_lsb is not None]
    if steps:
        return f"{number(max(steps))} LSB"
    shares = [local.relative_rmse for local in known]
    return f"{max(shares, default=0.0):.2g} of the signal"


def _is_hidden(evidence: Evidence, divergence: Divergence) -> bool:
    """Return whether the values after a wrong one end as right ones, as they may after a clip."""
    if divergence.signal != "local" or evidence.run.traits.kernels:
        return False
    reached = computed_from(evidence.ops, [divergence.tensor_index])
    after = [op for op in evidence.ops if op.tensor in reached]
    read = {tensor for op in after for tensor in op.reads}
    ends = [op for op in after if op.tensor not in read]
    return bool(ends) and all(o.accumulated and not _shows_error(o) for o in ends)


def _diverged_sentence(evidence: Evidence, divergences: tuple[Divergence, ...]) -> str:
    first = divergences[0]
    name = op_name(first.op, first.kind, first.tensor)
    sentence = f"{name} is the first to differ{_where(evidence)}: {first.message}"
    before = [o for o in evidence.ops if o.op < first.op and o.activation]
    if before:
        blind = len({o.op for o in before} - evidence.covered)
        steps = [o.local.max_lsb for o in before if o.local and o.local.max_lsb is not None]
        within = f"are within {number(max(steps))} LSB" if steps else "do not differ"
        sentence += f"; the {len(before)} before it {within}"
        sentence += f" ({blind} of them unchecked)" if blind else ""
    others = sorted({d.op for d in divergences} - {first.op})
    if not others and _is_hidden(evidence, first):
        sentence += "; later operators hide it on this data"
    if others:
        listed = ", ".join(str(o) for o in others[:8]) + (", ..." if len(others) > 8 else "")
        sentence += f"; further origins: {listed}"
    return sentence
