"""Look for the cause of a divergence by trying what would remove it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.compare.against.capture import CaptureReference
from tfldbg.compare.patterns import pattern
from tfldbg.compare.trials import Trial, suspects, try_kernels, try_options
from tfldbg.diagnose.judge import SIGMAS, Judge
from tfldbg.diagnose.locate import diagnose
from tfldbg.options.against import EMULATIONS
from tfldbg.options.judge import Thresholds
from tfldbg.session.comparisons import some_samples

if TYPE_CHECKING:
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Evidence, OpEvidence
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner

_SAMPLES = 8
_MOST_OPERATORS = 3
"""Operators to try: the first is the one that is named, the next may have causes of their own."""
_FLOAT_AGREES = 1e-3
"""Share of the largest value up to which floats agree: ten times what sums in another order may
differ by, a hundredth of what a wrong option makes."""
_TRIED = frozenset({"keras", "tflite", "self", *EMULATIONS})
"""References that say what an operator should have made of the inputs that it had; of others both
sides may be wrong."""


def with_trials(
    evidence: Evidence, job: Job, runner: Runner, reference: Reference | None
) -> Evidence:
    """Run the first operators that differ by themselves: under other kernels, with other options.

    What was recorded, or computed by other kernels, is searched for the pattern of its error alone.

    Args:
        evidence: What was measured.
        job: The traced file.
        runner: Its instrumented model.
        reference: What it was compared with.
    """
    if reference is None:
        return evidence
    found = diagnose(evidence, Thresholds()).divergences
    tensors = [d.tensor_index for d in found if d.signal in ("local", "nonfinite", "shape")]
    if not tensors:
        return evidence
    tried = [_measured(evidence, t) for t in tensors[:_MOST_OPERATORS]]
    worst = (o.local.worst_sample for o in tried if o.local is not None)
    shown = next((number for number in worst if number is not None), 0)
    batch = some_samples(job, runner, reference.batch or _SAMPLES, shown)
    computed = reference.compute(batch)
    graph, subgraph = job.loaded.graph, job.subgraph
    kind = evidence.run.reference_kind
    limits = {o.tensor: _limit(o, kind in EMULATIONS) for o in tried}
    trials: list[Trial] = []
    seen = []
    read = reference.read(batch) if isinstance(reference, CaptureReference) else batch
    joint = {o.tensor: o.joint for o in tried if o.joint}
    for suspect in suspects(subgraph, limits, joint, read, computed):
        seen.append(pattern(graph, subgraph, suspect, read))
        if kind not in _TRIED:
            continue
        trials += try_kernels(graph, subgraph, suspect, read, job.run_on.kernels)
        if kind not in {"self", *EMULATIONS}:  # there both sides have the file's options
            trials += try_options(graph, subgraph, suspect, read)
    known = tuple(p for p in seen if p is not None)
    return replace(evidence, trials=tuple(trials), patterns=known)


def _measured(evidence: Evidence, tensor: int) -> OpEvidence:
    """Return where the error of a divergence was measured: of several operators, at the last."""
    own = next(o for o in evidence.ops if o.tensor == tensor)
    judge = Judge(Thresholds(), {}, {}, evidence.run.reference_kind)
    if judge.is_accused(own):
        return own
    return next((o for o in evidence.ops if own.op in o.joint and judge.is_accused(o)), own)


def _limit(op: OpEvidence, rounded: bool) -> float:
    """Return the difference up to which another way of computing an operator explains it.

    It is the operator's bound, and at least one code: two kernels may round to either side.  A
    reference that is ``rounded`` to codes adds half a step.
    """
    bound, thresholds = op.bound, Thresholds()
    step = bound.step if op.scale is None else op.scale
    if step is not None:
        own = max(1.0, thresholds.lsb(bound.rule) + max(bound.extra_lsb))
        return step * (own + (0.5 if rounded else 0.0))
    largest = op.local.reference_max_abs if op.local else 0.0
    if bound.rule == "noise":
        return SIGMAS * max(bound.noise)
    return largest * (thresholds.hybrid_relative if bound.rule == "relative" else _FLOAT_AGREES)
