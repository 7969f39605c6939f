"""A subgraph as the lint sees it: who writes and reads its tensors, and how a breach is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.graph.query import FOLDED_KINDS

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, QuantParams, Subgraph, Tensor

_CODES = frozenset({"INT4", "INT8", "UINT8", "INT16", "INT32"})
ACTIVATIONS = frozenset({"INT4", "INT8", "UINT8", "INT16"})

WEIGHTED = {
    "CONV_2D": (0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (0, 1, 2, 0),
    "TRANSPOSE_CONV": (2, 1, 3, 0),
}
"""Where input, weights and bias stand among the inputs; the dimension that the scales follow."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that the file breaks."""

    rule: str
    """Name of the rule, as in ``docs/rules.md``."""
    op: int
    """The operator to name, its index in the subgraph."""
    tensor: int
    """The tensor whose parameters or values are wrong."""
    channel: int | None
    """The worst channel, where single channels are wrong."""
    message: str
    """The end of a sentence that names the operator."""
    expected: tuple[float, int] | None = None
    """Scale and zero point that the rule demands, where it demands one."""
    suspect: int | None = None
    """The operator that may be wrong instead, where nothing tells."""
    ties: tuple[int, ...] = ()
    """The copying operators that make the rule apply."""


@dataclass(frozen=True, slots=True, eq=False)
class Wires:
    """A subgraph and who writes and reads its tensors."""

    subgraph: Subgraph
    writers: dict[int, Operator]
    readers: dict[int, tuple[Operator, ...]]
    zeros: frozenset[int]
    """Constants that are all zero: whatever their scale, they mean the same."""

    def tensor(self, op: Operator, number: int) -> Tensor | None:
        """Return an operator's input by its number, None where it is left out."""
        index = op.inputs[number] if number < len(op.inputs) else -1
        return self.subgraph.tensors[index] if index >= 0 else None

    def owner(self, tensor: Tensor) -> Operator | None:
        """Return whom to name for a tensor: its writer, else whoever uses the constant or input.

        An operator that only unpacks a constant is no culprit; whoever reads the result is.
        """
        found = self.writers.get(tensor.index)
        if found is None:
            found = next(iter(self.readers.get(tensor.index, ())), None)
        if found is not None and tensor.has_data and found.kind in FOLDED_KINDS and found.outputs:
            users = self.readers.get(found.outputs[0], ())
            return next(iter(users), found)
        return found

    def quantized(self) -> Iterator[tuple[Operator, Tensor, QuantParams]]:
        """Yield the integer tensors with scales that an operator uses, with whom to name."""
        for tensor in self.subgraph.tensors:
            owner = self.owner(tensor)
            if owner is not None and tensor.quant is not None and tensor.type in _CODES:
                yield owner, tensor, tensor.quant


def output_of(wires: Wires, op: Operator) -> Tensor | None:
    """Return what an operator writes first, None where it writes nothing."""
    return wires.subgraph.tensors[op.outputs[0]] if op.outputs and op.outputs[0] >= 0 else None


def parameters_of(tensor: Tensor) -> tuple[float, int] | None:
    """Return the scale and zero point of a tensor that has a single one of each."""
    scale, zero = tensor.lsb, tensor.zero_point
    return None if scale is None or zero is None else (scale, zero)


def in_words(params: tuple[float, int]) -> str:
    """Say a scale and a zero point."""
    return f"scale {params[0]:.7g}, zero point {params[1]}"


def role_of(wires: Wires, owner: Operator, tensor: Tensor) -> str:
    """Say what a tensor is to the operator that is named for it."""
    return "its output" if tensor.index in owner.outputs else f"its input tensor {tensor.index}"
