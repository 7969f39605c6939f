"""Make every operator output of a subgraph an output of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg.graph.model import HANDLE_TYPES
from tfldbg.graph.query import numpy_type
from tfldbg.rewrite.flatbuffer import replace_outputs
from tfldbg.rewrite.repair import Repair, repair

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor
    from tfldbg.rewrite.pieces import Pieces


@dataclass(frozen=True, slots=True)
class Skipped:
    """An operator output that cannot be read, and why."""

    tensor: int
    reason: str


@dataclass(frozen=True, slots=True)
class Exposed:
    """A rewritten model."""

    content: Pieces
    """The file, which refers to the original's bytes."""
    subgraph: int
    taps: tuple[int, ...]
    """Indices of the operator outputs that can be read, in execution order."""
    skipped: tuple[Skipped, ...]
    repair: Repair | None = None
    """The changes without which the runtime would refuse the file."""

    @property
    def model_bytes(self) -> bytes:
        """The whole file in memory."""
        return bytes(self.content)


def expose(graph: Graph, subgraph: Subgraph, *, named: bool = False) -> Exposed:
    """Append every operator output of ``subgraph`` to its outputs.

    The weights, the order of the operators and the existing outputs do not change, so the runtime
    partitions and computes the same program.  A mistake for which the runtime would refuse the
    file is corrected.

    Args:
        graph: The file.
        subgraph: The subgraph to expose.
        named: True to list the new outputs in the subgraph's signatures as well; LiteRT's
            ``CompiledModel`` requires it.  A signature runner would copy each of them.

    Raises:
        RewriteError: The subgraph has no list of outputs.
    """
    taps: list[int] = []
    skipped: list[Skipped] = []
    for op in subgraph.operators:
        for index in op.outputs:
            if index < 0:
                continue
            tensor = subgraph.tensors[index]
            reason = unreadable(subgraph, op, tensor)
            if reason:
                skipped.append(Skipped(index, reason))
            else:
                taps.append(index)
    taps = list(dict.fromkeys(taps))
    known, repaired = set(subgraph.outputs), repair(graph)
    outputs = subgraph.outputs + tuple(t for t in taps if t not in known)
    return Exposed(
        content=replace_outputs(
            graph.data if repaired is None else repaired.data,
            subgraph.index,
            outputs,
            named=_named_outputs(graph, subgraph, outputs) if named else {},
        ),
        subgraph=subgraph.index,
        taps=tuple(taps),
        skipped=tuple(skipped),
        repair=repaired,
    )


def _named_outputs(
    graph: Graph, subgraph: Subgraph, outputs: Sequence[int]
) -> dict[int, dict[str, int]]:
    """Return the names of all outputs in each signature of a subgraph, by signature number."""
    named = {}
    for number, signature in enumerate(graph.signatures):
        if signature.subgraph != subgraph.index:
            continue
        names = dict(signature.outputs)
        for index in outputs:
            if index not in signature.outputs.values():
                name = subgraph.tensors[index].name
                names[name if name and name not in names else f"{name or 'tensor'}_{index}"] = index
        named[number] = names
    return named


def leave_out(exposed: Exposed, reasons: Mapping[int, str]) -> Exposed:
    """Stop reading some tensors, which remain outputs of the rewritten model.

    Args:
        exposed: The rewritten model.
        reasons: The reason for each tensor.
    """
    return replace(
        exposed,
        taps=tuple(i for i in exposed.taps if i not in reasons),
        skipped=(*exposed.skipped, *(Skipped(i, reason) for i, reason in reasons.items())),
    )


def unreadable(subgraph: Subgraph, op: Operator, tensor: Tensor) -> str | None:
    """Return why an operator's output cannot be read, or None if it can."""
    if tensor.type in HANDLE_TYPES:
        return f"{tensor.type} tensors are handles without values"
    if tensor.type == "STRING":
        return "STRING tensors hold no numbers"
    if numpy_type(tensor) is None:
        return f"the runtime's Python interface does not read {tensor.type} tensors"
    if 0 in tensor.shape:
        return f"the shape {list(tensor.shape)} has no elements"
    if tensor.index in subgraph.folded_constants:
        return f"{op.kind} of a constant: the runtime folds it and never writes this buffer"
    return None
