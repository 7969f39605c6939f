"""Nodes of a graph that compute the very same value, which a converter keeps only one of.

Architectures apply one activation, padding or pool to a tensor for each branch that reads it.
TensorFlow Lite's converter merges them, so that what a file holds is the value of all of them.
"""

from __future__ import annotations

from typing import Any

from tfldbg.reference.graphdef import in_order, node_of

_LARGE = 1024
"""Bytes of a constant from which it counts as a weight, which is compared with no other."""
_TOLD = ("name", "device", "experimental_debug_info")
"""What a node says of itself besides what it computes."""


def merge_twins(definition: Any) -> None:
    """Let every node that computes the same as another hand on the value of that one, in place.

    It keeps its name: a file may call the tensor by it.

    Args:
        definition: A ``tensorflow.GraphDef`` without variables and without control inputs.
    """
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    nodes = {node.name: node for node in definition.node}
    read = {name: [node_of(i) for i in node.input] for name, node in nodes.items()}
    for name in in_order(read):
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
    """Return what two nodes have in common that compute the same; None where that is not known."""
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
    """Whether an operation computes one value of its inputs and of nothing else."""
    from tensorflow.python.framework import op_def_registry

    found = op_def_registry.get(operation)
    alone = found is not None and not found.is_stateful and operation != "Placeholder"
    return alone and len(found.output_arg) == 1 and not found.output_arg[0].number_attr


def _type(node: Any) -> int | None:
    """Return the type of what a node computes; None where it computes nothing or has one type."""
    from tensorflow.python.framework import op_def_registry

    told = op_def_registry.get(node.op).output_arg[0].type_attr
    known = node.input and node.op != "Identity" and told in node.attr
    return int(node.attr[told].type) if known else None
