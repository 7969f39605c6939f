"""The operations of a reference graph, with everything that computes them and no framework."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.reference.graphdef import node_of

Attribute = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation."""

    name: str
    kind: str
    """The name that the framework gives to the kind of operation."""
    inputs: tuple[str, ...]
    """The tensors that it reads, ``name`` or ``name:port``."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """The operations of a graph, and what one sample made of them."""

    operations: Mapping[str, Operation]
    values: Mapping[str, NDArray[Any]]
    """The values of one sample by tensor, among them those of all constants."""
    constants: frozenset[str]
    """The names of the operations whose values depend on no input."""

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor for one sample."""
        return self.values[tensor].shape

    def is_constant(self, tensor: str) -> bool:
        """Return whether a tensor depends on no input."""
        return node_of(tensor) in self.constants

    def between(self, tensor: str, cuts: Container[str]) -> list[Operation]:
        """Return the operations that compute a tensor from cuts, constants and model inputs."""
        found: dict[str, Operation] = {}
        stack = [tensor]
        while stack:
            given = stack.pop()
            name = node_of(given)
            if given not in cuts and name not in found and not self.is_constant(given):
                found[name] = self.operations[name]
                stack += found[name].inputs
        return list(found.values())


def operation_of(proto: Any) -> Operation:
    """Return the neutral form of a ``tensorflow.NodeDef``."""
    known = ((name, _attribute(value)) for name, value in proto.attr.items())
    return Operation(
        name=proto.name,
        kind=proto.op,
        inputs=tuple(i.removesuffix(":0") for i in proto.input if not i.startswith("^")),
        attributes={name: value for name, value in known if value is not None},
    )


def _attribute(value: Any) -> Attribute | None:
    """Return an attribute of a node as a plain value, None for types, shapes and tensors."""
    kind = value.WhichOneof("value")
    if kind == "list":
        return tuple(int(n) for n in value.list.i)
    if kind == "s":
        text: str = value.s.decode(errors="replace")
        return text
    found: Any = getattr(value, kind) if kind in ("b", "f", "i") else None
    return found if found is None else {"b": bool, "f": float, "i": int}[kind](found)


def ints(values: NDArray[Any] | Sequence[int]) -> tuple[int, ...]:
    """Return whole numbers as a tuple."""
    return tuple(int(v) for v in np.asarray(values).reshape(-1))
