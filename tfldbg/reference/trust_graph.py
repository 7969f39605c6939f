"""The operators that the graph of a SavedModel may hold: those that compute, and no others.

A SavedModel is a program.  Its graph can read and write files, call Python and talk to other
machines, and parts of it run while it is loaded.  Operators that TensorFlow declares stateful are
therefore refused unless they are listed here, and so are the few others that access files.
Operators that save and restore variables are TensorFlow's own and are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfldbg.guard import RefusedError, check_size, leaves_folder

_STATEFUL = re.compile(
    r"_?(Arg|Retval|DeviceArg|DeviceRetval)|Assert|Assign(Add|Sub)?(VariableOp)?|"
    r"(Anonymous)?(Mutable(Dense)?)?HashTable(OfTensors)?(V2)?|InitializeTable(V2)?|"
    r"LookupTable\w+|CheckNumerics(V2)?|CudnnRNN\w*|DestroyResourceOp|DeviceIndex|"
    r"DisableCopyOnRead|Empty|GuaranteeConst|_?(If|While|Case)|IsResourceHandleRefCounting|"
    r"Multinomial|NonDeterministicInts|(Parameterized)?TruncatedNormal|Print|Random\w+|"
    r"ReadVariableOp|Resource\w+|Rng\w+|SampleDistortedBoundingBox(V2)?|Stack\w*|Stateful\w+|"
    r"StatelessRandomGetAlg|StatelessRandomGetKeyCounter|TemporaryVariable|TensorArray\w*|"
    r"Timestamp|VarHandleOp|VarIsInitializedOp|Variable(V2|Shape)?"
)
"""The operators with a state that stays inside the process."""
_REACHING = re.compile(
    r"Debug\w+|\w*Dataset\w*|\w*File\w*|\w*Proto\w*|\w*PyFunc\w*|\w*Vocab\w*|ImmutableConst|"
    r"XlaCustomCall\w*|MlirPassthroughOp|\w*RemoteFused\w*|Reader\w+"
)
"""The operators without a state that still reach files or code."""
_HARMLESS = frozenset({"ShardedFilename"})
_SAVING = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "Save", "Restore", "SaveSlices"})
_MOST = 5


def check_saved_model(path: Path) -> None:
    """Check that the graph of a SavedModel only computes.

    Args:
        path: The folder.

    Raises:
        RefusedError: The graph holds another operator, or names a file outside the folder.
        OSError: It is not a SavedModel.
    """
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    check_size("its files", sum(f.stat().st_size for f in path.rglob("*") if f.is_file()))
    for meta in parse_saved_model(str(path)).meta_graphs:
        for asset in meta.asset_file_def:
            if leaves_folder(asset.filename):
                raise RefusedError(f"its asset {asset.filename!r} lies outside the folder")
        found = list(dict.fromkeys(_offending(meta)))
        if found:
            said = ", ".join(found[:_MOST]) + (", ..." if len(found) > _MOST else "")
            raise RefusedError(f"its graph does more than compute: {said}")


def _offending(meta: Any) -> Iterator[str]:
    """Yield ``operator 'node'`` for every node that is not allowed."""
    graph = _GraphDefinition(meta.graph_def)
    runs = graph.reached(_entry_points(meta), set(meta.object_graph_def.concrete_functions))
    saver = graph.reached(_saver(meta), set()) - runs
    for place, node in graph.nodes():
        if not _computes(node) and not (place in saver and node.op in _SAVING):
            yield f"{node.op} '{node.name}'"


def _computes(node: Any) -> bool:
    from tensorflow.python.framework import op_def_registry

    if node.op == "PrintV2":
        return not node.attr["output_stream"].s.startswith(b"file")
    definition = op_def_registry.get(node.op)
    if definition is not None and definition.is_stateful:
        return _STATEFUL.fullmatch(node.op) is not None
    return node.op in _HARMLESS or _REACHING.fullmatch(node.op) is None


def _entry_points(meta: Any) -> set[str]:
    """Return the nodes that loading or running the model requests."""
    names = set()
    for key, signature in meta.signature_def.items():
        del key
        infos = [*signature.inputs.values(), *signature.outputs.values()]
        for info in infos:
            encoding = info.WhichOneof("encoding")
            if encoding == "name":
                names.add(info.name)
            elif encoding == "composite_tensor":
                names.update(part.name for part in info.composite_tensor.components)
            elif encoding == "coo_sparse":
                sparse = info.coo_sparse
                names |= {
                    sparse.values_tensor_name,
                    sparse.indices_tensor_name,
                    sparse.dense_shape_tensor_name,
                }
    for key, collection in meta.collection_def.items():
        if "init_op" in key or "main_op" in key:
            names.update(collection.node_list.value)
    return names


def _saver(meta: Any) -> set[str]:
    saver = meta.saver_def
    return {saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name}


class _GraphDefinition:
    """A graph and its functions, and the nodes that each node needs."""

    def __init__(self, definition: Any) -> None:
        self._functions = {f.signature.name: f for f in definition.library.function}
        self._main = {node.name: node for node in definition.node}
        self._all = list(definition.node)

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """Yield every node with its place as used by `reached`."""
        for node in self._all:
            yield f"/{node.name}", node
        for name, function in self._functions.items():
            for node in function.node_def:
                yield name, node

    def reached(self, tensors: Iterable[str], functions: set[str]) -> set[str]:
        """Return the nodes (``/name``) and functions (``name``) that a run needs."""
        places: set[str] = set()
        stack = [f"/{_node_of(name)}" for name in tensors if name] + list(functions)
        while stack:
            place = stack.pop()
            if place in places:
                continue
            places.add(place)
            stack += self._needs(place)
        return places

    def _needs(self, place: str) -> Iterator[str]:
        if place.startswith("/"):
            node = self._main.get(place[1:])
            if node is not None:
                yield from (f"/{_node_of(name)}" for name in node.input)
                yield from _called(node)
            return
        function = self._functions.get(place)
        for node in function.node_def if function is not None else ():
            yield node.op
            yield from _called(node)


def _called(node: Any) -> Iterator[str]:
    """Yield the functions that a node refers to."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]
