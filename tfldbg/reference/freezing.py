"""Turn a traced function into a graph without variables whose every node can be fetched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfldbg.reference.branches import take_branches
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.graphdef import Outline, node_of, ref_graph
from tfldbg.reference.protos import GraphDef
from tfldbg.reference.twins import merge_twins

_LARGE = 1024
"""The largest constant that a shape may depend on, bytes."""
_FLOAT = 1
"""TensorFlow's ``DT_FLOAT``."""


def user_inputs(concrete: Any) -> list[Any]:
    """Return the inputs that a caller passes, without variables and captured constants."""
    captured = {tensor.ref() for _, tensor in concrete.graph.captures}
    return [t for t in concrete.inputs if t.ref() not in captured and t.dtype.name != "resource"]


_ALONG_AN_AXIS = frozenset({"ConcatV2", "Cumprod", "Cumsum", "ReverseV2", "Roll"})
"""The operations whose last input is the axis or axes that they work along."""


def freeze(
    concrete: Any, names: Sequence[str], outputs: Sequence[str], batch: int | None, framework: str
) -> Frozen:
    """Freeze a function.

    Args:
        concrete: A traced function of TensorFlow.
        names: The names of the model's inputs.
        outputs: The names of the model's outputs.
        batch: The only batch size that it accepts, or None if it accepts any.
        framework: The framework that loaded it, with its version.
    """
    placeholders = user_inputs(concrete)
    ends = tuple(t.name.removesuffix(":0") for t in concrete.outputs)
    inputs = tuple(node_of(t.name) for t in placeholders)
    shapes = tuple(tuple(t.shape.as_list()) for t in placeholders)
    definition = _with_constants(concrete)
    take_branches(definition, dict(zip(inputs, shapes, strict=True)))
    definition = _values_alone(definition, [*inputs, *map(node_of, ends)])
    merge_twins(definition)
    sketch = _sketch(definition)
    graph = ref_graph(definition, inputs, ends, _outlines(sketch), whole=batch == 1)
    if batch is None:
        taken = dict(zip(inputs, shapes, strict=True))
        one = _outlines(_reshaped(sketch, taken, 1))
        mixed = graph.makes_blocks or _moves_samples(definition, graph.activations)
        ranges = graph.ranges
        if not mixed and (ranges or not graph.is_plain):
            two = _outlines(_reshaped(sketch, taken, 2))
            numbered = any(one[name] != two[name] for name in ranges)
            mixed = numbered or not _keeps_samples(graph.activations, one, two)
        if mixed:
            # Samples cannot be separated within a batch.
            batch, shapes = 1, tuple((1, *shape[1:]) for shape in shapes)
            definition, outlines = _reshaped(definition, taken, 1), one
        else:
            outlines = {n: _of_any_batch(o, n in graph.activations) for n, o in one.items()}
        graph = ref_graph(definition, inputs, ends, outlines, whole=batch == 1)
    return Frozen(
        graph_def=GraphDef.FromString(definition.SerializeToString()),
        graph=graph,
        input_names=tuple(names),
        input_shapes=shapes,
        input_dtypes=tuple(t.dtype.name for t in placeholders),
        output_names=tuple(outputs) if len(outputs) == len(ends) else graph.outputs,
        batch=batch,
        framework=framework,
    )


def _with_constants(concrete: Any) -> Any:
    """Return a function's graph with constants in place of variables.

    TensorFlow's public API turns the result into a function again, which fails if the function
    assigned to a variable.
    """
    from tensorflow.python.framework import convert_to_constants

    # Each loop stays one node; lowered, it is a cycle of a dozen kinds of nodes.
    data = convert_to_constants._FunctionConverterDataInEager(
        func=concrete, lower_control_flow=False, aggressive_inlining=False
    )
    definition, _ = convert_to_constants._replace_variables_by_constants(converter_data=data)
    return definition


def _values_alone(definition: Any, kept: Sequence[str]) -> Any:
    """Return the part of a graph that computes values, without nodes that only have effects.

    A layer that keeps a state assigns to it, which a frozen graph cannot do; the value that it read
    before is a constant.  ``IdentityN``, which functions with a custom gradient leave, passes on
    several values at once: its consumers are redirected to these values.

    Args:
        definition: A ``tensorflow.GraphDef`` without variables.
        kept: The nodes to keep, with everything that they depend on.
    """
    import tensorflow as tf

    several = {n.name: list(n.input) for n in definition.node if n.op == "IdentityN"}

    def source(tensor: str) -> str:
        name, _, port = tensor.partition(":")
        return source(several[name][int(port or 0)]) if name in several else tensor

    for node in definition.node:
        inputs = [source(i) for i in node.input if not i.startswith("^")]
        if node.op == "IdentityN":
            node.op, inputs = "Identity", inputs[:1]
            node.attr["T"].type = node.attr["T"].list.type[0]
        del node.input[:]
        node.input.extend(inputs)
    return tf.compat.v1.graph_util.extract_sub_graph(definition, list(dict.fromkeys(kept)))


def _sketch(definition: Any) -> Any:
    """Return a graph with the same shapes in which large weights are zero.

    The outlines that TensorFlow derives without computing do not depend on weights, and copies of
    them would take memory.
    """
    import tensorflow as tf

    light = tf.compat.v1.GraphDef()
    light.library.CopyFrom(definition.library)
    light.versions.CopyFrom(definition.versions)
    for node in definition.node:
        given = node.attr["value"].tensor if node.op == "Const" else None
        if given is None or len(given.tensor_content) < _LARGE or given.dtype != _FLOAT:
            light.node.append(node)
            continue
        drawn = light.node.add(name=node.name, op="Const")
        drawn.attr["dtype"].type = given.dtype
        drawn.attr["value"].tensor.dtype = given.dtype
        drawn.attr["value"].tensor.tensor_shape.CopyFrom(given.tensor_shape)
        drawn.attr["value"].tensor.float_val.append(0.0)
    return light


def _reshaped(definition: Any, shapes: Mapping[str, tuple[int | None, ...]], batch: int) -> Any:
    """Return a graph with another batch size."""
    import tensorflow as tf

    changed = tf.compat.v1.GraphDef()
    changed.CopyFrom(definition)
    for node in changed.node:
        node.attr.pop("_output_shapes", None)
        if node.name in shapes:
            shape = tf.TensorShape((batch, *shapes[node.name][1:]))
            node.attr["shape"].shape.CopyFrom(shape.as_proto())
    return changed


def _moves_samples(definition: Any, activations: frozenset[str]) -> bool:
    """Return whether an operation works along the batch axis, which shapes do not show."""
    from tensorflow.python.framework import tensor_util

    constants = {n.name: n for n in definition.node if n.op == "Const"}
    for node in definition.node:
        along = node.op in _ALONG_AN_AXIS and node.name in activations
        axes = constants.get(node_of(node.input[-1])) if along else None
        if axes is not None and 0 in np.ravel(tensor_util.MakeNdarray(axes.attr["value"].tensor)):
            return True
    return False


def _keeps_samples(
    activations: frozenset[str],
    one: Mapping[str, tuple[Outline, ...]],
    two: Mapping[str, tuple[Outline, ...]],
) -> bool:
    """Return whether the first axis of every value is the batch and doubles with it.

    Args:
        activations: The nodes that hold values.
        one: The outlines of all nodes for one sample.
        two: The outlines of all nodes for two samples.
    """
    pairs = (pair for n in activations & one.keys() for pair in zip(one[n], two[n], strict=True))
    return all(_grows_first(a.shape, b.shape) for a, b in pairs if a.shape is not None)


def _of_any_batch(one: tuple[Outline, ...], activation: bool) -> tuple[Outline, ...]:
    """Return a node's outlines for any batch size, derived from those of one sample."""
    if not activation:
        return one
    return tuple(
        Outline(o.shape and (None, *o.shape[1:]), o.dtype, counted=_count(o.shape)) for o in one
    )


def _count(shape: tuple[int | None, ...] | None) -> int | None:
    return None if shape is None or None in shape else math.prod(d or 0 for d in shape)


def _grows_first(one: tuple[int | None, ...], two: tuple[int | None, ...] | None) -> bool:
    if not one or two is None or len(one) != len(two):
        return False
    first = None in (one[0], two[0]) or 2 * (one[0] or 0) == two[0]
    return first and one[1:] == two[1:]


def _outlines(definition: Any) -> dict[str, tuple[Outline, ...]]:
    """Return the outlines that TensorFlow derives for the nodes of a graph without computing it."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    operations = (op for op in graph.get_operations() if op.outputs)
    return {op.name: tuple(map(_outline, op.outputs)) for op in operations}


def _outline(tensor: Any) -> Outline:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Outline(shape, tensor.dtype.name)
