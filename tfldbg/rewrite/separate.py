"""Give every value of a file a tensor of its own, where operators write over what others wrote.

Files for microcontrollers save memory: an operator's output is its own input, or the file plans
which tensors share memory.  Read after the run, such a tensor holds the last value alone, so that
nobody knows what the operators before were given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Subgraph


_PLAN = "OfflineMemoryAllocation"
"""Metadata that says where each tensor lies (TensorFlow Lite for Microcontrollers,
``GetOfflinePlannedOffsets``); the interpreter follows it even for outputs of the model."""


def separate(graph: Graph) -> bytes | None:
    """Return a copy of a file in which no value is written over, None where the file is such.

    An input of a subgraph and a constant count as written.  Each later value gets a new tensor
    behind the others, so that all other numbers stay as they are.
    """
    if _PLAN not in graph.metadata and not any(_overwrites(s) for s in graph.subgraphs):
        return None
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = schema.ModelT.InitFromPackedBuf(graph.data, 0)
    model.metadata = [m for m in model.metadata or [] if m.name != _PLAN.encode()]
    for number, subgraph in enumerate(graph.subgraphs):
        if not _overwrites(subgraph):
            continue
        last = _rename(schema, model.subgraphs[number], subgraph)
        for signature in model.signatureDefs or []:
            if signature.subgraphIndex == number:
                for entry in signature.outputs or []:
                    entry.tensorIndex = last.get(entry.tensorIndex, entry.tensorIndex)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _held(subgraph: Subgraph) -> set[int]:
    """Return the tensors that hold values before any operator has run."""
    return {*subgraph.inputs, *(t.index for t in subgraph.tensors if t.has_data)}


def _overwrites(subgraph: Subgraph) -> bool:
    written = [i for op in subgraph.operators for i in op.outputs if i >= 0]
    return len({*written}) < len(written) or not _held(subgraph).isdisjoint(written)


def _rename(schema: Any, made: Any, subgraph: Subgraph) -> dict[int, int]:
    """Rename the tensors of one subgraph in its object form; return the last of each number."""
    written = _held(subgraph)
    last: dict[int, int] = {}
    for operator, op in zip(made.operators, subgraph.operators, strict=True):
        operator.inputs = np.array([last.get(i, i) for i in op.inputs], np.int32)
        outputs = []
        for index in op.outputs:
            if index in written:
                last[index] = len(made.tensors)
                made.tensors.append(_copy(schema, made.tensors[index]))
            elif index >= 0:
                written.add(index)
            outputs.append(last.get(index, index))
        operator.outputs = np.array(outputs, np.int32)
    made.outputs = np.array([last.get(i, i) for i in subgraph.outputs], np.int32)
    return last


def _copy(schema: Any, tensor: Any) -> Any:
    """Return a tensor of the same name, shape, type and parameters without values."""
    copied = schema.TensorT()
    for name, value in vars(tensor).items():
        setattr(copied, name, value)
    copied.buffer, copied.sparsity = 0, None
    return copied
