"""Float copies of operators: constants dequantized, activations float32.

Every model made here has the arithmetic of the file's operators without its quantization.  Two
kinds of model come from one emitter:

- the *local* model holds each operator separately, reading values that are given to it;
- the *twins* run free from the model's inputs: float, float clamped to each tensor's range, and
  float rounded to each tensor's codes, with the parameters of the file or others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.query import CALLED, numpy_type
from tfldbg.rewrite.emit import Emitter, as_float, is_real, runtime_dequantizes

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, QuantParams, Subgraph, Tensor
    from tfldbg.graph.variables import Source
    from tfldbg.rewrite.draft import Draft
    from tfldbg.rewrite.pieces import Pieces

FLOAT, CLAMP, FAKE_QUANT = "float", "clamp", "fake_quant"
MODES = (FLOAT, CLAMP, FAKE_QUANT)
"""The modes of twins from the least to the most quantized."""

ALIASES = frozenset({"QUANTIZE", "DEQUANTIZE"})
"""Operators that change how a value is stored, but not the value."""

_HANDLES = frozenset(
    {
        "ASSIGN_VARIABLE",
        "HASHTABLE",
        "HASHTABLE_FIND",
        "HASHTABLE_IMPORT",
        "HASHTABLE_SIZE",
        "READ_VARIABLE",
        "VAR_HANDLE",
    }
)
_RANDOM = frozenset({"MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM"})
_CODE_KINDS = frozenset({"BITCAST", "CAST"})
MOST_DIMENSIONS = 5
"""The number of dimensions that MINIMUM and MAXIMUM broadcast."""


def untwinned(subgraph: Subgraph, op: Operator) -> str | None:
    """Return why an operator has no float copy, or None if it has one."""
    tensors = [subgraph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    if op.kind in CALLED:
        return "it runs another subgraph, and is not compared as a whole"
    if op.kind in _HANDLES:
        return "it moves values in and out of a resource and computes nothing"
    if op.kind in _RANDOM:
        return "it draws random numbers"
    if op.kind in _CODE_KINDS and any(t.has_codes for t in tensors):
        return f"{op.kind} takes the codes of a quantized tensor for its values"
    if any(t.type in ("STRING", "RESOURCE", "VARIANT") for t in tensors):
        return "it reads or writes a tensor that holds no numbers"
    folded = subgraph.folded_constants
    for tensor in tensors:
        known = tensor.has_data or tensor.is_variable or tensor.index in subgraph.live
        if tensor.elements and not known:
            return f"it reads '{tensor.name}', which nothing writes"
        computed = not tensor.has_data and tensor.index not in folded
        if computed and numpy_type(tensor) is None and not is_real(tensor):
            return f"it reads or writes {tensor.type} values, which cannot be read back"
        params = tensor.quant
        if computed and params and tensor.has_one_scale and not tensor.has_codes:
            scale = f"{params.scale[0]:.6g}"
            return f"it reads or writes codes of the scale {scale}, which have no real values"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Computation:
    """One operator of the reference file, and the tensors for its inputs and outputs."""

    op: Operator
    feeds: Mapping[int, Tensor]
    """The tensor of the traced file that replaces each activation of the reference file."""
    results: Mapping[int, int]
    """The tensor of the traced file that each output of the reference file is compared with."""
    constants: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """The replaced constants of the reference file, float32 in real units or int32."""
    options: Mapping[str, int | bool | float] = field(default_factory=dict)
    """The changed options of the operator."""
    kind: str | None = None
    """The kind of operator that replaces it, or None for its own kind."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalModel:
    """All steps in one file, computed independently of each other."""

    content: Pieces
    feeds: tuple[int, ...]
    """The tensors of the traced file, in the order of the inputs; in real units where the input is
    float, otherwise as stored."""
    results: tuple[int, ...]
    """The tensors of the traced file whose float value is computed."""
    taps: tuple[int, ...]
    """The output of this model that holds each of ``results``."""


@dataclass(frozen=True, slots=True, eq=False)
class Twins:
    """The free-running copies, next to each other in one file."""

    content: Pieces
    feeds: tuple[int, ...]
    """The tensors whose actual values are given: the model's inputs, and the outputs of operators
    without a float copy."""
    results: tuple[tuple[str, int], ...]
    """The mode and tensor of each value that is computed."""
    taps: tuple[int, ...]
    """The output of this model that holds each of ``results``."""
    carried: Mapping[int, int] = field(default_factory=dict)
    """The output of this model whose value an input takes in the next step of a stream, by input
    number; in the first step the input takes the actual value."""


def local_model(graph: Graph, subgraph: Subgraph, steps: Sequence[Computation]) -> LocalModel:
    """Build the model that computes each operator separately from given inputs.

    Args:
        graph: The reference file.
        subgraph: The subgraph.
        steps: Operators that `untwinned` accepts.
    """
    return side_by_side(Emitter(graph, subgraph, real=True), [[step] for step in steps])


def chain_model(
    graph: Graph, subgraph: Subgraph, chains: Sequence[Sequence[Computation]]
) -> LocalModel:
    """Build the model that computes each chain of operators from the inputs of the chain.

    Args:
        graph: The reference file.
        subgraph: The subgraph.
        chains: Operators that `untwinned` accepts, each chain in execution order.
    """
    return side_by_side(Emitter(graph, subgraph, real=True), chains)


def side_by_side(emitter: Emitter, chains: Sequence[Sequence[Computation]]) -> LocalModel:
    """Emit every chain separately; values that no operator of a chain writes are inputs."""
    outputs: dict[int, int] = {}
    for chain in chains:
        known: dict[int, int] = {}
        for step in chain:
            read = _reader(emitter, step, known)
            if emitter.real and step.op.kind in ALIASES:  # of a constant, or within a chain
                written = [read(step.op.inputs[0])]
            else:
                written = emitter.emit(step.op, read, step.options, step.kind)
            known |= zip(step.op.outputs, written, strict=True)
            for index, made in zip(step.op.outputs, written, strict=True):
                if index in step.results:
                    outputs[step.results[index]] = made
    return LocalModel(
        content=emitter.finish(outputs.values()),
        feeds=tuple(key for key, _ in emitter.inputs),
        results=tuple(outputs),
        taps=tuple(outputs.values()),
    )


def _reader(emitter: Emitter, step: Computation, known: Mapping[int, int]) -> Callable[[int], int]:
    def read(index: int) -> int:
        if index in known:
            return known[index]
        if index in step.constants:
            return emitter.draft.constant(step.constants[index])
        return emitter.given(index, step.feeds.get(index))

    return read


def twins(
    graph: Graph,
    subgraph: Subgraph,
    modes: Sequence[str],
    refused: Mapping[int, str],
    wanted: frozenset[int] | None = None,
    parameters: Mapping[int, QuantParams] | None = None,
    sources: Mapping[int, Source] | None = None,
) -> Twins:
    """Build the free-running copies.

    Args:
        graph: The file.
        subgraph: The subgraph.
        modes: The modes to build, from `MODES`.
        refused: The reason for each operator without a float copy, whose outputs are given.
        wanted: The tensors to compute, or None for all.
        parameters: Parameters that replace the file's, by tensor; the model's inputs are then given
            in real units and rounded with these.
        sources: The source of each read of a resource variable, to let the copies keep their own
            variables; None to give them the actual values.
    """
    emitter = Emitter(graph, subgraph, real=True)
    outputs: dict[tuple[str, int], int] = {}
    kept = _Kept(emitter, subgraph, sources or {})
    for mode in modes:
        for index, _, settled in _emitted(emitter, subgraph, mode, refused, parameters, kept):
            if wanted is None or index in wanted:
                outputs[mode, index] = settled
    return _as_twins(emitter, outputs, kept)


def measuring_twin(
    graph: Graph,
    subgraph: Subgraph,
    refused: Mapping[int, str],
    parameters: Mapping[int, QuantParams] | None,
    sources: Mapping[int, Source] | None = None,
) -> Twins:
    """Build the free-running copy that returns every value before it is rounded.

    Args:
        graph: The file.
        subgraph: The subgraph.
        refused: As for `twins`.
        parameters: The parameters that round the values, or None for float arithmetic.  The
            model's inputs are given in real units.
        sources: As for `twins`.
    """
    emitter = Emitter(graph, subgraph, real=True)
    mode = FLOAT if parameters is None else FAKE_QUANT
    kept = _Kept(emitter, subgraph, sources or {})
    emitted = _emitted(emitter, subgraph, mode, refused, parameters or {}, kept)
    return _as_twins(emitter, {(mode, index): made for index, made, _ in emitted}, kept)


class _Kept:
    """The variables of the copies: inputs that take the value of an output in the step before."""

    def __init__(self, emitter: Emitter, subgraph: Subgraph, sources: Mapping[int, Source]) -> None:
        tensors = subgraph.tensors
        self._emitter, self._tensors = emitter, tensors
        self.sources = {
            index: source
            for index, source in sources.items()
            if is_real(tensors[index]) and is_real(tensors[source.tensor])
        }
        self._inputs: list[tuple[int, int]] = []
        self._written: list[int] = []

    def add(self, index: int) -> int:
        """Add an input for the value that a variable has in the current copy."""
        made = self._emitter.draft.tensor("FLOAT32", self._tensors[index].shape)
        key = (index, -1 - len(self._inputs))
        self._emitter.inputs[key] = made
        self._inputs.append(key)
        return made

    def close(self, read: Callable[[int], int]) -> None:
        """Store the next values of the inputs of a complete copy."""
        for index, _ in self._inputs[len(self._written) :]:
            self._written.append(read(self.sources[index].tensor))

    @property
    def carried(self) -> dict[int, int]:
        """The tensor that holds the next value of an input, by input number."""
        numbers = {key: number for number, key in enumerate(self._emitter.inputs)}
        pairs = zip(self._inputs, self._written, strict=True)
        return {numbers[key]: written for key, written in pairs}


def _as_twins(emitter: Emitter, outputs: Mapping[tuple[str, int], int], kept: _Kept) -> Twins:
    return Twins(
        content=emitter.finish((*outputs.values(), *kept.carried.values())),
        feeds=tuple(key for key, _ in emitter.inputs),
        results=tuple(outputs),
        taps=tuple(outputs.values()),
        carried=kept.carried,
    )


def _emitted(
    emitter: Emitter,
    subgraph: Subgraph,
    mode: str,
    refused: Mapping[int, str],
    parameters: Mapping[int, QuantParams] | None,
    kept: _Kept,
) -> Iterator[tuple[int, int, int]]:
    """Emit one twin; yield every tensor with its value before and after the mode is applied."""
    folded = subgraph.folded_constants
    others = parameters or {}
    values: dict[int, int] = {}

    def settle(index: int, made: int) -> int:
        tensor = subgraph.tensors[index]
        if index in others:
            tensor = replace(tensor, quant=others[index])
        values[index] = _settle(emitter.draft, mode, tensor, made)
        return values[index]

    def read(index: int) -> int:
        return values[index] if index in values else emitter.given(index, None)

    for index in subgraph.inputs if parameters is not None else ():
        tensor = subgraph.tensors[index]
        if is_rounded(tensor):
            settle(index, emitter.given(index, as_float(tensor)))
    for op in subgraph.operators:
        source = kept.sources.get(op.outputs[0]) if op.outputs else None
        if source is not None:
            written = [read(source.tensor) if source.same_step else kept.add(op.outputs[0])]
        elif op.index in refused or any(i in folded for i in op.outputs):
            continue
        else:
            written = [read(op.inputs[0])] if op.kind in ALIASES else emitter.emit(op, read)
        for index, made in zip(op.outputs, written, strict=True):
            yield index, made, settle(index, made)
    kept.close(read)


def is_rounded(tensor: Tensor) -> bool:
    """Return whether a twin can round a tensor to codes."""
    return runtime_dequantizes(tensor) and len(tensor.shape) <= MOST_DIMENSIONS


def _settle(draft: Draft, mode: str, tensor: Tensor, made: int) -> int:
    """Append the operators of a mode to a value: none, clamping, or rounding to the codes."""
    affine = tensor.affine
    if mode == FLOAT or affine is None or not is_rounded(tensor):
        return made
    if mode == FAKE_QUANT:
        settled = draft.tensor("FLOAT32", tensor.shape)
        between = draft.tensor(tensor.type, tensor.shape, quant=tensor.quant)
        draft.operator("QUANTIZE", [made], [between])
        draft.operator("DEQUANTIZE", [between], [settled])
        return settled
    return emit_clamp(draft, tensor.shape, made, affine.real_range(tensor.type))


def emit_clamp(draft: Draft, shape: Sequence[int], value: int, ends: tuple[float, float]) -> int:
    """Clamp a float tensor of at most `MOST_DIMENSIONS` dimensions and return the result."""
    from ai_edge_litert import schema_py_generated as schema

    for kind, end in zip(("MAXIMUM", "MINIMUM"), ends, strict=True):
        result = draft.tensor("FLOAT32", shape)
        limit = draft.constant(np.array([end], np.float32))
        options = ("MaximumMinimumOptions", schema.MaximumMinimumOptionsT())
        draft.operator(kind, [value, limit], [result], options)
        value = result
    return value
