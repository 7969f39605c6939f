"""Bring two recordings together: which tensor is which, and what each operator reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.errors import MatchError
from tfldbg.graph.model import Operator, QuantParams, Subgraph, Tensor
from tfldbg.match.capture import entry_of, match_of, pair_entries
from tfldbg.match.model import Matching, Unmatched

if TYPE_CHECKING:
    from tfldbg.reference.capture import Capture
    from tfldbg.reference.recorded import Recorded

_CODES = frozenset({"INT4", "INT8", "UINT8", "INT16"})
_MOST_TENSORS = 1 << 20
"""Indices beyond are no file's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One tensor of the second recording."""

    tensor: Tensor
    """Its index is that in the file where all tensors have one, else its place in the recording;
    its scale is that in which it is compared."""
    tested: Recorded
    reference: Recorded | None
    """Its counterpart, None where the two cannot be compared."""
    reason: str
    """Why they cannot."""
    operator: Operator
    """The operator that writes it, -1 for an input, its place where nobody says; it reads what must
    be equal for a difference of the tensor to be the operator's."""
    unrecorded: tuple[int, ...]
    """Indices of the tensors that the operator reads and that are not in both recordings."""

    @property
    def reads(self) -> tuple[int, ...]:
        """Indices of the tensors that its operator reads."""
        return self.operator.inputs


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Two recordings."""

    inputs: tuple[Node, ...]
    written: tuple[Node, ...]
    """In execution order."""
    matching: Matching
    subgraph: Subgraph
    """The second recording as the model that it is of, as far as it tells."""
    notes: tuple[str, ...]


def put_side_by_side(reference: Capture, tested: Capture) -> SideBySide:
    """Pair the tensors of two recordings.

    Args:
        reference: The first.
        tested: The second, whose every tensor becomes a node.

    Raises:
        MatchError: They have no tensor in common.
    """
    pairs, reasons = _pairs(reference, tested)
    if not pairs:
        raise MatchError(
            f"'{reference.path}' and '{tested.path}' have no tensor in common: the first of the "
            f"second recording is '{tested.tensors[0].label}', {next(iter(reasons.values()))}",
            hint="compare recordings of the same model, with the same names",
        )
    return _Builder(reference, tested, pairs, reasons).build()


def _pairs(
    reference: Capture, tested: Capture
) -> tuple[Mapping[int, tuple[int, str]], Mapping[int, str]]:
    """Map numbers of the second recording to those of the first, else to reasons."""
    told = ("model_sha256", "signature")
    same = [reference.said(key) == tested.said(key) for key in told]
    if all(same) and tested.said("model_sha256"):
        by_index = {r.index: r for r in reference.tensors}
        pairs = {
            r.number: (by_index[r.index].number, "index")
            for r in tested.tensors
            if r.index in by_index and by_index[r.index].elements == r.elements
        }
        missing = "it is not in the other recording"
        return pairs, {r.number: missing for r in tested.tensors if r.number not in pairs}
    ours, theirs = ([entry_of(r) for r in side.tensors] for side in (tested, reference))
    found = pair_entries(ours, theirs)
    return found.pairs, found.reasons


def _tensor(index: int, recorded: Recorded) -> Tensor:
    """Return a recorded tensor as one of a file."""
    params = None
    if recorded.scale is not None:
        zero_point = np.array([recorded.zero_point or 0], np.int64)
        params = QuantParams(np.array([recorded.scale], np.float32), zero_point)
    return Tensor(
        index=index,
        name=recorded.label,
        type=recorded.type,
        shape=recorded.shape,
        shape_signature=recorded.shape,
        quant=params,
        buffer=0,
        is_variable=False,
        has_data=False,
    )


def _in_units(tested: Recorded, reference: Recorded) -> tuple[Recorded, Recorded] | str:
    """Return both sides with the scales to use, or why they cannot be compared.

    Codes without a scale take the other side's; where no side has one, a step counts as 1.
    """
    coded = reference if tested.is_float else tested
    if reference.is_float != tested.is_float and coded.scale is None:
        return "one recording holds integers without a scale, the other real units"
    if reference.type == tested.type and reference.type in _CODES:
        known = next((r for r in (reference, tested) if r.scale is not None), None)
        step = (1.0, 0) if known is None else (known.scale, known.zero_point)
        tested, reference = (
            replace(r, scale=step[0], zero_point=step[1]) if r.scale is None else r
            for r in (tested, reference)
        )
    return tested, reference


def _subgraph(inputs: Sequence[Node], written: Sequence[Node]) -> Subgraph:
    tensors = {n.tensor.index: n.tensor for n in (*inputs, *written)}
    missing = Tensor(-1, "", "", (), (), None, 0, is_variable=False, has_data=False)
    return Subgraph(
        index=0,
        name="",
        tensors=tuple(tensors.get(i, missing) for i in range(max(tensors) + 1)),
        operators=tuple(n.operator for n in written),
        inputs=tuple(n.tensor.index for n in inputs),
        outputs=(),
    )


class _Builder:
    """Fills in what one recording says and the other does not."""

    def __init__(
        self,
        reference: Capture,
        tested: Capture,
        pairs: Mapping[int, tuple[int, str]],
        reasons: Mapping[int, str],
    ) -> None:
        self._reference, self._tested = reference, tested
        self._pairs, self._reasons = pairs, reasons
        known = {r.number: r.index for r in tested.tensors if r.index is not None}
        usable = len(known) == len(tested.tensors) and max(known.values()) < _MOST_TENSORS
        self._keys = known if usable else {r.number: r.number for r in tested.tensors}
        self._others = {ours: reference.tensors[n] for ours, (n, _) in pairs.items()}
        self._by_index = {index: number for number, index in known.items()}
        self._by_other_index = {
            r.index: ours for ours, r in self._others.items() if r.index is not None
        }

    def build(self) -> SideBySide:
        """Return inputs and written tensors in execution order."""
        inputs = [self._node(r, -1, (), ()) for r in self._tested.tensors if self._is_input(r)]
        written = [r for r in self._tested.tensors if not self._is_input(r)]
        operators = {r.number: self._operator(r) for r in written}
        ordered = all(op is not None for op in operators.values())
        if ordered:
            written.sort(key=lambda r: (operators[r.number] or 0, r.number))
        before = [n.tensor.index for n in inputs if n.tested.number in self._pairs]
        guessed = False
        made: list[Node] = []
        for place, recorded in enumerate(written):
            op = operators[recorded.number] if ordered else place
            known = self._reads(recorded)
            guessed = guessed or known is None
            reads, unrecorded = known if known is not None else (tuple(before), ())
            made.append(self._node(recorded, op or 0, reads, unrecorded))
            if recorded.number in self._pairs:
                before.append(self._keys[recorded.number])
        return SideBySide(
            inputs=tuple(inputs),
            written=tuple(made),
            matching=self._matching(),
            subgraph=_subgraph(inputs, made),
            notes=self._notes(inputs, ordered, guessed),
        )

    def _is_input(self, recorded: Recorded) -> bool:
        other = self._others.get(recorded.number)
        return recorded.is_input or (other is not None and other.is_input)

    def _operator(self, recorded: Recorded) -> int | None:
        other = self._others.get(recorded.number)
        return recorded.operator if recorded.operator is not None or not other else other.operator

    def _reads(self, recorded: Recorded) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return the keys that an operator reads and what is not recorded; None if unknown."""
        other = self._others.get(recorded.number)
        numbers: Mapping[int, int]
        if recorded.reads is not None:
            indices, numbers = recorded.reads, self._by_index
        elif other is not None and other.reads is not None:
            indices, numbers = other.reads, self._by_other_index
        else:
            return None
        found = {i: numbers[i] for i in indices if i in numbers and numbers[i] in self._pairs}
        keys = tuple(self._keys[number] for number in found.values())
        return keys, tuple(i for i in indices if i not in found)

    def _node(
        self, recorded: Recorded, op: int, reads: tuple[int, ...], unrecorded: tuple[int, ...]
    ) -> Node:
        key, other = self._keys[recorded.number], self._others.get(recorded.number)
        kind = recorded.kind or (other.kind if other and other.kind else "?")
        operator = Operator(op, kind, reads, (key,), {})
        pair = None if other is None else _in_units(recorded, other)
        if pair is None or isinstance(pair, str):
            reason = pair or self._reasons.get(recorded.number, "it is not in the other recording")
            tensor = _tensor(key, recorded)
            return Node(tensor, recorded, None, reason, operator, unrecorded)
        tested, reference = pair
        coded = reference if tested.is_float else tested
        units = replace(coded, index=tested.index, name=tested.name, shape=tested.shape)
        return Node(_tensor(key, units), tested, reference, "", operator, unrecorded)

    def _matching(self) -> Matching:
        matches = {
            self._keys[r.number]: match_of(
                _tensor(self._keys[r.number], r), other, self._pairs[r.number][1]
            )
            for r in self._tested.tensors
            if (other := self._others.get(r.number)) is not None
        }
        unmatched = {
            self._keys[number]: Unmatched(self._keys[number], reason)
            for number, reason in self._reasons.items()
        }
        return Matching(matches, unmatched, ())

    def _notes(self, inputs: Sequence[Node], ordered: bool, guessed: bool) -> tuple[str, ...]:
        notes = []
        left = len(self._reference.tensors) - len(self._pairs)
        if left:
            notes.append(f"{left} tensors of '{self._reference.path}' have no counterpart")
        if not any(n.tested.number in self._pairs for n in inputs):
            notes.append(
                "the model's inputs are not marked in both recordings, so that nobody can tell "
                "whether both runs were given the same data"
            )
        if not ordered:
            notes.append("no operators are recorded: the order in the file stands in for theirs")
        if guessed:
            notes.append(
                "what an operator reads is not recorded: it counts as the first to differ only in "
                "samples in which every tensor before it is equal"
            )
        return tuple(notes)
