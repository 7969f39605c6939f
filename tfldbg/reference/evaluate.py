"""Compute the frozen reference: free-running nodes, and single operators from given inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import KerasError
from tfldbg.reference.fusing import fold_batch_norms
from tfldbg.reference.graphdef import Outline, RefGraph, node_of
from tfldbg.reference.protos import TYPES, GraphDef
from tfldbg.reference.tf_session import RefusedGraphError, open_session
from tfldbg.reference.weights import add_placeholder, take_weights

Floats = NDArray[np.float32]
_OF_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
"""The operations that call Python functions."""


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """A frozen reference model that can return the value of every node."""

    graph_def: Any
    """A `protos.GraphDef` without variables."""
    graph: RefGraph
    input_names: tuple[str, ...]
    """The names of the Keras model's inputs, in the order of ``graph.inputs``."""
    input_shapes: tuple[tuple[int | None, ...], ...]
    input_dtypes: tuple[str, ...]
    output_names: tuple[str, ...]
    batch: int | None
    """The only batch size that the model accepts, or None if it accepts any."""
    framework: str
    """The framework that loaded it, with its version."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to restore it in another process; the graph is an array of bytes.

        Raises:
            TypeError: The model calls Python functions of this process.
        """
        if any(node.op in _OF_PYTHON for node in self.graph.nodes.values()):
            raise TypeError("the Keras model calls Python functions, which only this process knows")
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "graph_def"}
        return _restored, (np.frombuffer(self.graph_def.SerializeToString(), np.uint8), rest)


def _restored(graph_def: NDArray[np.uint8], rest: Mapping[str, Any]) -> Frozen:
    return Frozen(graph_def=GraphDef.FromString(graph_def.tobytes()), **rest)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A part of the reference graph that computes one tensor from given inputs."""

    key: int
    """The caller's key of the result."""
    output: str
    """The tensor to compute, ``name`` or ``name:port``."""
    cuts: Mapping[str, int]
    """The key of the values that replace each tensor (``name`` or ``name:port``)."""
    constants: Mapping[str, Floats] = field(default_factory=dict)
    """The values that replace each tensor, by name."""


def open_ends(graph: RefGraph, segment: Segment) -> frozenset[str]:
    """Return the model inputs that a segment reaches without a cut; none if it is closed."""
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
    """Return the inputs in the order of the reference.

    Args:
        numbers: The number of the reference input for each TFLite input.
        real: The values of each TFLite input (n, ...), real units.
    """
    ordered: list[NDArray[Any]] = [np.empty(0)] * len(real)
    for number, array in zip(numbers, real, strict=True):
        ordered[number] = array
    return ordered


class Evaluator:
    """A TensorFlow session that computes all requested tensors of a batch in one call.

    Args:
        frozen: The reference model.
        fetches: The tensors of the free-running model, ``name`` or ``name:port``.
        segments: The operators to compute from given inputs; all must be closed.
        forced: The keys of the values that replace tensors of the free-running model for their
            consumers, by tensor.
        once: True if only a few batches are computed, for which optimizing the graph takes longer
            than it saves.
        threads: The number of threads, None for one a processor.

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
        threads: int | None = None,
    ) -> None:
        definition, computed, taps, given = _with_segments(frozen, segments)
        _force(definition, frozen.graph, forced, taps)
        _add_placeholders(definition, frozen.graph, taps)
        wanted = [*fetches, *computed]
        if not once:
            fold_batch_norms(definition, [_port(name) for name in wanted])
        known = [*fetches, *(segment.output for segment in segments)]
        fetched = _read(definition, wanted, [frozen.graph.outline(k) for k in known])
        _keep_needed(definition, fetched)
        given |= take_weights(definition)
        held = {n.name for n in definition.node}
        weights = {_port(name): array for name, array in given.items() if name in held}
        try:
            self._session = open_session(definition, fetched, weights, once=once, threads=threads)
        except RefusedGraphError as error:
            raise KerasError(f"TensorFlow refuses the reference graph: {error}") from error
        self._frozen = frozen
        self._free = len(fetches)
        self._taps = {tap: name for tap, name in taps.items() if name in held}
        self._inputs = held & set(frozen.graph.inputs)

    @property
    def tap_keys(self) -> tuple[int, ...]:
        """The keys of the values that `run` needs."""
        return tuple(dict.fromkeys(key for _, key in self._taps))

    def run(
        self, inputs: Sequence[NDArray[Any]] | None, taps: Mapping[int, Floats]
    ) -> tuple[list[Floats], list[Floats]]:
        """Compute one batch.

        Args:
            inputs: One array (n, ...) per model input, real units, or None if no requested tensor
                depends on them.
            taps: The values (n, ...) in real units for every key of `tap_keys`.

        Returns:
            The free-running tensors in the order of ``fetches``, and the segments' outputs in the
            order of ``segments``; first axis n.

        Raises:
            KerasError: TensorFlow cannot compute the batch.
        """
        feeds = {} if inputs is None else self._input_feeds(inputs)
        for (tensor, key), name in self._taps.items():
            outline = self._frozen.graph.outline(tensor)
            complex_ = outline.dtype.startswith("complex")
            held = taps[key][..., 0] + 1j * taps[key][..., 1] if complex_ else taps[key]
            given = _shaped(held, outline.shape, whole=self._frozen.batch == 1)
            if outline.dtype.startswith(("int", "uint")):
                given = np.rint(given)  # a quantized index is close to the whole number
            feeds[_port(name)] = given.astype(outline.dtype, copy=False)
        try:
            values = self._session.run(feeds)
        except RefusedGraphError as error:
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
    """Return complex numbers as real and imaginary part on a last axis, others unchanged."""
    return np.stack((values.real, values.imag), -1) if values.dtype.kind == "c" else values


def evaluate_once(
    frozen: Frozen,
    fetches: Sequence[str],
    inputs: Sequence[NDArray[Any]] | None = None,
    segments: Sequence[Segment] = (),
    taps: Mapping[int, Floats] = MappingProxyType({}),
) -> tuple[list[Floats], list[Floats]]:
    """Compute one batch in a new session.

    Args:
        frozen: As for `Evaluator`.
        fetches: As for `Evaluator`.
        inputs: As for `Evaluator.run`.
        segments: As for `Evaluator`.
        taps: As for `Evaluator.run`.

    Raises:
        KerasError: TensorFlow refuses the graph, or cannot compute the batch.
    """
    evaluator = Evaluator(frozen, fetches, segments, once=True)
    try:
        return evaluator.run(inputs, taps)
    finally:
        evaluator.close()


def _port(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _shaped(
    array: NDArray[Any], shape: tuple[int | None, ...] | None, *, whole: bool = False
) -> NDArray[Any]:
    """Give an array (n, ...) the shape that the reference expects, with a dynamic first axis.

    If the reference computes one sample at a time, its first axis is not the batch.
    """
    if shape is None or (len(shape) == 0 and not whole):
        return array
    wanted = [d or -1 for d in (shape if whole else shape[1:])]
    size = abs(math.prod(wanted)) * (1 if whole else len(array))
    exact = whole and -1 not in wanted
    fits = array.size == size if exact else array.size % size == 0
    if wanted.count(-1) > 1 or not fits:
        # Another or an unknown shape: merge the axis of the samples with the tensor's first axis.
        return array.reshape(-1, *array.shape[2:]) if array.ndim == len(shape) + 1 else array
    if whole:
        return array.reshape(wanted)
    return array.reshape((len(array) if -1 in wanted else -1, *wanted))


def _read(definition: Any, tensors: Sequence[str], outlines: Sequence[Outline]) -> list[str]:
    """Add a node that reads each tensor, and return the names to fetch.

    TensorFlow's optimizer removes some nodes that it fuses with others, even if they are fetched
    (with oneDNN: a bias before LeakyRelu, the sigmoid of swish), but not if another node reads
    them.
    """
    for number, (tensor, outline) in enumerate(zip(tensors, outlines, strict=True)):
        reader = definition.node.add(name=f"tfldbg_read/{number}", op="Identity", input=[tensor])
        reader.attr["T"].type = TYPES[outline.dtype]
    return [f"tfldbg_read/{number}:0" for number in range(len(tensors))]


def _keep_needed(definition: Any, fetches: Sequence[str]) -> None:
    """Remove the nodes from a graph that the fetched tensors do not depend on."""
    nodes = {node.name: node for node in definition.node}
    kept: set[str] = set()
    stack = list(fetches)
    while stack:
        name = node_of(stack.pop().removeprefix("^"))
        if name not in kept:
            kept.add(name)
            stack += nodes[name].input
    for number in reversed(range(len(definition.node))):
        if definition.node[number].name not in kept:
            del definition.node[number]


Taps = dict[tuple[str, int], str]
"""The placeholder for each pair of reference tensor and key of the values that replace it."""


def _with_segments(
    frozen: Frozen, segments: Sequence[Segment]
) -> tuple[Any, list[str], Taps, dict[str, Floats]]:
    """Append a copy of each segment to the graph, with placeholders for its cuts.

    Returns:
        The graph, which still lacks the placeholders, the name of each segment's output, the
        placeholders, and the values of those for constants of segments, by name.
    """
    definition = GraphDef()
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
            given[name] = values.astype(np.float32, copy=False)
    return definition, names, taps, given


def _force(definition: Any, graph: RefGraph, forced: Mapping[str, int], taps: Taps) -> None:
    """Redirect the consumers of some tensors of the free-running model to placeholders."""
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
    for (tensor, _), name in taps.items():
        placeholder = definition.node.add(name=name, op="Placeholder")
        placeholder.attr["dtype"].type = TYPES[graph.outline(tensor).dtype]


def _copy_segment(
    definition: Any,
    protos: Mapping[str, Any],
    graph: RefGraph,
    named: tuple[str, Segment],
    taps: Taps,
) -> str:
    """Append a copy of one segment with prefixed names, and add its placeholders to ``taps``.

    Returns:
        The name of the segment's output.
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
