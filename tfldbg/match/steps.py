"""Plans that compute operators of the reference file from values of the traced file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.rewrite.twin import ALIASES, Computation, untwinned

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A plan for the local errors of a whole file."""

    steps: tuple[Computation, ...]
    aliases: Mapping[int, int]
    """The input of each operator that only changes how a value is stored, by output."""
    reasons: Mapping[int, str]
    """The reason why a tensor of the traced file has no local error, by tensor."""
    refused: Mapping[int, str]
    """The reason why an operator of the reference file has no float copy, by operator."""


def aliases(subgraph: Subgraph, known: frozenset[int]) -> dict[int, int]:
    """Return the outputs with the same value as another tensor, both of them readable."""
    folded = subgraph.folded_constants
    return {
        op.outputs[0]: op.inputs[0]
        for op in subgraph.operators
        if op.kind in ALIASES and op.outputs[0] not in folded
        if {op.outputs[0], op.inputs[0]} <= known
    }


def given(subgraph: Subgraph, op: Operator) -> tuple[Tensor, ...]:
    """Return the tensors that an operator reads at run time, shapes included."""
    folded = subgraph.folded_constants
    tensors = (subgraph.tensors[i] for i in dict.fromkeys(op.inputs) if i >= 0)
    return tuple(
        t for t in tensors if not t.has_data and not t.is_variable and t.index not in folded
    )


def own_steps(
    subgraph: Subgraph,
    readable: frozenset[int],
    *,
    states: Sequence[int] = (),
    stored: bool = False,
) -> Steps:
    """Plan the computation of every operator of a file from its own inputs.

    Args:
        subgraph: The file's subgraph.
        readable: The tensors whose values are known.
        states: The variables whose values before each step are known; others are reset before it.
        stored: True to compute the values as they are stored, so that QUANTIZE and DEQUANTIZE are
            ordinary operators.
    """
    same = {} if stored else aliases(subgraph, readable)
    others = subgraph.non_activations
    steps: list[Computation] = []
    reasons: dict[int, str] = {}
    refused: dict[int, str] = {}
    unread = subgraph.live - readable
    for op in subgraph.operators:
        outputs = [i for i in op.outputs if i in readable and i not in others and i not in same]
        reason = untwinned(subgraph, op)
        if reason is not None:
            refused[op.index] = reason
        reason = reason or _blind(subgraph, op, unread)
        if reason is not None:
            reasons.update((i, reason) for i in op.outputs if i not in same)
        elif outputs:
            feeds = {t.index: t for t in given(subgraph, op)}
            feeds |= {i: subgraph.tensors[i] for i in op.inputs if i in states}
            steps.append(Computation(op, feeds, {i: i for i in outputs}))
    return Steps(tuple(steps), same, reasons, refused)


def _blind(subgraph: Subgraph, op: Operator, unread: frozenset[int]) -> str | None:
    for tensor in given(subgraph, op):
        if tensor.index in unread:
            return f"its input tensor {tensor.index} cannot be read"
    return None
