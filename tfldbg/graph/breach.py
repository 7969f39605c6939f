"""Rules that a file breaks, and what is said about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.graph.model import FOLDED_KINDS

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, QuantParams, Subgraph, Tensor

_CODES = frozenset({"INT4", "INT8", "UINT8", "INT16", "INT32"})
ACTIVATIONS = frozenset({"INT4", "INT8", "UINT8", "INT16"})


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that the file breaks."""

    rule: str
    """The name of the rule, as in ``docs/rules.md``."""
    op: int
    """The operator to report, by its index in the subgraph."""
    tensor: int
    """The tensor whose parameters or values are wrong."""
    channel: int | None
    """The worst channel, if single channels are wrong."""
    message: str
    """The end of a sentence that starts with the operator's name."""
    expected: tuple[float, int] | None = None
    """The scale and zero point that the rule requires, if any."""
    suspect: int | None = None
    """The operator that may be wrong instead, if this is undecided."""
    ties: tuple[int, ...] = ()
    """The copying operators that make the rule apply."""


def input_of(subgraph: Subgraph, op: Operator, number: int) -> Tensor | None:
    """Return an operator's input by its number, or None if it is left out."""
    index = op.inputs[number] if number < len(op.inputs) else -1
    return subgraph.tensors[index] if index >= 0 else None


def output_of(subgraph: Subgraph, op: Operator) -> Tensor | None:
    """Return the first output of an operator, or None if it has none."""
    return subgraph.tensors[op.outputs[0]] if op.outputs and op.outputs[0] >= 0 else None


def owner_of(subgraph: Subgraph, tensor: Tensor) -> Operator | None:
    """Return the operator to report for a tensor: its producer, or else its first consumer.

    For a constant whose consumer only unpacks it, this is the consumer of the unpacked constant.
    """
    found = subgraph.producers.get(tensor.index)
    if found is None:
        found = next(iter(subgraph.consumers.get(tensor.index, ())), None)
    if found is not None and tensor.has_data and found.kind in FOLDED_KINDS and found.outputs:
        users = subgraph.consumers.get(found.outputs[0], ())
        return next(iter(users), found)
    return found


def quantized(subgraph: Subgraph) -> Iterator[tuple[Operator, Tensor, QuantParams]]:
    """Yield the integer tensors with scales that an operator uses, with the one to report."""
    for tensor in subgraph.tensors:
        owner = owner_of(subgraph, tensor)
        if owner is not None and tensor.quant is not None and tensor.type in _CODES:
            yield owner, tensor, tensor.quant


def parameters_of(tensor: Tensor) -> tuple[float, int] | None:
    """Return the scale and zero point of a tensor, or None if it does not have one of each."""
    affine = tensor.affine
    return None if affine is None else (affine.scale, affine.zero_point)


def in_words(params: tuple[float, int]) -> str:
    """Return a scale and a zero point in words."""
    return f"scale {params[0]:.7g}, zero point {params[1]}"


def role_of(owner: Operator, tensor: Tensor) -> str:
    """Return the role of a tensor for the operator that is reported for it."""
    return "its output" if tensor.index in owner.outputs else f"its input tensor {tensor.index}"
