"""Find the cause of a divergence by trying changes that remove it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.compare.patterns import pattern
from tfldbg.compare.stream import some_samples
from tfldbg.compare.trials import Trial, suspects, try_kernels, try_options
from tfldbg.diagnose.judge import SIGMAS, OutputJudge
from tfldbg.diagnose.locate import diagnose

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence, OpEvidence
    from tfldbg.options.judge import Thresholds
    from tfldbg.session.request import Ready

_SAMPLES = 8
_MOST_OPERATORS = 3
"""The number of operators to try: the first is the named one, the others may have other causes."""
_FLOAT_AGREES = 1e-3
"""The share of the largest value up to which floats agree: ten times the difference of sums in
another order, a hundredth of the effect of a wrong option."""


def with_trials(evidence: Evidence, ready: Ready, thresholds: Thresholds) -> Evidence:
    """Run the first operators that differ alone: under other kernels, and with other options.

    For a recording, or against other kernels, only the pattern of the error is searched.

    Args:
        evidence: The evidence.
        ready: The trace.
        thresholds: The thresholds of the verdict.
    """
    job, runner, reference = ready.bench.job, ready.bench.runner, ready.reference
    traits, read_by = ready.opened.about.traits, ready.opened.read
    found = diagnose(evidence, thresholds).divergences
    tensors = [d.tensor_index for d in found if d.signal in ("local", "nonfinite", "shape")]
    if not tensors:
        return evidence
    tried = [_measured(evidence, t, thresholds) for t in tensors[:_MOST_OPERATORS]]
    worst = (o.local.worst_sample for o in tried if o.local is not None)
    shown = next((number for number in worst if number is not None), 0)
    batch = some_samples(job, runner, reference.batch or _SAMPLES, shown)
    computed = reference.compute(batch)
    graph, subgraph = job.loaded.graph, job.subgraph
    limits = {o.tensor: _limit(o, traits.rounds, thresholds) for o in tried}
    trials: list[Trial] = []
    seen = []
    read = batch if read_by is None else read_by(batch)
    joint = {o.tensor: o.joint for o in tried if o.joint}
    for suspect in suspects(subgraph, limits, joint, read, computed):
        seen.append(pattern(graph, subgraph, suspect, read))
        if traits.kernels:
            continue  # neither side has the correct result
        trials += try_kernels(graph, subgraph, suspect, read, job.run_on.kernels)
        if not traits.of_the_file:  # otherwise the reference has the file's options
            trials += try_options(graph, subgraph, suspect, read)
    known = tuple(p for p in seen if p is not None)
    return replace(evidence, trials=tuple(trials), patterns=known)


def _measured(evidence: Evidence, tensor: int, thresholds: Thresholds) -> OpEvidence:
    """Return the operator output at which a divergence was measured: of several, the last."""
    own = next(o for o in evidence.ops if o.tensor == tensor)
    judge = OutputJudge(thresholds, {}, {}, evidence.run.traits)
    if judge.is_accused(own):
        return own
    return next((o for o in evidence.ops if own.op in o.joint and judge.is_accused(o)), own)


def _limit(op: OpEvidence, rounded: bool, thresholds: Thresholds) -> float:
    """Return the difference up to which another computation of an operator explains it.

    It is the operator's bound, and at least one code, since two kernels may round differently.  A
    reference that is ``rounded`` to codes adds half a step.
    """
    bound = op.bound
    step = bound.step if op.scale is None else op.scale
    if step is not None:
        own = max(1.0, thresholds.lsb(bound.rule) + max(bound.extra_lsb))
        return step * (own + (0.5 if rounded else 0.0))
    largest = op.local.reference_max_abs if op.local else 0.0
    if bound.rule == "noise":
        return SIGMAS * max(bound.noise)
    return largest * (thresholds.hybrid_relative if bound.rule == "relative" else _FLOAT_AGREES)
