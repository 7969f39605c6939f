"""Find the tensors that have a wrong scale, and the operators that wrote them.

A wrong scale shows at the operators that read the tensor: their biases were quantized for the right
one.  The scale of a bias, divided by the scale of the weights, is the expected input scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg import quant
from tfldbg.diagnose.words import number
from tfldbg.graph.query import SAME_SCALE_KINDS
from tfldbg.match.kinds import LOOKALIKE

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence, InputEvidence, OpEvidence
    from tfldbg.graph.lint import Breach

SAME_SCALE = 1e-5
"""The relative difference of scales that count as equal: float32 products and quotients."""


@dataclass(frozen=True, slots=True)
class WrongScale:
    """The right scale of a tensor that has a wrong one."""

    right: float
    message: str | None = None
    """The message, if only the biases after the tensor show the error."""


def wrong_scales(evidence: Evidence) -> dict[int, WrongScale]:
    """Map each tensor whose scale is known to be wrong to the right one.

    Args:
        evidence: The evidence from `without_refuted`.
    """
    wrong: dict[int, WrongScale] = {}
    for op in evidence.ops:
        for breach in op.breaches:
            if breach.expected is not None:
                wrong[breach.tensor] = WrongScale(breach.expected[0])
        if op.parameters == "differ" and op.expected is not None and trained_tie(op) is None:
            wrong[op.tensor] = WrongScale(op.expected[0])
    for given in evidence.inputs:
        if (
            given.parameters == "differ"
            and given.expected is not None
            and trained_tie(given) is None
        ):
            wrong[given.tensor] = WrongScale(given.expected[0])
    producers = {op.tensor: op for op in evidence.ops}
    for op in evidence.ops:
        for tensor in op.reads[:1]:
            found = _by_bias(op, tensor, producers)
            if found is not None and found[0] not in wrong:
                wrong[found[0]] = found[1]
                wrong.setdefault(tensor, found[1])
    return wrong


def without_refuted(evidence: Evidence) -> Evidence:
    """Return the evidence without the breaches that the reference refutes.

    The reference confirms the output parameters that a rule doubts; or it has an operator of
    another kind where the file has one that should keep its input's scale, and that is then the
    fault.
    """
    impostors = {o.op for o in evidence.ops if o.match_rule == LOOKALIKE}

    def stands(op: OpEvidence, breach: Breach) -> bool:
        confirmed = breach.tensor == op.tensor and op.parameters == "equal"
        return not confirmed and impostors.isdisjoint(breach.ties)

    kept = (
        replace(op, breaches=tuple(b for b in op.breaches if stands(op, b))) for op in evidence.ops
    )
    return replace(evidence, ops=tuple(kept))


def same(one: float, other: float) -> bool:
    """Return whether two scales are the same up to rounding."""
    return abs(one - other) <= SAME_SCALE * abs(other)


def trained_tie(given: OpEvidence | InputEvidence) -> float | None:
    """Return where the zero of a trained range lies, in steps, if the zero point is at a tie.

    Scale and zero point are then the reference's up to that rounding.  Returns None if they differ
    by more, or do not differ.
    """
    own, expected, trained = given.affine, given.expected, given.trained
    if given.parameters != "differ" or own is None or expected is None or trained is None:
        return None
    scale, zero_point = expected
    if not same(own.scale, scale):
        return None
    return quant.tie(*trained, scale, (own.zero_point, zero_point))


def _by_bias(
    op: OpEvidence, tensor: int, producers: Mapping[int, OpEvidence]
) -> tuple[int, WrongScale] | None:
    """Return the tensor with the wrong scale if a correct bias was quantized for another scale.

    If the scale of the bias itself were wrong, the bias would differ from the reference's.
    """
    implied, check = op.bound.implied_scale, op.weights
    producer = producers.get(tensor)
    if (
        producer is None
        or producer.scale is None
        or implied is None
        or same(producer.scale, implied)
    ):
        return None
    if check is None or check.differ or check.bias is None or check.bias.differ:
        return None
    if not check.bias.max_real and not check.bias.expected:
        return None
    if any(breach.rule == "shared_bias" for breach in op.breaches):
        return None
    while producer.kind in SAME_SCALE_KINDS and producer.reads:
        before = producers.get(producer.reads[0])
        if before is None or before.scale is None or before.scale != producer.scale:
            break
        producer = before
    if producer.parameters == "equal" or producer.scale is None:
        return None
    message = (
        f"its output has scale {number(producer.scale)}, but the bias of operator {op.op}, which "
        f"is the reference's, was quantized for scale {number(implied)}"
    )
    return producer.tensor, WrongScale(implied, message)
