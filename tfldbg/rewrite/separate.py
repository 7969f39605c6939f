"""Give every value of a file its own tensor, where operators overwrite values of others.

Files for microcontrollers save memory: an operator's output is its own input, or the file plans
which tensors share memory.  After the run, such a tensor holds the last value only, so that the
inputs of the operators before are unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Subgraph


_PLAN = "OfflineMemoryAllocation"
"""The metadata with the address of each tensor (TensorFlow Lite for Microcontrollers,
``GetOfflinePlannedOffsets``); the interpreter follows it even for outputs of the model."""


def separate(graph: Graph) -> bytes | None:
    """Return a copy of a file that overwrites no value, or None if the file itself does not.

    Inputs of a subgraph and constants count as written.  Each later value gets a new tensor after
    the existing ones, so that all other indices stay the same.
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
    """Renumber the tensors of a subgraph in object form; return the last tensor of each index."""
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
    """Return a tensor with the same name, shape, type and parameters and without values."""
    copied = schema.TensorT()
    for name, value in vars(tensor).items():
        setattr(copied, name, value)
    copied.buffer, copied.sparsity = 0, None
    return copied
