"""Judge one operator by its measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.diagnose.model import Confidence, Divergence, Signal
from tfldbg.diagnose.scales import WrongScale, same, trained_tie
from tfldbg.diagnose.words import number, off_by, short
from tfldbg.graph.query import SAME_SCALE_KINDS

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.constants.checks import BiasCheck, WeightCheck
    from tfldbg.diagnose.evidence import InputEvidence, OpEvidence
    from tfldbg.diagnose.traits import Traits
    from tfldbg.options.judge import Thresholds

_FLOAT32_LSB = 0.005
"""The error of the reference's own float32 sums: 255 steps x 1e-5 relative, and some room."""

_ROUNDED_LSB = 0.5
"""The error of rounding an emulation's result to codes.

An integer kernel's result is at most the bound away from the exact one, and the exact one half a
step from its code.  Since both results are codes, 0.75 LSB becomes one step: if the exact value is
near a tie, they may be neighbours.
"""
SIGMAS = 6.0
"""The standard deviations of rounding noise that only a fault exceeds."""
_CLEARLY = 2.0
"""The multiple of the bound from which only a fault explains an error."""
_TELLING = 0.1
_SATURATING = frozenset({"LOGISTIC", "RELU6", "SOFTMAX", "TANH"})
_NAMED = 0.9
"""The confidence of matches by name or structure."""


class OutputJudge:
    """Says what is wrong with one operator output, the most telling signal first.

    Args:
        thresholds: The thresholds of the verdict.
        wrong: The tensors that are known to have a wrong scale.
        misplaced: The messages, by tensor, about ranges that are another's or were moved.
        traits: The traits of the reference.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        wrong: Mapping[int, WrongScale],
        misplaced: Mapping[int, str],
        traits: Traits,
    ) -> None:
        self._thresholds = thresholds
        self._misplaced = misplaced
        self._wrong = wrong
        self._kernels = 2 if traits.kernels else 1
        self._rounded = _ROUNDED_LSB if traits.rounds else 0.0

    def __call__(self, op: OpEvidence) -> Divergence | None:
        """Return the divergence, None if arithmetic explains everything."""
        if op.parameters == "differ" and op.expected is not None and trained_tie(op) is None:
            return divergence_of(op, "parameters", _parameters_differ(op))
        if self._copies_wrong(op):
            return None
        misled = self._misled(op)
        for breach in op.breaches:
            if not (breach.rule == "bias_scale" and (misled or _is_scale_of_weights(op.weights))):
                sure: Confidence = "certain" if breach.suspect is None else "ambiguous"
                found = divergence_of(op, "parameters", breach.message, sure)
                return replace(found, rule=breach.rule)
        blamed = self._wrong.get(op.tensor)
        if blamed is not None and blamed.message is not None:
            return divergence_of(op, "parameters", blamed.message)
        if op.tensor in self._misplaced:
            return divergence_of(op, "parameters", self._misplaced[op.tensor], "likely")
        if op.expected_shape is not None:
            message = f"its output has shape {list(op.shape)}, expected {list(op.expected_shape)}"
            return divergence_of(op, "shape", message)
        if op.weights is not None and op.weights.differ:
            return divergence_of(op, "weights", _weights_differ(op, op.weights))
        if op.weights is not None and op.weights.bias is not None and op.weights.bias.differ:
            return divergence_of(op, "weights", _bias_differs(op, op.weights.bias))
        if op.nan:
            return divergence_of(op, "nonfinite", f"{op.nan} NaN values from inputs that hold none")
        local = op.local
        if local is None:
            return None
        if local.nan or local.infinite:
            what = " and ".join(
                f"{count} {name}"
                for count, name in ((local.nan, "NaN"), (local.infinite, "infinite"))
                if count
            )
            return divergence_of(op, "nonfinite", f"{what} values where the reference is finite")
        excess = self._excess(op, local, misled)
        if excess <= 1.0:
            return None
        sure = "certain" if excess > _CLEARLY and op.match_confidence >= _NAMED else "likely"
        return divergence_of(op, "local", _local_differs(local), sure)

    def is_accused(self, op: OpEvidence) -> bool:
        """Return whether an operator's local error or shape is not explained by arithmetic."""
        local = op.local
        if local is None or self._copies_wrong(op):
            return op.expected_shape is not None
        beyond = local.nan or local.infinite or self._excess(op, local, self._misled(op)) > 1.0
        return bool(beyond) or op.expected_shape is not None

    def _copies_wrong(self, op: OpEvidence) -> bool:
        """Return whether an operator copies codes of a wrong scale to a tensor of the right scale.

        The values change there, but the operator that wrote the codes is to blame.
        """
        wrong = (self._wrong.get(t) for t in op.reads)
        return (
            op.kind in SAME_SCALE_KINDS
            and op.scale is not None
            and op.tensor not in self._wrong
            and any(w is not None and same(op.scale, w.right) for w in wrong)
        )

    def _misled(self, op: OpEvidence) -> bool:
        """Return whether an input has a wrong scale and the bias is quantized for the right one."""
        implied = op.bound.implied_scale
        wrong = (self._wrong.get(t) for t in op.reads)
        return implied is not None and any(w is not None and same(implied, w.right) for w in wrong)

    def tells(self, op: OpEvidence) -> bool:
        """Return whether a large error before an operator is visible after it.

        A function that saturates hides it, unless the bound is at most a tenth of the largest
        value: the bound of operators that are checked together may be larger.
        """
        local = op.local
        if local is None or op.kind not in _SATURATING or op.bound.rule == "relative":
            return local is not None
        limits = self._limits(op, local, misled=False)
        return max(limits) <= _TELLING * local.reference_max_abs

    def _excess(self, op: OpEvidence, local: TensorStats, misled: bool) -> float:
        """Return an operator's local error as a multiple of its bound."""
        if op.scale is None and op.bound.rule == "relative":
            return _times(local.relative_rmse, self._thresholds.hybrid_relative)
        pairs = zip(local.channel_max_abs, self._limits(op, local, misled), strict=True)
        return max(_times(found, limit) for found, limit in pairs)

    def _limits(self, op: OpEvidence, local: TensorStats, misled: bool) -> list[float]:
        """Return the bound of each channel, real units."""
        thresholds, bound = self._thresholds, op.bound
        channels = len(local.channel_max_abs)
        tolerance = thresholds.float_relative * max(local.reference_max_abs, 1e-6)
        step = bound.step if op.scale is None else op.scale
        if step is not None:
            limit = self._kernels * thresholds.lsb(bound.rule) + _FLOAT32_LSB + self._rounded
            extra = _each(bound.extra_lsb, channels)
            stale = _each(bound.implied_lsb if misled else (0.0,), channels)
            return [step * (limit + a + b) for a, b in zip(extra, stale, strict=True)]
        if bound.rule == "noise":
            return [SIGMAS * n + tolerance for n in _each(bound.noise, channels)]
        return [tolerance] * channels


def _times(found: float, limit: float) -> float:
    """Return an error as a multiple of its limit, both in the same unit."""
    if limit > 0:
        return found / limit
    return math.inf if found > 0 else 0.0


def _each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return one value per channel: the largest for all if there is not one for each."""
    return values if len(values) == channels else (max(values),) * channels


def divergence_of(
    op: OpEvidence, signal: Signal, message: str, confidence: Confidence = "certain"
) -> Divergence:
    """Return a divergence of an operator's output."""
    return Divergence(op.op, op.kind, op.name, op.tensor, signal, message, confidence)


def judge_input(given: InputEvidence, ops: Sequence[OpEvidence]) -> Divergence | None:
    """Return the divergence of an input of the model, which is that of its first reader."""
    reader = next((o for o in ops if o.op == given.first_reader), None)
    if reader is None:
        return None  # no reader, or only one without outputs, such as ASSIGN_VARIABLE
    if given.miscast is not None:
        message = f"reads the input '{short(given.name)}', whose recorded codes are {given.miscast}"
        return Divergence(reader.op, reader.kind, given.name, given.tensor, "input", message)
    if given.parameters != "differ" or given.expected is None or trained_tie(given) is not None:
        return None
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


def _is_scale_of_weights(check: WeightCheck | None) -> bool:
    """Return whether the weights differ from the reference's, but the scaled bias does not."""
    return check is not None and check.differ and check.bias is not None and not check.bias.differ


def _weights_differ(op: OpEvidence, check: WeightCheck) -> str:
    measured = f"{_local_differs(op.local)}: " if op.local is not None else ""
    share = f"{check.wrong} of its {check.total} weights are off by more than rounding"
    return f"{measured}{share}, by up to {off_by(check)} on channel {check.worst_channel}"


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
