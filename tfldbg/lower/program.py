"""Float programs of a reference: the whole of it running free, and its single operators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfldbg.lower.lowering import TYPES, Context, NotLoweredError
from tfldbg.lower.table import LOWERINGS
from tfldbg.reference.graphdef import node_of
from tfldbg.rewrite.draft import Draft
from tfldbg.rewrite.emit import is_real, runtime_dequantizes

if TYPE_CHECKING:
    from tfldbg.graph.model import Tensor
    from tfldbg.lower.operations import Operations
    from tfldbg.reference.evaluate import Segment
    from tfldbg.rewrite.pieces import Pieces


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A float program."""

    content: Pieces
    feeds: tuple[int, ...]
    """The keys of the values to give to its inputs: a tensor of the traced file, or ``-1 - n`` for
    input n of the model."""
    taps: tuple[int, ...]
    """The output for each requested tensor; several may have the same."""


class Lowering:
    """Builds one float program.

    Args:
        operations: The reference.
        tensors: The tensors of the traced file, whose values replace tensors of the reference.
    """

    def __init__(self, operations: Operations, tensors: Sequence[Tensor]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._operations, self._tensors, self._schema = operations, tensors, schema
        self._draft = Draft()
        self._shared: dict[tuple[bytes, str, tuple[int, ...]], int] = {}
        self._readers: dict[str, list[str]] = defaultdict(list)
        for operation in operations.operations.values():
            for name in operation.inputs:
                self._readers[node_of(name)].append(operation.name)
        self._inputs: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}
        """The input of the program, and its value in float, by key and shape."""

    def free(self, inputs: Sequence[str], fetches: Sequence[str]) -> list[int]:
        """Lower the model from its inputs; return the draft's tensor of each fetch.

        Raises:
            NotLoweredError: An operation has no lowering.
        """
        cuts = {name: self._value(-1 - number, name) for number, name in enumerate(inputs)}
        context = self._context(frozenset(fetches), cuts, {}, self._readers)
        return [context.tensor(name) for name in fetches]

    def between(self, inputs: Sequence[str], fetches: Sequence[str]) -> list[int]:
        """Lower what `free` computes, but each fetch from given values of those before it.

        The values of fetch n have the key ``-1 - len(inputs) - n``.

        Raises:
            NotLoweredError: An operation has no lowering.
        """
        keys = {name: -1 - number for number, name in enumerate((*inputs, *fetches))}
        made = []
        for name in fetches:
            needed = self._read_before(name, keys)
            cuts = {other: self._value(keys[other], other) for other in needed}
            context = self._context(frozenset(fetches), cuts, {}, self._readers)
            made.append(context.tensor(name))
        return made

    def _read_before(self, name: str, known: Mapping[str, int]) -> list[str]:
        """Return the known tensors that a tensor is computed from."""
        others = known.keys() - {name}
        between = self._operations.between(name, others)
        return list(dict.fromkeys(i for o in between for i in o.inputs if i in others))

    def segment(self, segment: Segment) -> int:
        """Lower one segment, and return the draft's tensor of its output.

        Raises:
            NotLoweredError: An operation has no lowering, or a value has another size.
        """
        cuts = {name: self._given(key, name) for name, key in segment.cuts.items()}
        constants = {name: np.asarray(v, np.float32) for name, v in segment.constants.items()}
        wanted = frozenset((segment.output, *segment.cuts))
        context = self._context(wanted, cuts, constants, self._readers_in(segment))
        return context.tensor(segment.output)

    def finish(self, outputs: Sequence[int]) -> Lowered:
        """Return the program with some of its tensors as outputs."""
        inputs = [tensor for tensor, _ in self._inputs.values()]
        outputs = [self._own(tensor) for tensor in outputs]
        content = self._draft.build(inputs, list(dict.fromkeys(outputs)))
        return Lowered(content, tuple(key for key, _ in self._inputs), tuple(outputs))

    def _own(self, tensor: int) -> int:
        """Return a tensor that an operator writes: an input cannot be an output as well."""
        given = {value: shape for (_, shape), (_, value) in self._inputs.items()}
        if tensor not in given:
            return tensor
        shape = given[tensor]
        copy = self._draft.tensor("FLOAT32", shape)  # identities of whole numbers are not read
        size = self._draft.constant(np.array(shape, np.int32))
        self._draft.operator("RESHAPE", [tensor, size], [copy])
        return copy

    def _context(
        self,
        wanted: frozenset[str],
        cuts: Mapping[str, int],
        constants: Mapping[str, Any],
        readers: Mapping[str, Sequence[str]],
    ) -> Context:
        return Context(
            operations=self._operations,
            draft=self._draft,
            lowerings=LOWERINGS,
            schema=self._schema,
            wanted=wanted,
            readers=readers,
            cuts=cuts,
            constants=constants,
            shared=self._shared,
        )

    def _readers_in(self, segment: Segment) -> Mapping[str, Sequence[str]]:
        """Return which operations of a segment read each operation."""
        found: dict[str, list[str]] = defaultdict(list)
        for operation in self._operations.between(segment.output, segment.cuts):
            for given in operation.inputs:
                found[node_of(given)].append(operation.name)
        return found

    def _value(self, key: int, name: str) -> int:
        """Return an input for the values of a tensor of the reference."""
        values = self._operations.values[name]
        if values.dtype.name not in TYPES:
            raise NotLoweredError(f"'{name}' holds {values.dtype.name}")
        place = key, values.shape
        if place not in self._inputs:
            made = self._draft.tensor(TYPES[values.dtype.name], values.shape)
            self._inputs[place] = made, made
        return self._inputs[place][1]

    def _given(self, key: int, name: str) -> int:
        """Return the float value of a tensor of the traced file in the shape of the reference."""
        tensor, values = self._tensors[key], self._operations.values[name]
        place = key, values.shape
        if place in self._inputs:
            return self._inputs[place][1]
        if values.dtype != np.float32 or tensor.elements != values.size or not is_real(tensor):
            theirs = f"{values.dtype} {list(values.shape)}"
            raise NotLoweredError(
                f"'{name}', {theirs}, is fed with tensor {key}, {tensor.type} {list(tensor.shape)}"
            )
        if not runtime_dequantizes(tensor):
            made = self._draft.tensor("FLOAT32", values.shape)
            self._inputs[place] = made, made
            return made
        stored = self._draft.tensor(tensor.type, values.shape, quant=tensor.quant)
        real = self._draft.tensor("FLOAT32", values.shape)
        self._draft.operator("DEQUANTIZE", [stored], [real])
        self._inputs[place] = stored, real
        return real
