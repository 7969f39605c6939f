"""Copy operators of a .tflite file into a draft, in float or unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import quant
from tfldbg.graph.query import blocks, constant, numpy_type, real_constant
from tfldbg.rewrite.draft import Draft, Storage
from tfldbg.rewrite.pieces import ComputedBytes, Pieces

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph, Tensor

_COMPUTED = 16 << 20
"""The size in bytes from which a constant is dequantized in parts while it is written."""
_CODES = frozenset({"INT2", "INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64"})

_SHARED_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "SUM": "ReducerOptions",
}
"""The names of options that differ from the operator's name."""


def is_real(tensor: Tensor) -> bool:
    """Return whether a tensor's values are real numbers, which a twin holds as float32."""
    if tensor.type in ("FLOAT32", "FLOAT16"):
        return True
    params = tensor.quant
    known = params is not None and (params.scale.size > 0 or params.block_size is not None)
    return tensor.type in _CODES and known


def as_float(tensor: Tensor) -> Tensor:
    """Return a tensor in the form of an input in real units."""
    return replace(tensor, type="FLOAT32", quant=None) if is_real(tensor) else tensor


def runtime_dequantizes(tensor: Tensor) -> bool:
    """Return whether the DEQUANTIZE kernel accepts a tensor; others are given in real units."""
    if not tensor.has_codes:
        return False
    return tensor.type in ("INT8", "UINT8") or (tensor.type == "INT16" and tensor.zero_point == 0)


def _in_float(graph: Graph, tensor: Tensor) -> NDArray[np.float32] | ComputedBytes | None:
    """Return a constant in real units; a large one is computed while it is written."""
    params, span = tensor.quant, graph.buffers[tensor.buffer]
    rows = tensor.shape[0] if tensor.shape else 1
    by_row = params is None or params.per_tensor or (params.axis == 0 and params.scale.size == rows)
    if span.size < _COMPUTED or not by_row or numpy_type(tensor) is None:
        return real_constant(graph, tensor)
    codes = constant(graph, tensor)
    if codes is None:
        return None

    def chunks() -> Iterator[NDArray[np.float32]]:
        for some in blocks(codes):
            if params is None or codes.dtype.kind == "f":
                yield codes[some].astype(np.float32)
                continue
            one = params.scale.size == 1
            zeros = params.zero_point
            yield quant.dequantize(
                codes[some],
                params.scale if one else params.scale[some],
                zeros if zeros.size == 1 else zeros[some],
                params.axis,
            )

    return ComputedBytes(4 * codes.size, chunks)


class Emitter:
    """Copies operators of one subgraph into a draft.

    Args:
        graph: The file.
        subgraph: The subgraph.
        real: True if the copies compute in float: constants dequantized, activations float32.
    """

    def __init__(self, graph: Graph, subgraph: Subgraph, *, real: bool) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        self._graph, self._subgraph, self.real = graph, subgraph, real
        self._packed = schema.Model.GetRootAs(graph.data, 0)
        self._operators = self._packed.Subgraphs(subgraph.index)
        self._constants: dict[int, int] = {}
        self._given: dict[tuple[int, int], int] = {}
        self.draft = Draft()
        self.inputs: dict[tuple[int, int], int] = {}
        """The draft's input for each pair of traced tensor and reference tensor."""

    def given(self, index: int, feed: Tensor | None) -> int:
        """Return the draft's tensor for a tensor that no emitted operator writes.

        Args:
            index: The tensor of the reference file.
            feed: The tensor of the traced file that replaces it, or None for the tensor itself.  A
                variable without a feed keeps its value from step to step.
        """
        tensor = self._subgraph.tensors[index]
        if tensor.has_data or index in self._subgraph.folded_constants:
            if index not in self._constants:
                self._constants[index] = self._constant(tensor)
            return self._constants[index]
        if tensor.is_variable:
            return self._variable(tensor, feed)
        if index not in self._subgraph.live:
            return self.draft.tensor(tensor.type, tensor.shape, quant=tensor.quant)
        feed = tensor if feed is None else feed
        key = (feed.index, index)
        if key not in self._given:
            self._given[key] = self._input(tensor, feed)
        return self._given[key]

    def _input(self, tensor: Tensor, feed: Tensor) -> int:
        key = (feed.index, tensor.index)
        shape = tensor.shape if tensor.elements == feed.elements else feed.shape
        if not self.real:
            self.inputs[key] = self.draft.tensor(feed.type, shape, quant=feed.quant)
            return self.inputs[key]
        if not is_real(feed) or not runtime_dequantizes(feed):
            kind = "FLOAT32" if is_real(feed) else feed.type
            self.inputs[key] = self.draft.tensor(kind, shape)
            return self.inputs[key]
        self.inputs[key] = self.draft.tensor(feed.type, shape, quant=feed.quant)
        real = self.draft.tensor("FLOAT32", shape)
        self.draft.operator("DEQUANTIZE", [self.inputs[key]], [real])
        return real

    def _variable(self, tensor: Tensor, feed: Tensor | None) -> int:
        """Add a variable of one operator; with a ``feed`` it is an input set before each step."""
        made = self._activation(tensor, variable=True)
        if feed is not None:
            self.inputs[feed.index, tensor.index] = made
        return made

    def _constant(self, tensor: Tensor) -> int:
        if tensor.index in self._subgraph.folded_constants:
            return self._unpacked(tensor)
        real = _in_float(self._graph, tensor) if self.real and is_real(tensor) else None
        if real is not None:
            return self.draft.tensor("FLOAT32", tensor.shape, values=real)
        span = self._graph.buffers[tensor.buffer]
        raw = np.frombuffer(self._graph.data[span.start : span.start + span.size], np.uint8)
        sparsity = self._operators.Tensors(tensor.index).Sparsity()
        if sparsity is not None:
            sparsity = self._schema.SparsityParametersT.InitFromObj(sparsity)
        blocks = tensor.quant.scale_tensor if tensor.quant is not None else None
        return self.draft.tensor(
            tensor.type,
            tensor.shape,
            quant=tensor.quant,
            values=raw,
            storage=Storage(sparsity, None if blocks is None else self.given(blocks, None)),
        )

    def _unpacked(self, tensor: Tensor) -> int:
        """Return a constant that the file unpacks at run time with DEQUANTIZE or DENSIFY."""
        op = self._subgraph.producers[tensor.index]
        source = self._subgraph.tensors[op.inputs[0]]
        known = not source.has_data or constant(self._graph, source) is not None
        if not self.real or not known:
            return self.emit(op, lambda index: self.given(index, None))[0]
        return self.given(source.index, None)

    def emit(
        self,
        op: Operator,
        read: Callable[[int], int],
        options: Mapping[str, Any] | None = None,
        kind: str | None = None,
    ) -> list[int]:
        """Copy one operator and return its outputs.

        Args:
            op: An operator of the reference file.
            read: Returns the draft's tensor for a tensor of the reference file.
            options: The options to change, by their names in the object form.
            kind: A builtin operator to replace it; it takes over the options that it has.
        """
        packed = self._operators.Operators(op.index)
        code = self._packed.OperatorCodes(packed.OpcodeIndex())
        copied = self._schema.OperatorT.InitFromObj(packed)
        for name, value in (options or {}).items():
            setattr(copied.builtinOptions, name, value)
        builtin, version = max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), code.Version()
        if kind is not None:
            builtin, version = getattr(self._schema.BuiltinOperator, kind), 1
            self._exchange_options(copied, kind)
        copied.intermediates = self._intermediates(packed)
        copied.largeCustomOptionsOffset = 0
        written = [self._activation(self._subgraph.tensors[i]) for i in op.outputs]
        self.draft.copy(
            copied,
            builtin,
            code.CustomCode(),
            version,
            [read(i) if i >= 0 else -1 for i in op.inputs],
            written,
        )
        return written

    def _exchange_options(self, copied: Any, kind: str) -> None:
        """Change the options of a copied operator to those of another kind, keeping the values."""
        name = "".join(part.title() for part in kind.split("_")) + "Options"
        name = _SHARED_OPTIONS.get(kind, name)
        copied.builtinOptionsType = getattr(self._schema.BuiltinOptions, name, 0)
        made = getattr(self._schema, f"{name}T", lambda: None)()
        for option, value in getattr(copied.builtinOptions, "__dict__", {}).items():
            if made is not None and hasattr(made, option):
                setattr(made, option, value)
        copied.builtinOptions = made

    def _intermediates(self, packed: Any) -> list[int] | None:
        """Copy the tensors that hold the parameters of integer kernels' internal values."""
        if self.real or packed.IntermediatesIsNone():
            return None
        known = self._subgraph.tensors
        indices = packed.IntermediatesAsNumpy().tolist()
        if not all(0 <= i < len(known) for i in indices):
            return None
        tensors = (known[i] for i in indices)
        return [self.draft.tensor(t.type, t.shape, quant=t.quant) for t in tensors]

    def _activation(self, tensor: Tensor, *, variable: bool = False) -> int:
        """Add a tensor that an operator writes."""
        real = self.real and is_real(tensor)
        return self.draft.tensor(
            "FLOAT32" if real else tensor.type,
            tensor.shape,
            quant=tensor.quant if is_real(tensor) and not real else None,
            variable=variable,
            signature=tensor.shape_signature,
        )

    def finish(self, outputs: Iterable[int]) -> Pieces:
        """Return the file; duplicate outputs are merged."""
        return self.draft.build(list(self.inputs.values()), list(dict.fromkeys(outputs)))
