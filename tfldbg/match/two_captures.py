"""Pair the tensors of two recordings, and find the inputs of each operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.errors import MatchError
from tfldbg.graph.model import Operator, QuantParams, Subgraph, Tensor
from tfldbg.match.capture import Pairing, entry_of, match_of, pair_entries
from tfldbg.match.model import Matching, Unmatched

if TYPE_CHECKING:
    from tfldbg.reference.capture import Capture
    from tfldbg.reference.recorded import Recorded

_CODES = frozenset({"INT4", "INT8", "UINT8", "INT16"})
_MOST_TENSORS = 1 << 20
"""Larger numbers are no tensor's index in a file."""
_MISSING = Tensor(-1, "", "", (), (), None, 0, is_variable=False, has_data=False)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One tensor of the second recording."""

    tensor: Tensor
    """Its index is that in the file where all tensors have one, else its place in the recording.
    Its scale is the one that counts as a step."""
    operator: Operator
    """Who writes it, -1 for an input, its place where nobody says; and what must be equal for a
    difference of the tensor to be the operator's own."""
    tested: Recorded
    reference: Recorded | None
    """Its counterpart, None where the two cannot be compared."""
    unjudged: str | None
    """Why nothing can tell a difference of the operator's own, None where equal inputs can."""


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Two recordings with paired tensors."""

    nodes: tuple[Node, ...]
    """Inputs of the model, then what operators write, in execution order."""
    subgraph: Subgraph
    """The second recording as the model that it is of, as far as it tells."""
    matching: Matching
    notes: tuple[str, ...]

    @property
    def written(self) -> tuple[Node, ...]:
        """The nodes that operators write."""
        return self.nodes[len(self.subgraph.inputs) :]


def put_side_by_side(reference: Capture, tested: Capture) -> SideBySide:
    """Pair the tensors of two recordings.

    Args:
        reference: The first recording.
        tested: The second recording, whose every tensor becomes a node.

    Raises:
        MatchError: They have no tensor in common.
    """
    pairing = _paired(reference, tested)
    if not pairing.pairs:
        raise MatchError(
            f"'{reference.path}' and '{tested.path}' have no tensor in common: the first of the "
            f"second recording is '{tested.tensors[0].label}', "
            f"{next(iter(pairing.reasons.values()))}",
            hint="compare recordings of the same model, with the same names",
        )
    return _GraphBuilder(reference, tested, pairing).build()


def _paired(reference: Capture, tested: Capture) -> Pairing:
    """Pair numbers of the second recording with those of the first."""
    told = ("model_sha256", "signature")
    same = all(reference.said(key) == tested.said(key) for key in told)
    ours, theirs = ([entry_of(r) for r in side.tensors] for side in (tested, reference))
    if not same or not tested.said("model_sha256"):
        return pair_entries(ours, theirs)
    by_index = {r.index: r for r in reference.tensors}
    pairs = {
        r.number: (by_index[r.index].number, "index")
        for r in tested.tensors
        if r.index in by_index and by_index[r.index].elements == r.elements
    }
    missing = "it is not in the other recording"
    return Pairing(pairs, {e.key: missing for e in ours if e.key not in pairs})


def _tensor(index: int, recorded: Recorded) -> Tensor:
    """Return a recorded tensor as one of a file."""
    shape, params = recorded.shape, None
    if recorded.scale is not None:
        zero_point = np.array([recorded.zero_point or 0], np.int64)
        params = QuantParams(np.array([recorded.scale], np.float32), zero_point)
    about = (recorded.label, recorded.type, shape, shape, params)
    return Tensor(index, *about, buffer=0, is_variable=False, has_data=False)


def _in_units(tested: Recorded, reference: Recorded) -> tuple[Recorded, Recorded] | str:
    """Return both sides with the scales to use, or why they cannot be compared.

    Codes without a scale take the other side's; where no side has one, a step counts as 1.
    """
    coded = reference if tested.is_float else tested
    if reference.is_float != tested.is_float and coded.scale is None:
        return "one recording holds integers without a scale, the other real units"
    if reference.type != tested.type or reference.type not in _CODES:
        return tested, reference
    known = next((r for r in (reference, tested) if r.scale is not None), None)
    scale, zero_point = (1.0, 0) if known is None else (known.scale, known.zero_point)
    filled = (
        replace(r, scale=scale, zero_point=zero_point) if r.scale is None else r
        for r in (tested, reference)
    )
    return next(filled), next(filled)


class _GraphBuilder:
    """Completes facts that only one of the recordings states."""

    def __init__(self, reference: Capture, tested: Capture, pairing: Pairing) -> None:
        self._reference, self._tested, self._pairing = reference, tested, pairing
        indices = {r.number: r.index for r in tested.tensors if r.index is not None}
        indexed = len(indices) == len(tested.tensors) and max(indices.values()) < _MOST_TENSORS
        self._keys = indices if indexed else {r.number: r.number for r in tested.tensors}
        self._others = {n: reference.tensors[other] for n, (other, _) in pairing.pairs.items()}
        self._by_index: dict[int | None, int] = {
            index: n for n, index in indices.items() if n in self._others
        }
        self._by_other_index = {r.index: n for n, r in self._others.items()}
        self._pairs = {n: _in_units(tested.tensors[n], r) for n, r in self._others.items()}

    def build(self) -> SideBySide:
        """Return inputs and written tensors in execution order."""
        inputs = [r for r in self._tested.tensors if self._is_input(r)]
        written = [r for r in self._tested.tensors if not self._is_input(r)]
        operators = {r.number: self._operator(r) for r in written}
        ordered = None not in operators.values()
        if ordered:
            written.sort(key=lambda r: (operators[r.number] or 0, r.number))
        before = [r.number for r in inputs if r.number in self._others]
        nodes = [self._node(r, -1, (), ()) for r in inputs]
        guessed = False
        for place, recorded in enumerate(written):
            op = operators[recorded.number] if ordered else place
            known = self._reads(recorded)
            guessed = guessed or known is None
            nodes.append(self._node(recorded, op or 0, *(known or (tuple(before), ()))))
            if recorded.number in self._others:
                before.append(recorded.number)
        return SideBySide(
            nodes=tuple(nodes),
            subgraph=_subgraph(nodes, len(inputs)),
            matching=self._matching(),
            notes=self._notes(inputs, ordered, guessed),
        )

    def _is_input(self, recorded: Recorded) -> bool:
        other = self._others.get(recorded.number)
        return recorded.is_input or (other is not None and other.is_input)

    def _operator(self, recorded: Recorded) -> int | None:
        other = self._others.get(recorded.number)
        return recorded.operator if recorded.operator is not None or not other else other.operator

    def _reads(self, recorded: Recorded) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return what an operator reads and what of it is not recorded; None if unknown."""
        other = self._others.get(recorded.number)
        indices, numbers = recorded.reads, self._by_index
        if indices is None and other is not None:
            indices, numbers = other.reads, self._by_other_index
        if indices is None:
            return None
        found = dict.fromkeys(numbers[i] for i in indices if i in numbers)
        return tuple(found), tuple(i for i in indices if i not in numbers)

    def _node(
        self, recorded: Recorded, op: int, reads: tuple[int, ...], unrecorded: tuple[int, ...]
    ) -> Node:
        key, other = self._keys[recorded.number], self._others.get(recorded.number)
        kind = recorded.kind or (other.kind if other and other.kind else "?")
        operator = Operator(op, kind, tuple(self._keys[n] for n in reads), (key,), {})
        pair = self._pairs.get(recorded.number)
        if pair is None or isinstance(pair, str):
            reason = pair or self._pairing.reasons[recorded.number]
            return Node(_tensor(key, recorded), operator, recorded, None, reason)
        tested, reference = pair
        coded = reference if tested.is_float else tested
        units = replace(coded, index=tested.index, name=tested.name, shape=tested.shape)
        unjudged = self._unjudged(reads, unrecorded)
        return Node(_tensor(key, units), operator, tested, reference, unjudged)

    def _unjudged(self, reads: Sequence[int], unrecorded: Sequence[int]) -> str | None:
        """Say why nobody can tell whether an operator had equal inputs, None where one can."""
        if unrecorded:
            return f"its input tensor {unrecorded[0]} is not in both recordings"
        given = (self._tested.tensors[n] for n in reads if isinstance(self._pairs[n], str))
        unknown = next((r for r in given if not self._is_input(r)), None)
        return None if unknown is None else f"its input '{unknown.label}' cannot be compared"

    def _matching(self) -> Matching:
        matches, unmatched = {}, {}
        for recorded in self._tested.tensors:
            number, key = recorded.number, self._keys[recorded.number]
            if number in self._others:
                rule = self._pairing.pairs[number][1]
                matches[key] = match_of(_tensor(key, recorded), self._others[number], rule)
            else:
                unmatched[key] = Unmatched(key, self._pairing.reasons[number])
        return Matching(matches, unmatched, ())

    def _notes(self, inputs: Sequence[Recorded], ordered: bool, guessed: bool) -> tuple[str, ...]:
        notes = []
        left = len(self._reference.tensors) - len(self._others)
        if left:
            notes.append(f"{left} tensors of '{self._reference.path}' have no counterpart")
        if not any(r.number in self._others for r in inputs):
            notes.append(
                "the model's inputs are not marked in both recordings, so it is unknown "
                "whether both runs were given the same data"
            )
        if not ordered:
            notes.append("no operators are recorded: the order in the file is used instead")
        if guessed:
            notes.append(
                "what an operator reads is not recorded: it counts as the first to differ only in "
                "samples in which every tensor before it is equal"
            )
        return tuple(notes)


def _subgraph(nodes: Sequence[Node], inputs: int) -> Subgraph:
    """Return the model that some nodes are of, the inputs first among them."""
    known = {n.tensor.index: n.tensor for n in nodes}
    tensors = tuple(known.get(i, _MISSING) for i in range(max(known) + 1))
    operators = tuple(n.operator for n in nodes[inputs:])
    given = tuple(n.tensor.index for n in nodes[:inputs])
    return Subgraph(0, "", tensors, operators, given, ())
