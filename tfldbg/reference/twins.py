"""Merge nodes that compute the same value, as the converter does.

Architectures apply one activation, padding or pool to a tensor for each branch that reads it.
TensorFlow Lite's converter merges these nodes, so that one tensor of the file has the value of all.
"""

from __future__ import annotations

from typing import Any

from tfldbg.reference.graphdef import node_of, topological_order

_LARGE = 1024
"""The size in bytes from which a constant counts as a weight and is not compared."""
_TOLD = ("name", "device", "experimental_debug_info")
"""The fields of a node that do not affect its value."""


def merge_twins(definition: Any) -> None:
    """Turn every node that computes the same as another into an Identity of that one, in place.

    It keeps its name, because a file may use it as the name of a tensor.

    Args:
        definition: A ``tensorflow.GraphDef`` without variables and without control inputs.
    """
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    nodes = {node.name: node for node in definition.node}
    read = {name: [node_of(i) for i in node.input] for name, node in nodes.items()}
    for name in topological_order(read):
        node = nodes[name]
        key = _key(node, same)
        if key is None:
            continue
        other = first.setdefault(key, name)
        if other == name:
            continue
        same[name] = other
        kind = _type(node)
        if kind is not None:
            node.op = "Identity"
            node.ClearField("attr")
            node.ClearField("input")
            node.input.append(other)
            node.attr["T"].type = kind


def _key(node: Any, same: dict[str, str]) -> bytes | None:
    """Return a key that is equal for nodes that compute the same, or None if this is unknown."""
    if not _is_pure(node.op) or (node.op == "Const" and node.ByteSize() > _LARGE):
        return None
    plain = type(node)()
    plain.CopyFrom(node)
    for field in _TOLD:
        plain.ClearField(field)
    for name in [n for n in plain.attr if n.startswith("_")]:
        del plain.attr[name]
    del plain.input[:]
    for tensor in node.input:
        source, _, port = tensor.partition(":")
        source = same.get(source, source)
        plain.input.append(f"{source}:{port}" if port not in ("", "0") else source)
    key: bytes = plain.SerializeToString(deterministic=True)
    return key


def _is_pure(operation: str) -> bool:
    """Return whether an operation computes one value that depends on its inputs only."""
    from tensorflow.python.framework import op_def_registry

    found = op_def_registry.get(operation)
    alone = found is not None and not found.is_stateful and operation != "Placeholder"
    return alone and len(found.output_arg) == 1 and not found.output_arg[0].number_attr


def _type(node: Any) -> int | None:
    """Return the type of a node's value, or None if it has no inputs or no type attribute."""
    from tensorflow.python.framework import op_def_registry

    told = op_def_registry.get(node.op).output_arg[0].type_attr
    known = node.input and node.op != "Identity" and told in node.attr
    return int(node.attr[told].type) if known else None
