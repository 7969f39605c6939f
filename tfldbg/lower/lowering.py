"""Lower operations, one after the other, into one .tflite program that computes in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.reference.graphdef import IDENTITY_OPS, node_of
from tfldbg.rewrite.draft import Draft

if TYPE_CHECKING:
    from tfldbg.lower.operations import Operation, Operations

TYPES = {"float32": "FLOAT32", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
"""The types of tensors that programs hold, by NumPy type."""


class NotLoweredError(Exception):
    """An operation has no float program."""


_UNFORESEEN = (ArithmeticError, LookupError, TypeError, ValueError)
"""The exceptions of a lowering that does not know some form of its operation."""

Lower = Callable[["Site"], Sequence[int]]
"""A function that emits one operation and returns the draft's tensors of its outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One operation, and the place in the program where it is lowered."""

    operation: Operation
    context: Context

    @property
    def draft(self) -> Draft:
        """The program."""
        return self.context.draft

    @property
    def schema(self) -> Any:
        """The object forms of options."""
        return self.context.schema

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute.

        Raises:
            NotLoweredError: It is missing and has no default.
        """
        found = self.operation.attributes.get(name, default)
        if found is None:
            raise NotLoweredError(f"{self.operation.kind} without {name}")
        return found

    def given(self, number: int) -> int:
        """Return the draft's tensor of an input."""
        return self.context.tensor(self.operation.inputs[number])

    def constant(self, number: int) -> NDArray[Any]:
        """Return the values of a constant input.

        Raises:
            NotLoweredError: It is computed.
        """
        found = self.context.constant(self.operation.inputs[number])
        if found is None:
            raise NotLoweredError(f"{self.operation.kind} with a computed input {number}")
        return found

    def is_constant(self, number: int) -> bool:
        """Return whether an input is constant."""
        return self.context.constant(self.operation.inputs[number]) is not None

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of an input for one sample."""
        return self.context.operations.shape(self.operation.inputs[number])

    @property
    def made(self) -> tuple[int, ...]:
        """The shape of the first output for one sample."""
        return self.context.operations.shape(self.operation.name)

    def outputs(self, count: int) -> list[int]:
        """Add the tensors of the outputs."""
        name = self.operation.name
        names = [name if port == 0 else f"{name}:{port}" for port in range(count)]
        return [self.context.like(name) for name in names]

    def emit(self, kind: str, inputs: Sequence[int], options: Any = None) -> list[int]:
        """Emit one operator that makes the first output.

        Args:
            kind: The kind of operator.
            inputs: Its inputs.
            options: The object form of its options.
        """
        outputs = self.outputs(1)
        self.context.operator(kind, inputs, outputs, options)
        return outputs

    def floats(
        self, kind: str, inputs: Sequence[int], shape: Sequence[int], options: Any = None
    ) -> int:
        """Emit one operator that makes a float tensor of some shape, and return it."""
        made = self.draft.tensor("FLOAT32", shape)
        self.context.operator(kind, inputs, [made], options)
        return made

    def held(self, values: NDArray[Any] | Sequence[Any], kind: str = "float32") -> int:
        """Return a constant of the draft."""
        return self.context.held(np.asarray(values, kind))


@dataclass(slots=True, eq=False)
class Context:
    """A part of the program in which each operation is lowered once."""

    operations: Operations
    draft: Draft
    lowerings: Mapping[str, Lower]
    schema: Any
    wanted: frozenset[str]
    """The tensors that are read, which must be computed as they are."""
    readers: Mapping[str, Sequence[str]]
    """The names of the operations that read each operation."""
    cuts: Mapping[str, int]
    """The draft's tensor that replaces a tensor of the graph."""
    constants: Mapping[str, NDArray[Any]]
    """The values that replace constants, by tensor."""
    shared: dict[tuple[bytes, str, tuple[int, ...]], int]
    """The constants of the whole program by content."""
    made: dict[str, int] = field(default_factory=dict)

    def tensor(self, name: str) -> int:
        """Return the draft's tensor of a tensor of the graph.

        Raises:
            NotLoweredError: An operation has no lowering.
        """
        if name in self.cuts:
            return self.cuts[name]
        if name in self.made:
            return self.made[name]
        values = self.constant(name)
        if values is not None:
            self.made[name] = self.held(values)
            return self.made[name]
        operation = self.operations.operations[node_of(name)]
        if operation.kind in IDENTITY_OPS:
            self.made[name] = self.tensor(operation.inputs[0])
            return self.made[name]
        lower = self.lowerings.get(operation.kind)
        if lower is None:
            raise NotLoweredError(f"{operation.kind} has no lowering")
        try:
            outputs = lower(Site(operation, self))
        except _UNFORESEEN as error:
            raise NotLoweredError(f"{operation.kind} of an unforeseen form: {error}") from error
        for port, tensor in enumerate(outputs):
            self.made[operation.name if port == 0 else f"{operation.name}:{port}"] = tensor
        if name not in self.made:
            raise NotLoweredError(f"{operation.kind} has no output {name}")
        return self.made[name]

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the values of a constant tensor, None if it is computed."""
        if name in self.constants:
            return self.constants[name]
        return self.operations.values[name] if self.operations.is_constant(name) else None

    def absorbed(self, name: str) -> Operation | None:
        """Return the operation of a tensor if its only reader may do its work with its own."""
        operation = self.operations.operations[node_of(name)]
        inner = name in self.cuts or self.operations.is_constant(name) or name in self.made
        alone = len(self.readers.get(operation.name, ())) == 1
        return operation if alone and not inner and name not in self.wanted else None

    def like(self, name: str) -> int:
        """Add a tensor with the type and shape of a tensor of the graph."""
        values = self.operations.values.get(name)
        if values is None or values.dtype.name not in TYPES:
            kind = "unknown values" if values is None else values.dtype.name
            raise NotLoweredError(f"'{name}' holds {kind}")
        return self.draft.tensor(TYPES[values.dtype.name], values.shape)

    def held(self, values: NDArray[Any]) -> int:
        """Return a constant of the draft."""
        if values.dtype.name not in TYPES:
            raise NotLoweredError(f"a constant holds {values.dtype.name}")
        key = (values.tobytes(), values.dtype.name, values.shape)
        if key not in self.shared:
            kind = TYPES[values.dtype.name]
            self.shared[key] = self.draft.tensor(kind, values.shape, values=values)
        return self.shared[key]

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> None:
        """Append an operator.

        Args:
            kind: The kind of operator.
            inputs: Its inputs.
            outputs: Its outputs.
            options: The object form of its options.
        """
        named = None
        if options is not None:
            named = type(options).__name__.removesuffix("T"), options
        self.draft.operator(kind, inputs, outputs, named)
