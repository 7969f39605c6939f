"""Find the tensors downstream of others: those computed from them, by the operators' reads.

This is the only definition of "downstream of an origin" for statuses, rules and messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Divergence


def downstream_of(ops: Sequence[OpEvidence], divergences: Iterable[Divergence]) -> frozenset[int]:
    """Return the tensors downstream of an origin.

    They are computed from the outputs of an origin, or from a wrong input of the model.

    Args:
        ops: The operator outputs, in any order.
        divergences: The divergences of the origins.
    """
    found = list(divergences)
    origins, named = {d.op for d in found}, {d.tensor_index for d in found}
    return computed_from(ops, named | {o.tensor for o in ops if o.op in origins})


def computed_from(ops: Sequence[OpEvidence], tensors: Iterable[int]) -> frozenset[int]:
    """Return the tensors to which a path of reads leads from some tensors.

    One of the given tensors is included only if it is computed from another of them.

    Args:
        ops: The operator outputs, in any order.
        tensors: The indices of the tensors to start from.
    """
    written: dict[int, list[int]] = {}
    for op in ops:
        for index in op.reads:
            written.setdefault(index, []).append(op.tensor)
    found: set[int] = set()
    left = list(tensors)
    while left:
        new = set(written.get(left.pop(), ())) - found
        found |= new
        left += new
    return frozenset(found)
