"""Evaluate the frozen reference: free-running nodes and single operators on given inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import KerasError
from tfldbg.reference.fusing import fold_batch_norms
from tfldbg.reference.graphdef import Outline, RefGraph, node_of
from tfldbg.reference.quiet import quiet
from tfldbg.reference.weights import add_placeholder, aligned, take_weights

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """A reference model whose every node can be fetched."""

    graph_def: Any
    """A ``tensorflow.GraphDef`` without variables."""
    graph: RefGraph
    input_names: tuple[str, ...]
    """What the Keras model calls its inputs, in the order of ``graph.inputs``."""
    input_shapes: tuple[tuple[int | None, ...], ...]
    input_dtypes: tuple[str, ...]
    output_names: tuple[str, ...]
    batch: int | None
    """The only batch size that the model takes, None when any will do."""
    framework: str
    """Which loader made it, with its version."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One reference operator cut out of its graph."""

    key: int
    """Whatever the caller names the result by."""
    output: str
    """The tensor to compute, ``name`` or ``name:port``."""
    cuts: Mapping[str, int]
    """Tensor (``name`` or ``name:port``) to the key of the values that replace it."""
    constants: Mapping[str, Floats] = field(default_factory=dict)
    """Tensor name to the values to use in its place."""


def open_ends(graph: RefGraph, segment: Segment) -> frozenset[str]:
    """Return the model inputs that a segment reaches without meeting a cut; empty means closed."""
    reached: set[str] = set()
    found: set[str] = set()
    stack = [segment.output]
    while stack:
        tensor = stack.pop()
        name = node_of(tensor)
        if name in reached or tensor in segment.cuts or name not in graph.activations:
            continue
        reached.add(name)
        if name in graph.inputs:
            found.add(name)
        stack += graph.nodes[name].inputs
    return frozenset(found)


def in_reference_order(numbers: Sequence[int], real: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Bring the inputs into the order in which the reference takes them.

    Args:
        numbers: For each TFLite input the number of the reference input.
        real: Per TFLite input (n, ...), real units.
    """
    ordered: list[NDArray[Any]] = [np.empty(0)] * len(real)
    for number, array in zip(numbers, real, strict=True):
        ordered[number] = array
    return ordered


class Evaluator:
    """One TensorFlow session that computes every asked-for tensor in one batched call.

    Args:
        frozen: The reference model.
        fetches: Tensors of the free-running model, ``name`` or ``name:port``.
        segments: Operators to compute from given inputs; all must be closed.
        forced: Tensors of the free-running model to the keys of the values that their readers get
            instead.
        once: Whether it computes a few batches only, for which optimizing the graph takes longer
            than it saves.

    Raises:
        KerasError: TensorFlow refuses the graph.
    """

    def __init__(
        self,
        frozen: Frozen,
        fetches: Sequence[str],
        segments: Sequence[Segment],
        *,
        forced: Mapping[str, int] = MappingProxyType({}),
        once: bool = False,
    ) -> None:
        with quiet():
            import tensorflow as tf

            definition, computed, taps, given = _with_segments(frozen, segments)
            _force(definition, frozen.graph, forced, taps)
            _add_placeholders(definition, frozen.graph, taps)
            wanted = [*fetches, *computed]
            if not once:
                fold_batch_norms(definition, [_port(name) for name in wanted])
            known = [*fetches, *(segment.output for segment in segments)]
            self._fetches = _read(definition, wanted, [frozen.graph.outline(k) for k in known])
            given |= take_weights(definition)
            definition = _needed(definition, self._fetches)
            graph = tf.Graph()
            try:
                with graph.as_default():
                    tf.import_graph_def(definition, name="")
            except (ValueError, tf.errors.OpError) as error:
                raise KerasError(f"TensorFlow refuses the reference graph: {error}") from error
            self._session = tf.compat.v1.Session(graph=graph, config=_config(once))
        self._graph = graph
        self._frozen = frozen
        self._free = len(fetches)
        held = {n.name for n in definition.node}
        self._weights = {_port(name): array for name, array in given.items() if name in held}
        self._taps = {tap: name for tap, name in taps.items() if name in held}
        self._inputs = held & set(frozen.graph.inputs)

    @property
    def tap_keys(self) -> tuple[int, ...]:
        """Keys of the values that `run` wants."""
        return tuple(dict.fromkeys(key for _, key in self._taps))

    def run(
        self, inputs: Sequence[NDArray[Any]] | None, taps: Mapping[int, Floats]
    ) -> tuple[list[Floats], list[Floats]]:
        """Compute one batch.

        Args:
            inputs: One array (n, ...) per model input, real units; None when nothing that is asked
                for depends on them.
            taps: Values (n, ...) in real units for every key of `tap_keys`.

        Returns:
            The free-running tensors in the order of ``fetches``, and the segments' outputs in the
            order of ``segments``; first axis n.

        Raises:
            KerasError: TensorFlow cannot compute the batch.
        """
        import tensorflow as tf

        feeds = {**self._weights, **({} if inputs is None else self._input_feeds(inputs))}
        for (tensor, key), name in self._taps.items():
            outline = self._frozen.graph.outline(tensor)
            complex_ = outline.dtype.startswith("complex")
            held = taps[key][..., 0] + 1j * taps[key][..., 1] if complex_ else taps[key]
            given = _shaped(held, outline.shape, whole=self._frozen.batch == 1)
            if outline.dtype.startswith(("int", "uint")):
                given = np.rint(given)  # an index that was quantized lies beside the whole number
            feeds[_port(name)] = given.astype(outline.dtype, copy=False)
        try:
            with quiet():
                values = self._session.run(self._fetches, feeds)
        except (ValueError, tf.errors.OpError) as error:
            said = [line for line in str(error).splitlines() if line and "Graph exec" not in line]
            raise KerasError(
                f"the reference model cannot compute the data: {' '.join(said[:3])[:300]}",
                hint="check that the data is what the Keras model takes",
            ) from error
        values = [_in_parts(v) for v in values]
        return values[: self._free], values[self._free :]

    def _input_feeds(self, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        frozen = self._frozen
        shaped = map(_shaped, inputs, frozen.input_shapes)
        named = zip(frozen.graph.inputs, shaped, frozen.input_dtypes, strict=True)
        return {
            _port(name): array.astype(dtype) for name, array, dtype in named if name in self._inputs
        }

    def close(self) -> None:
        """Free the session."""
        self._session.close()


def _in_parts(values: NDArray[Any]) -> NDArray[Any]:
    """Return complex numbers as real and imaginary part, along a last axis; others as they are."""
    return np.stack((values.real, values.imag), -1) if values.dtype.kind == "c" else values


def evaluate_once(
    frozen: Frozen,
    fetches: Sequence[str],
    inputs: Sequence[NDArray[Any]] | None = None,
    segments: Sequence[Segment] = (),
    taps: Mapping[int, Floats] = MappingProxyType({}),
) -> tuple[list[Floats], list[Floats]]:
    """Compute one batch in a session of its own.

    Args:
        frozen: As for `Evaluator`, like ``fetches`` and ``segments``.
        fetches: Tensors of the free-running model.
        inputs: As for `Evaluator.run`, like ``taps``.
        segments: Operators to compute from given inputs.
        taps: What they are given.

    Raises:
        KerasError: TensorFlow refuses the graph, or cannot compute the batch.
    """
    evaluator = Evaluator(frozen, fetches, segments, once=True)
    try:
        return evaluator.run(inputs, taps)
    finally:
        evaluator.close()


def _config(once: bool) -> Any:
    """Let TensorFlow fuse what is not fetched, but not rewrite arithmetic, which only costs time.

    What is fetched is always computed as it is named, up to float32 rounding.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import rewriter_config_pb2

    config = tf.compat.v1.ConfigProto()
    off = rewriter_config_pb2.RewriterConfig.OFF
    config.graph_options.rewrite_options.arithmetic_optimization = off
    config.graph_options.rewrite_options.disable_meta_optimizer = once
    return config


def _port(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _shaped(
    array: NDArray[Any], shape: tuple[int | None, ...] | None, *, whole: bool = False
) -> NDArray[Any]:
    """Give an array (n, ...) the shape that the reference expects, the first axis left open.

    Where it computes one sample at a time, the first axis is one like others.
    """
    if shape is None or (len(shape) == 0 and not whole):
        return array
    wanted = [d or -1 for d in (shape if whole else shape[1:])]
    size = abs(math.prod(wanted)) * (1 if whole else len(array))
    exact = whole and -1 not in wanted
    fits = array.size == size if exact else array.size % size == 0
    if wanted.count(-1) > 1 or not fits:
        # Of another shape, or not told: the axis of the samples and the tensor's own are one.
        return array.reshape(-1, *array.shape[2:]) if array.ndim == len(shape) + 1 else array
    if whole:
        return array.reshape(wanted)
    return array.reshape((len(array) if -1 in wanted else -1, *wanted))


def _read(definition: Any, tensors: Sequence[str], outlines: Sequence[Outline]) -> list[str]:
    """Add a node that reads each tensor; return what to fetch.

    TensorFlow's optimizer removes some nodes that it fuses with others, even those that are
    fetched (with oneDNN: a bias before LeakyRelu, the sigmoid of swish), but none that another node
    reads.
    """
    import tensorflow as tf

    for number, (tensor, outline) in enumerate(zip(tensors, outlines, strict=True)):
        reader = definition.node.add(name=f"tfldbg_read/{number}", op="Identity", input=[tensor])
        reader.attr["T"].type = tf.as_dtype(outline.dtype).as_datatype_enum
    return [f"tfldbg_read/{number}:0" for number in range(len(tensors))]


def _needed(definition: Any, fetches: Sequence[str]) -> Any:
    """Return the part of a graph that the fetched tensors depend on."""
    import tensorflow as tf

    names = list(map(node_of, fetches))
    return tf.compat.v1.graph_util.extract_sub_graph(definition, names)


Taps = dict[tuple[str, int], str]
"""By reference tensor and key of the values that replace it, the placeholder that takes them."""


def _with_segments(
    frozen: Frozen, segments: Sequence[Segment]
) -> tuple[Any, list[str], Taps, dict[str, Floats]]:
    """Append a copy of each segment to the graph, its cuts replaced by placeholders.

    Returns:
        The graph, the name of each segment's output, the placeholders, which it still lacks, and by
        name the values of those that stand for constants of segments.
    """
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    definition.CopyFrom(frozen.graph_def)
    protos = {node.name: node for node in frozen.graph_def.node}
    taps: Taps = {}
    names = []
    given: dict[str, Floats] = {}
    for number, segment in enumerate(segments):
        prefix = f"tfldbg_op_{number}/"
        names.append(_copy_segment(definition, protos, frozen.graph, (prefix, segment), taps))
        for tensor, values in segment.constants.items():
            name = f"{prefix}{node_of(tensor)}"
            add_placeholder(definition, name, np.float32, values.shape)
            given[name] = aligned(values.astype(np.float32, copy=False))
    return definition, names, taps, given


def _force(definition: Any, graph: RefGraph, forced: Mapping[str, int], taps: Taps) -> None:
    """Let the readers of some tensors of the free-running model read placeholders instead."""
    for node in definition.node if forced else ():
        if node.name not in graph.nodes:
            continue
        for place, given in enumerate(node.input):
            tensor = given.removesuffix(":0")
            if tensor in forced:
                node.input[place] = _placeholder(taps, tensor, forced[tensor])


def _placeholder(taps: Taps, tensor: str, key: int) -> str:
    return taps.setdefault((tensor, key), f"tfldbg_tap_{len(taps)}")


def _add_placeholders(definition: Any, graph: RefGraph, taps: Taps) -> None:
    import tensorflow as tf

    for (tensor, _), name in taps.items():
        placeholder = definition.node.add(name=name, op="Placeholder")
        dtype = tf.as_dtype(graph.outline(tensor).dtype)
        placeholder.attr["dtype"].type = dtype.as_datatype_enum


def _copy_segment(
    definition: Any,
    protos: Mapping[str, Any],
    graph: RefGraph,
    named: tuple[str, Segment],
    taps: Taps,
) -> str:
    """Append a copy of one segment, its nodes named with a prefix; note the placeholders it reads.

    Returns:
        The name of its output.
    """
    prefix, segment = named
    copied = graph.activations  # shapes are the same for both, constants anyway

    def renamed(tensor: str) -> str:
        if tensor in segment.cuts:
            return _placeholder(taps, tensor, segment.cuts[tensor])
        if tensor in segment.constants:
            return f"{prefix}{node_of(tensor)}"
        return f"{prefix}{tensor}" if node_of(tensor) in copied else tensor

    done: set[str] = set()
    stack = [segment.output]
    while stack:
        tensor = stack.pop()
        name = node_of(tensor)
        if name in done or tensor in segment.cuts or name not in copied:
            continue
        done.add(name)
        copy = definition.node.add()
        copy.CopyFrom(protos[name])
        copy.name = f"{prefix}{name}"
        del copy.input[:]
        copy.input.extend(renamed(i) for i in graph.nodes[name].inputs)
        stack += graph.nodes[name].inputs
    return renamed(segment.output)
