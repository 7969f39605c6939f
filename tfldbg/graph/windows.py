"""The windows that convolutions and pools move over rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tfldbg.graph.query import WEIGHTED

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph

Padding = Literal["SAME", "VALID"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window that moves along one axis."""

    extent: int
    """The number of values along the axis."""
    size: int
    """The number of values that the window reads."""
    stride: int
    dilation: int

    @property
    def reach(self) -> int:
        """The distance from the first value to the last, both included."""
        return (self.size - 1) * self.dilation + 1

    def count(self, padding: Padding) -> int:
        """Return the number of positions (TensorFlow, ``tf.nn.convolution``), 0 if none."""
        covered = self.extent if padding == "SAME" else self.extent - self.reach + 1
        return max(-(-covered // self.stride), 0)


def windows(subgraph: Subgraph, op: Operator) -> tuple[Window, ...]:
    """Return the windows of an operator over rows and columns; empty if it has none.

    TRANSPOSE_CONV has none, because the shape of its output is an input.

    Args:
        subgraph: The subgraph of the operator.
        op: The operator.
    """
    if op.kind == "TRANSPOSE_CONV" or "padding" not in op.options:
        return ()
    given = subgraph.tensors[op.inputs[WEIGHTED[op.kind][0] if op.kind in WEIGHTED else 0]].shape
    sizes: tuple[int, ...] = (op.options.get("filterHeight", 0), op.options.get("filterWidth", 0))
    if op.kind in WEIGHTED:
        sizes = subgraph.tensors[op.inputs[1]].shape[1:3]
    if len(given) != 4 or len(sizes) != 2 or 0 in sizes:
        return ()
    return tuple(
        Window(
            given[1 + axis],
            sizes[axis],
            int(op.options.get(f"stride{letter}", 1)),
            int(op.options.get(f"dilation{letter}Factor", 1)),
        )
        for axis, letter in enumerate("HW")
    )


def padded_otherwise(subgraph: Subgraph, op: Operator) -> tuple[int, ...] | None:
    """Return the shape of an operator's output with the other padding; None without a window.

    Args:
        subgraph: The subgraph of the operator.
        op: The operator.
    """
    moved = windows(subgraph, op)
    if not moved:
        return None
    other: Padding = "VALID" if op.options["padding"] == "SAME" else "SAME"
    shape = subgraph.tensors[op.outputs[0]].shape
    return (shape[0], *(window.count(other) for window in moved), shape[-1])
