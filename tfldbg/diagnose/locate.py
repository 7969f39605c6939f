"""Judge every operator and name the first that differs."""

from __future__ import annotations

from collections.abc import Mapping

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.checks import BiasCheck, WeightCheck
from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence
from tfldbg.diagnose.findings import findings
from tfldbg.diagnose.model import Diagnosis, Divergence, Status, Thresholds
from tfldbg.diagnose.scales import WrongScale, refuted, same, wrong_scales
from tfldbg.diagnose.words import number, op_name, short
from tfldbg.graph.query import SAME_SCALE_KINDS

_FLOAT32_LSB = 0.005
"""What the reference's own float32 sums are worth: 255 steps x 1e-5 relative, and some room."""

_OTHER_KERNELS = frozenset({"capture", "runtime"})
"""References that round like the file itself, so that both sides may be off."""
_SIGMAS = 6.0
"""Standard deviations of accidental rounding that nothing but a fault exceeds."""


def diagnose(evidence: Evidence, thresholds: Thresholds) -> Diagnosis:
    """Turn measurements into a verdict.

    The verdict rests on each operator's own error, given the inputs it really had, and on its
    quantization parameters and weights.  Accumulated error only tells which operators inherited.
    """
    found = [d for e in evidence.inputs if (d := _judge_input(e, evidence)) is not None]
    judge = Judge(thresholds, wrong_scales(evidence), evidence.run.reference_kind)
    for op in evidence.ops:
        divergence = judge(op)
        if divergence is not None:
            found.append(_placed(divergence, op, evidence))
    found.sort(key=lambda d: d.op)
    divergences = tuple(found)
    statuses = _statuses(evidence, divergences)
    return Diagnosis(
        verdict="diverged" if divergences else "clean",
        sentence=_sentence(evidence, divergences, statuses),
        divergences=divergences,
        statuses=statuses,
        findings=findings(evidence, divergences, thresholds),
    )


def _placed(divergence: Divergence, op: OpEvidence, evidence: Evidence) -> Divergence:
    """Name the one of several operators that are checked together which is most likely to blame.

    The others move data; where several compute, the last with constants of its own does most.
    """
    if divergence.signal != "local" or not op.joint:
        return divergence
    members = [o for o in evidence.ops if o.op in op.joint]
    computing = [o for o in members if o.kind not in SAME_SCALE_KINDS | {"QUANTIZE", "DEQUANTIZE"}]
    blamed = next((o for o in reversed(computing) if o.weighted), (computing or members)[-1])
    if blamed.op == op.op:
        return divergence
    listed = ", ".join(str(i) for i in op.joint)
    message = f"{divergence.message}, measured behind operators {listed} together"
    return _divergence(blamed, "local", message)


class Judge:
    """Says what is wrong with one operator output, the most telling signal first.

    Args:
        thresholds: How much arithmetic explains.
        wrong: The tensors that are known to have a wrong scale.
        reference_kind: As in `Run`.
    """

    def __init__(
        self, thresholds: Thresholds, wrong: Mapping[int, WrongScale], reference_kind: str
    ) -> None:
        self._thresholds = thresholds
        self._wrong = wrong
        self._kernels = 2 if reference_kind in _OTHER_KERNELS else 1

    def __call__(self, op: OpEvidence) -> Divergence | None:
        """Return the divergence, None where arithmetic explains everything."""
        if op.parameters == "differ" and op.expected is not None:
            return _divergence(op, "parameters", _parameters_differ(op))
        if self._copies_wrong(op):
            return None
        misled = self._misled(op)
        for breach in op.breaches:
            if not (misled and breach.rule == "bias_scale") and not refuted(op, breach.tensor):
                return _divergence(op, "parameters", breach.message)
        blamed = self._wrong.get(op.tensor)
        if blamed is not None and blamed.message is not None:
            return _divergence(op, "parameters", blamed.message)
        if op.expected_shape is not None:
            message = f"its output has shape {list(op.shape)}, expected {list(op.expected_shape)}"
            return _divergence(op, "shape", message)
        if op.weights is not None and op.weights.differ:
            return _divergence(op, "weights", _weights_differ(op, op.weights))
        if op.weights is not None and op.weights.bias is not None and op.weights.bias.differ:
            return _divergence(op, "weights", _bias_differs(op, op.weights.bias))
        if op.nan:
            return _divergence(op, "nonfinite", f"{op.nan} NaN values from inputs that hold none")
        local = op.local
        if local is None:
            return None
        if local.nan or local.infinite:
            what = " and ".join(
                f"{count} {name}"
                for count, name in ((local.nan, "NaN"), (local.infinite, "infinite"))
                if count
            )
            return _divergence(op, "nonfinite", f"{what} values where the reference is finite")
        if self._exceeds(op, local, misled):
            return _divergence(op, "local", _local_differs(local))
        return None

    def _copies_wrong(self, op: OpEvidence) -> bool:
        """Whether an operator copies codes whose scale is wrong into a tensor whose scale is right.

        The values change there, and the operator that wrote the codes is to blame.
        """
        wrong = (self._wrong.get(t) for t in op.reads)
        return (
            op.kind in SAME_SCALE_KINDS
            and op.scale is not None
            and op.tensor not in self._wrong
            and any(w is not None and same(op.scale, w.right) for w in wrong)
        )

    def _misled(self, op: OpEvidence) -> bool:
        """Whether an input has a wrong scale and the bias was quantized for the right one."""
        implied = op.bound.implied_scale
        wrong = (self._wrong.get(t) for t in op.reads)
        return implied is not None and any(w is not None and same(implied, w.right) for w in wrong)

    def _exceeds(self, op: OpEvidence, local: TensorStats, misled: bool) -> bool:
        """Whether an operator's own error is more than arithmetic explains."""
        thresholds, bound = self._thresholds, op.bound
        channels = len(local.channel_max_abs)
        tolerance = thresholds.float_relative * max(local.reference_max_abs, 1e-6)
        if op.scale is not None:
            limit = self._kernels * thresholds.lsb(bound.rule) + _FLOAT32_LSB
            extra = _each(bound.extra_lsb, channels)
            stale = _each(bound.implied_lsb if misled else (0.0,), channels)
            limits = [op.scale * (limit + a + b) for a, b in zip(extra, stale, strict=True)]
        elif bound.rule == "noise":
            limits = [_SIGMAS * n + tolerance for n in _each(bound.noise, channels)]
        elif bound.rule == "relative":
            return local.relative_rmse > thresholds.hybrid_relative
        else:
            limits = [tolerance] * channels
        found = local.channel_max_abs
        return any(largest > limit for largest, limit in zip(found, limits, strict=True))


def _each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return one value a channel; the largest for all where they do not belong to the channels."""
    return values if len(values) == channels else (max(values),) * channels


def _divergence(op: OpEvidence, signal: str, message: str) -> Divergence:
    return Divergence(op.op, op.kind, op.name, op.tensor, signal, message)  # type: ignore[arg-type]


def _judge_input(given: InputEvidence, evidence: Evidence) -> Divergence | None:
    if given.parameters != "differ" or given.expected is None or given.first_reader is None:
        return None
    reader = next(o for o in evidence.ops if o.op == given.first_reader)
    message = (
        f"reads the input '{short(given.name)}' with {_pair(given.scale, given.zero_point)}, "
        f"but the reference quantizes it with {_pair(*given.expected)}"
    )
    return Divergence(reader.op, reader.kind, given.name, given.tensor, "parameters", message)


def _pair(scale: float | None, zero_point: int | None) -> str:
    return f"scale {number(scale)}, zero point {zero_point}"


def _parameters_differ(op: OpEvidence) -> str:
    expected = op.expected or (0.0, 0)
    return (
        f"its output has {_pair(op.scale, op.zero_point)}, but the reference has {_pair(*expected)}"
    )


def _weights_differ(op: OpEvidence, check: WeightCheck) -> str:
    measured = f"{_local_differs(op.local)}: " if op.local is not None else ""
    share = f"{check.wrong} of its {check.total} weights are off by more than rounding"
    return (
        f"{measured}{share}, by up to {number(check.max_steps)} steps "
        f"on channel {check.worst_channel}"
    )


def _bias_differs(op: OpEvidence, check: BiasCheck) -> str:
    measured = f"{_local_differs(op.local)}: " if op.local is not None else ""
    return (
        f"{measured}its bias is {number(check.found)} on channel {check.worst_channel}, the "
        f"reference's is {number(check.expected)}; {check.wrong} of {check.total} channels are off "
        "by more than rounding"
    )


def _local_differs(local: TensorStats) -> str:
    where = "" if local.worst_channel is None else f" on channel {local.worst_channel}"
    if local.max_lsb is not None:
        return f"{number(local.max_lsb)} LSB{where}"
    return f"{number(local.max_abs)}{where}, {local.relative_rmse:.1%} of the signal"


def _statuses(evidence: Evidence, divergences: tuple[Divergence, ...]) -> tuple[Status, ...]:
    """Tell origins, what lies downstream of them and shows it, and what could not be checked."""
    origins = {d.op for d in divergences}
    covered = evidence.covered
    tainted: set[int] = set()
    statuses: list[Status] = []
    for op in evidence.ops:
        downstream = any(t in tainted for t in op.reads)
        if op.op in origins or downstream:
            tainted.add(op.tensor)
        if op.op in origins:
            statuses.append("origin")
        elif op.local is None and op.op not in covered:
            statuses.append("unchecked")
        elif downstream and _shows_error(op):
            statuses.append("inherited")
        else:
            statuses.append("ok")
    return tuple(statuses)


def _shows_error(op: OpEvidence) -> bool:
    accumulated = op.accumulated
    if accumulated is None:
        return False
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
    if evidence.run.reference_kind == "none":
        return "nothing was compared: this recording has no reference"
    activations = sum(o.activation for o in evidence.ops)
    checked = sum(s != "unchecked" for s in statuses)
    if not checked:
        return "no operator could be checked"
    sentence = f"no operator differs: {checked} of {activations} operators checked, all within "
    sentence += f"{_worst_local(evidence)} of the reference on the inputs they had"
    if evidence.run.reference_kind in _OTHER_KERNELS:
        other = sum(o.local is not None and o.local.max_abs > 0 for o in evidence.ops)
        sentence += f"; {other} of them yield other values"
    drift = [o.accumulated.max_lsb for o in evidence.ops if o.accumulated and o.accumulated.max_lsb]
    if drift and max(drift) > 1.5:
        sentence += f"; the accumulated error reaches {number(max(drift))} LSB"
    return sentence


def _worst_local(evidence: Evidence) -> str:
    steps = [o.local.max_lsb for o in evidence.ops if o.local and o.local.max_lsb is not None]
    if steps:
        return f"{number(max(steps))} LSB"
    shares = [o.local.relative_rmse for o in evidence.ops if o.local]
    return f"{max(shares, default=0.0):.2g} of the signal"


def _diverged_sentence(evidence: Evidence, divergences: tuple[Divergence, ...]) -> str:
    first = divergences[0]
    name = op_name(first.op, first.kind, first.tensor)
    sentence = f"{name} is the first to differ: {first.message}"
    before = [o for o in evidence.ops if o.op < first.op and o.activation]
    if before:
        blind = len({o.op for o in before} - evidence.covered)
        steps = [o.local.max_lsb for o in before if o.local and o.local.max_lsb is not None]
        within = f"are within {number(max(steps))} LSB" if steps else "do not differ"
        sentence += f"; the {len(before)} before it {within}"
        sentence += f" ({blind} of them unchecked)" if blind else ""
    others = sorted({d.op for d in divergences} - {first.op})
    if others:
        listed = ", ".join(str(o) for o in others[:8]) + (", ..." if len(others) > 8 else "")
        sentence += f"; operators that differ by themselves too: {listed}"
    return sentence
