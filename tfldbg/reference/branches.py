"""Inline the branch of a conditional that shapes and constants choose, as the converter does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfldbg.reference.graphdef import SHAPE_OPS, node_of

_CONDITIONALS = frozenset({"If", "StatelessIf"})


def take_branches(definition: Any, inputs: Mapping[str, Sequence[int | None]]) -> None:
    """Replace the conditionals whose condition does not depend on input values.

    Layers for training, such as a random crop, have one: the branch for inference is known when
    the model is frozen.

    Args:
        definition: A ``tensorflow.GraphDef`` without variables, updated in place.
        inputs: The shape of each placeholder, with None for dynamic dimensions.
    """
    for node in [n for n in definition.node if n.op in _CONDITIONALS]:
        condition = node_of(node.input[0])
        if not _follows_from_shapes(definition, condition):
            continue
        chosen = "then_branch" if _value(definition, condition, inputs) else "else_branch"
        _inline(definition, node, node.attr[chosen].func.name)


def _follows_from_shapes(definition: Any, name: str) -> bool:
    """Return whether a node is computed from constants and shapes alone."""
    nodes = {n.name: n for n in definition.node}
    stack, seen = [name], set[str]()
    while stack:
        node = nodes[stack.pop()]
        if node.name in seen or node.op in SHAPE_OPS:
            continue
        seen.add(node.name)
        if node.op in _CONDITIONALS or node.op.startswith("Placeholder"):
            return False
        stack += [node_of(i.removeprefix("^")) for i in node.input]
    return True


def _value(definition: Any, name: str, inputs: Mapping[str, Sequence[int | None]]) -> bool:
    """Return the value of a node for one sample."""
    import tensorflow as tf

    part = tf.compat.v1.graph_util.extract_sub_graph(definition, [name])
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.import_graph_def(part, name="")
        held = {n.name for n in part.node}
        feeds = {}
        for given in inputs.keys() & held:
            tensor = graph.get_tensor_by_name(f"{given}:0")
            shape = [size or 1 for size in inputs[given]]
            feeds[tensor] = np.zeros(shape, tensor.dtype.as_numpy_dtype)
        return bool(session.run(f"{name}:0", feeds))


def _inline(definition: Any, node: Any, function: str) -> None:
    """Replace a node that calls a function by the nodes of the function."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    called = next(f for f in definition.library.function if f.signature.name == function)
    body, flat = function_def_to_graph_def(called)
    arguments = [a.name for a in called.signature.input_arg]
    given = dict(zip(arguments, node.input[1:], strict=True))

    def renamed(tensor: str) -> str:
        control, plain = ("^", tensor[1:]) if tensor.startswith("^") else ("", tensor)
        name, _, port = plain.partition(":")
        if name in given:
            return f"{control}{given[name]}"
        return f"{control}{node.name}/{name}" + (f":{port}" if port else "")

    for inner in body.node:
        if inner.name in given:
            continue
        inputs = [renamed(i) for i in inner.input]
        added = definition.node.add()
        added.CopyFrom(inner)
        added.name = f"{node.name}/{inner.name}"
        del added.input[:]
        added.input.extend(inputs)
    results = [renamed(flat[called.ret[a.name]]) for a in called.signature.output_arg]
    _read_instead(definition, node, results)


def _read_instead(definition: Any, node: Any, results: Sequence[str]) -> None:
    """Redirect the consumers of a node's outputs to other tensors; the node becomes an Identity."""
    for consumer in definition.node:
        for number, tensor in enumerate(consumer.input):
            name, _, port = tensor.partition(":")
            if name == node.name and port:
                consumer.input[number] = results[int(port)]
    kind = node.attr["Tout"].list.type[0]
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = kind
    del node.input[:]
    node.input.append(results[0])
