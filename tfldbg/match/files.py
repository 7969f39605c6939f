"""Pair the operators of two .tflite files.

Names, inputs, constants and shapes each add to the score of a pair.  The best pair is settled first
and then helps to pair the operators after it.  Operators are also paired if a file was converted
again, lost its names or has another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import MatchError
from tfldbg.graph.query import real_constant, stored
from tfldbg.match.kinds import LOOKALIKE, LOOKALIKES
from tfldbg.match.steps import given
from tfldbg.rewrite.twin import ALIASES

if TYPE_CHECKING:
    from tfldbg.graph.model import Graph, Operator, Subgraph
    from tfldbg.run.samples import InputSpec

_KIND, _NAME, _INPUTS, _CONSTANTS, _SHAPE, _OPTIONS, _PLACE = 4.0, 8.0, 8.0, 4.0, 6.0, 1.0, 0.5
_ENOUGH = 8.0
"""The least score: a pair needs more than its kind, such as a name or paired inputs."""
_EQUAL = 0.9
"""The share of common energy above which constants count as equal, apart from rounding."""


class Index:
    """Cached queries of one side."""

    def __init__(self, graph: Graph, subgraph: Subgraph) -> None:
        self.graph, self.subgraph = graph, subgraph
        folded, others = subgraph.folded_constants, subgraph.non_activations
        self.operators = tuple(
            op
            for op in subgraph.operators
            if op.kind not in ALIASES and op.outputs and op.outputs[0] >= 0
            if op.outputs[0] not in folded and op.outputs[0] not in others
        )

    def root(self, index: int) -> int:
        """Return the tensor with the same value before QUANTIZE and DEQUANTIZE."""
        op, seen = self.subgraph.producers.get(index), {index}
        while op is not None and op.kind in ALIASES and op.inputs[0] not in seen:
            index = op.inputs[0]
            seen.add(index)
            op = self.subgraph.producers.get(index)
        return index

    def roots(self, op: Operator) -> tuple[int, ...]:
        """Return the values that an operator reads, by `root`."""
        return tuple(self.root(t.index) for t in given(self.subgraph, op))

    def consumers(self, index: int) -> frozenset[int]:
        """Return the operators that read a value, however it is stored."""
        return self._consumers.get(index, frozenset())

    @cached_property
    def _consumers(self) -> Mapping[int, frozenset[int]]:
        found: dict[int, set[int]] = {}
        for op in self.operators:
            for root in self.roots(op):
                found.setdefault(root, set()).add(op.index)
        return {root: frozenset(operators) for root, operators in found.items()}

    def is_end(self, index: int) -> bool:
        """Return whether a value is an output of the file, however it is stored."""
        return index in {self.root(i) for i in self.subgraph.outputs}

    @cached_property
    def constants(self) -> Mapping[int, tuple[NDArray[np.float32], ...]]:
        """The constants of each operator in real units."""
        found = {}
        for op in self.operators:
            tensors = (stored(self.subgraph, i) for i in op.inputs)
            values = (real_constant(self.graph, t) for t in tensors if t is not None)
            found[op.index] = tuple(v for v in values if v is not None)
        return found

    def parts(self, op: Operator) -> frozenset[str]:
        """Return the names that are joined in the name of an operator's output."""
        name = self.subgraph.tensors[op.outputs[0]].name
        return frozenset(part for part in name.split(";") if part)


@dataclass(frozen=True, slots=True)
class Pair:
    """An operator of the traced file and its counterpart."""

    traced: int
    reference: int
    rule: str
    """``name`` if the names agree, ``lookalike`` if the kinds do not, otherwise ``structure``."""
    confidence: float


def pair_operators(
    traced: Index, reference: Index, inputs: Mapping[int, int]
) -> tuple[tuple[Pair, ...], dict[int, int]]:
    """Pair the operators of two files.

    Args:
        traced: The traced file.
        reference: The reference file.
        inputs: The input tensor of the reference for each input tensor of the traced file.

    Returns:
        The pairs in the traced file's order, and the value (before QUANTIZE and DEQUANTIZE) of the
        reference for each value of the traced file.
    """
    pairer = _OperatorPairer(traced, reference, inputs)
    pairer.settle_ready()
    pairer.settle_rest()
    pairer.settle_exchanged()
    return tuple(sorted(pairer.pairs.values(), key=lambda p: p.traced)), pairer.values


class _OperatorPairer:
    def __init__(self, ours: Index, theirs: Index, inputs: Mapping[int, int]) -> None:
        self._ours, self._theirs = ours, theirs
        self.values: dict[int, int] = dict(inputs)
        self.pairs: dict[int, Pair] = {}
        self._open = {op.index: op for op in ours.operators}
        self._free = {op.index: op for op in theirs.operators}
        self._closeness: dict[tuple[int, int], float] = {}
        self._place = {op.index: n for n, op in enumerate(ours.operators)}
        self._their_place = {op.index: n for n, op in enumerate(theirs.operators)}

    def settle_ready(self) -> None:
        """Pair operators whose inputs are paired, best score first."""
        while True:
            ready = [
                op
                for op in self._open.values()
                if all(root in self.values for root in self._ours.roots(op))
            ]
            best = self._best(ready)
            if best is None:
                return
            self._settle(*best)

    def settle_rest(self) -> None:
        """Pair the remaining operators while any pair has a sufficient score."""
        while (best := self._best(self._open.values())) is not None:
            self._settle(*best)
            self.settle_ready()

    def settle_exchanged(self) -> None:
        """Pair operators of different kinds in the same place, where one replaces the other.

        They read the same values and return as many, and their consumers are a pair or have the
        same constants, or both are the output of their file.
        """
        for ours in list(self._open.values()):
            stead = [o for o in self._free.values() if self._same_place(ours, o)]
            if len(stead) == 1:
                self._settle(_KIND / 2 + _INPUTS, ours, stead[0])
                self.settle_ready()

    def _same_place(self, ours: Operator, theirs: Operator) -> bool:
        mine = [self.values.get(root) for root in self._ours.roots(ours)]
        if not mine or None in mine or mine != list(self._theirs.roots(theirs)):
            return False
        one, two = ours.outputs[0], theirs.outputs[0]
        sizes = (self._ours.subgraph.tensors[one], self._theirs.subgraph.tensors[two])
        if sizes[0].elements != sizes[1].elements or len(ours.inputs) != len(theirs.inputs):
            return False
        consumers, others = self._ours.consumers(one), self._theirs.consumers(two)
        if not consumers and not others:
            return self._ours.is_end(one) and self._theirs.is_end(two)
        return any(self._belong(consumer, other) for consumer in consumers for other in others)

    def _belong(self, ours: int, theirs: int) -> bool:
        """Return whether two operators are a pair, or certainly will be."""
        pair = self.pairs.get(ours)
        if pair is not None or ours not in self._open or theirs not in self._free:
            return pair is not None and pair.reference == theirs
        one, two = self._open[ours], self._free[theirs]
        return one.kind == two.kind and self._equal_constants(one, two) >= _EQUAL

    def _best(self, operators: Iterable[Operator]) -> tuple[float, Operator, Operator] | None:
        best: tuple[float, Operator, Operator] | None = None
        for ours in operators:
            for theirs in self._free.values():
                score = self._score(ours, theirs)
                if score >= _ENOUGH + _KIND / 2 and (best is None or score > best[0]):
                    best = (score, ours, theirs)
        return best

    def _score(self, ours: Operator, theirs: Operator) -> float:
        """Return the score of a pair, 0 if the kinds differ too much."""
        mine = self._ours.subgraph.tensors[ours.outputs[0]]
        other = self._theirs.subgraph.tensors[theirs.outputs[0]]
        if not _alike(ours.kind, theirs.kind):
            return 0.0
        names, others = self._ours.parts(ours), self._theirs.parts(theirs)
        common = len(names & others) / max(len(names | others), 1)
        score = _KIND * (1.0 if ours.kind == theirs.kind else 0.5) + _NAME * common
        score += _INPUTS * self._shared_inputs(ours, theirs)
        score += _CONSTANTS * self._equal_constants(ours, theirs)
        score -= _SHAPE * (mine.elements != other.elements)
        score += _OPTIONS * (dict(ours.options) == dict(theirs.options))
        distance = abs(
            self._place[ours.index] / len(self._place)
            - self._their_place[theirs.index] / len(self._their_place)
        )
        return score + _PLACE * (1.0 - distance)

    def _shared_inputs(self, ours: Operator, theirs: Operator) -> float:
        mine = [self.values.get(root) for root in self._ours.roots(ours)]
        other = self._theirs.roots(theirs)
        if not mine and not other:
            return 1.0
        if mine == list(other):
            return 1.0
        common = len({m for m in mine if m is not None} & set(other))
        return 0.9 * common / max(len(mine), len(other))

    def _equal_constants(self, ours: Operator, theirs: Operator) -> float:
        key = (ours.index, theirs.index)
        if key not in self._closeness:
            self._closeness[key] = self._compare_constants(ours, theirs)
        return self._closeness[key]

    def _compare_constants(self, ours: Operator, theirs: Operator) -> float:
        mine, other = self._ours.constants[ours.index], self._theirs.constants[theirs.index]
        if len(mine) != len(other) or not mine:
            return 0.0
        return sum(_close(a, b) for a, b in zip(mine, other, strict=True)) / len(mine)

    def _settle(self, score: float, ours: Operator, theirs: Operator) -> None:
        del self._open[ours.index], self._free[theirs.index]
        named = bool(self._ours.parts(ours) & self._theirs.parts(theirs))
        most = _KIND + _NAME + _INPUTS + _CONSTANTS + _OPTIONS + _PLACE
        rule = "name" if named else "structure"
        rule = rule if ours.kind == theirs.kind else LOOKALIKE
        self.pairs[ours.index] = Pair(ours.index, theirs.index, rule, min(1.0, score / most))
        for mine, other in zip(ours.outputs, theirs.outputs, strict=False):
            self.values[mine] = other


def _alike(one: str, other: str) -> bool:
    return one == other or any({one, other} <= family for family in LOOKALIKES)


def _close(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the similarity of two constants, 0 to 1: the share of their energy that agrees."""
    if one.size != other.size:
        return 0.0
    energy = float(np.square(one).sum() + np.square(other).sum())
    if not energy:
        return 1.0
    return max(0.0, 1.0 - float(np.square(one.ravel() - other.ravel()).sum()) / energy)


def pair_file_inputs(
    ours: Sequence[InputSpec], theirs: Sequence[InputSpec], mapping: Mapping[str, str]
) -> tuple[int, ...]:
    """Return the other file's input for each input, paired by name, then by shape in order.

    Raises:
        MatchError: The files have different inputs.
    """
    free = dict(enumerate(theirs))
    chosen: dict[int, int] = {}
    for i, spec in enumerate(ours):
        wanted = {mapping.get(name, name) for name in spec.names}
        found = [k for k, other in free.items() if wanted & {*other.names} and _fits(spec, other)]
        if found:
            chosen[i] = found[0]
            del free[found[0]]
    for i, spec in enumerate(ours):
        fitting = [k for k, other in free.items() if _fits(spec, other)]
        if i in chosen:
            continue
        if not fitting or len(ours) != len(theirs):
            offered = "; ".join(other.describe() for other in theirs)
            raise MatchError(
                f"no input of the reference fits {spec.describe()}; it takes {offered}",
                hint="give a .tflite made from the same model",
            )
        chosen[i] = fitting[0]
        del free[fitting[0]]
    return tuple(chosen[i] for i in range(len(ours)))


def _fits(one: InputSpec, other: InputSpec) -> bool:
    return one.tensor.elements == other.tensor.elements
