"""Limits on what a .tflite file may claim, checked when it is read and before a runtime gets it.

Reading refuses references to objects that do not exist, so that every file that is read can be
shown.  Running refuses what would crash the runtime or never end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tfldbg.errors import ModelError
from tfldbg.graph.model import FOLDED_KINDS, UNKNOWN, Graph, Operator, Subgraph, Tensor
from tfldbg.graph.query import (
    SAME_SCALE_KINDS,
    WEIGHTED,
    called_subgraphs,
    numpy_type,
)

_DAMAGED = "convert or download the file again"
_COUNTED, _ADDRESSES = 2**64, 2**47
"""The runtime counts in a 64-bit ``size_t``, in which a negative size is huge; a process can
address 2**47 bytes (x86-64 and AArch64, without extensions)."""
_ONE_TO_ONE = SAME_SCALE_KINDS | FOLDED_KINDS | {"CAST", "LOGISTIC", "QUANTIZE", "RELU", "TANH"}
_NEEDED: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(_ONE_TO_ONE, (1, 1)),
    **dict.fromkeys(WEIGHTED, (2, 1)),
    "EMBEDDING_LOOKUP": (2, 1),
    "GATHER": (2, 1),
    "TRANSPOSE_CONV": (3, 1),
}
"""The number of first inputs and outputs that are always present, by operator kind, where the rest
of tfldbg relies on them."""


def check_indices(graph: Graph, name: str) -> None:
    """Check that every index refers to an object that exists, before anything relies on it.

    Args:
        graph: The file.
        name: The name of the file in messages.

    Raises:
        ModelError: An operator, a subgraph, or a tensor refers to an object that does not exist.
    """
    for subgraph in graph.subgraphs:
        count, here = len(subgraph.tensors), f"subgraph {subgraph.index}"
        _refuse_outside(name, "the subgraph", subgraph.inputs + subgraph.outputs, count, here)
        for op in subgraph.operators:
            owner = f"operator {op.index} {op.kind}"
            _refuse_outside(name, owner, op.inputs + op.outputs, count, here)
        for tensor in subgraph.tensors:
            _check_tensor(graph, subgraph, tensor, name)


def _refuse_outside(
    name: str, owner: str, indices: tuple[int, ...], count: int, where: str
) -> None:
    wrong = next((i for i in indices if not -1 <= i < count), None)
    if wrong is not None:
        raise ModelError(
            f"'{name}' is damaged: {owner} names tensor {wrong}, but {where} has {count} tensors",
            hint=_DAMAGED,
        )


def _check_tensor(graph: Graph, subgraph: Subgraph, tensor: Tensor, name: str) -> None:
    where, count = f"subgraph {subgraph.index}", len(subgraph.tensors)
    if tensor.buffer >= max(len(graph.buffers), 1):
        raise ModelError(
            f"'{name}' is damaged: tensor {tensor.index} of {where} names buffer {tensor.buffer}, "
            f"but the file has {len(graph.buffers)} buffers",
            hint=_DAMAGED,
        )
    scales = tensor.quant.scale_tensor if tensor.quant is not None else None
    if scales is not None and not 0 <= scales < count:
        raise ModelError(
            f"'{name}' is damaged: tensor {tensor.index} has its scales in tensor {scales}, but "
            f"{where} has {count} tensors",
            hint=_DAMAGED,
        )
    blocks = subgraph.tensors[scales].quant if scales is not None else None
    if blocks is not None and blocks.scale_tensor is not None:
        raise ModelError(
            f"'{name}' is damaged: tensor {scales} of {where} holds scales, and has its own in "
            f"tensor {blocks.scale_tensor}",
            hint=_DAMAGED,
        )


def check_operands(subgraph: Subgraph, name: str) -> None:
    """Check that operators have the inputs and outputs that all their kernels require.

    Args:
        subgraph: The subgraph.
        name: The name of the file in messages.

    Raises:
        ModelError: An operator lacks an operand, or an input of the subgraph is left out.
    """
    for op in subgraph.operators:
        lack = missing_operand(op)
        if lack is not None:
            raise ModelError(
                f"'{name}' is damaged: operator {op.index} {op.kind} of subgraph {subgraph.index} "
                f"{lack}",
                hint="tfldbg inspect shows the file; " + _DAMAGED,
            )
    if -1 in subgraph.inputs:
        raise ModelError(
            f"'{name}' is damaged: input {subgraph.inputs.index(-1)} of subgraph {subgraph.index} "
            "is not a tensor",
            hint="tfldbg inspect shows the file; " + _DAMAGED,
        )


def missing_operand(op: Operator) -> str | None:
    """Return what an operator lacks, or None if it has all operands that its kernels require."""
    given, written = _NEEDED.get(op.kind, (0, 0))
    for number in range(given):
        if number >= len(op.inputs) or op.inputs[number] < 0:
            return f"has no input {number}, which its kernels require"
    if written and (not op.outputs or op.outputs[0] < 0):
        return "has no output, which its kernels require"
    return None


def check_runnable(graph: Graph, subgraph: Subgraph, name: str) -> None:
    """Check that a file holds nothing that no runtime can run.

    Args:
        graph: The file.
        subgraph: The subgraph to run.
        name: The name of the file in messages.

    Raises:
        ModelError: The type of a tensor is unknown, a tensor is larger than a process can address,
            or subgraphs run each other without end.
    """
    for other in graph.subgraphs:
        for tensor in other.tensors:
            _check_claim(other, tensor, name)
    _refuse_endless(graph, subgraph, name)


def _check_claim(subgraph: Subgraph, tensor: Tensor, name: str) -> None:
    where = f"tensor {tensor.index} of subgraph {subgraph.index}, '{tensor.name[:80]}',"
    if tensor.type.startswith(UNKNOWN):
        raise ModelError(
            f"'{name}' cannot run: {where} is of type {tensor.type.removeprefix(UNKNOWN)}, which "
            "is not in the TFLite schema",
            hint="a newer ai-edge-litert may know it, or the file is damaged: tfldbg inspect "
            "shows it",
        )
    dtype = numpy_type(tensor)
    if dtype is None:
        return
    claimed = 1
    for size in tensor.shape:
        # A negative size as the runtime sees it; 0 counts as 1, since NumPy limits the other sizes.
        claimed *= size % _COUNTED or 1
    if claimed * dtype.itemsize >= _ADDRESSES:
        raise ModelError(
            f"'{name}' cannot run: {where} has shape {list(tensor.shape)}, more bytes than a "
            "process can address",
            hint="tfldbg inspect shows the file; " + _DAMAGED,
        )


def _refuse_endless(graph: Graph, subgraph: Subgraph, name: str) -> None:
    """Check that a subgraph does not run itself, directly or through other subgraphs."""
    path, finished = [subgraph.index], set()
    waiting = [_calls(graph, subgraph)]
    while waiting:
        op, number = next(waiting[-1], (None, -1))
        if op is None:
            waiting.pop()
            finished.add(path.pop())
        elif number in path:
            shown = " -> ".join(str(n) for n in (*path[path.index(number) :], number))
            raise ModelError(
                f"'{name}' cannot run: operator {op.index} {op.kind} of subgraph {path[-1]} runs "
                f"subgraph {number}, which runs it again without end: {shown}",
                hint="tfldbg inspect shows the file; " + _DAMAGED,
            )
        elif number not in finished:
            path.append(number)
            waiting.append(_calls(graph, graph.subgraphs[number]))


def _calls(graph: Graph, subgraph: Subgraph) -> Iterator[tuple[Operator, int]]:
    for op in subgraph.operators:
        for number in called_subgraphs(op):
            if 0 <= number < len(graph.subgraphs):  # else the kernel refuses it
                yield op, number
