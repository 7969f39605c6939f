"""Pair the tensors of two recordings, and find the inputs of each operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfldbg.errors import MatchError
from tfldbg.match.capture import entry_of, pair_entries

if TYPE_CHECKING:
    from tfldbg.reference.capture import Capture
    from tfldbg.reference.recorded import Recorded


@dataclass(frozen=True, slots=True)
class Node:
    """One tensor of the second recording."""

    key: int
    """The index in the file if all tensors have one, otherwise the position in the recording."""
    tensor: Recorded
    counterpart: Recorded | None
    rule: str | None
    reason: str | None
    """The reason why it has no counterpart."""
    op: int
    """The operator that writes it, -1 for an input; its position if unknown."""
    kind: str
    reads: tuple[int, ...]
    """The keys of the tensors that must be equal for a difference to be local to its operator."""
    unrecorded: tuple[int, ...]
    """The indices of its operator's inputs that are not in both recordings."""


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two recordings with paired tensors."""

    inputs: tuple[Node, ...]
    written: tuple[Node, ...]
    """The tensors that operators write, in execution order."""
    notes: tuple[str, ...]


def put_side_by_side(reference: Capture, tested: Capture) -> SideBySide:
    """Pair the tensors of two recordings.

    Args:
        reference: The first recording.
        tested: The second recording, whose every tensor becomes a node.

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
    """Return the pairs of the second recording's tensors, and the reasons for the others."""
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


class _Builder:
    """Completes facts that only one of the recordings states."""

    def __init__(
        self,
        reference: Capture,
        tested: Capture,
        pairs: Mapping[int, tuple[int, str]],
        reasons: Mapping[int, str],
    ) -> None:
        self._reference, self._tested = reference, tested
        self._pairs, self._reasons = pairs, reasons
        indexed = all(r.index is not None for r in tested.tensors)
        self._keys = {
            r.number: r.index if indexed and r.index is not None else r.number
            for r in tested.tensors
        }
        self._by_index = {r.index: r.number for r in tested.tensors if r.index is not None}
        back = {theirs: ours for ours, (theirs, _) in pairs.items()}
        self._by_other_index = {
            r.index: back[r.number]
            for r in reference.tensors
            if r.index is not None and r.number in back
        }

    def build(self) -> SideBySide:
        """Return inputs and written tensors in execution order."""
        inputs = [r for r in self._tested.tensors if self._is_input(r)]
        written = [r for r in self._tested.tensors if not self._is_input(r)]
        operators = {r.number: self._operator(r) for r in written}
        ordered = all(op is not None for op in operators.values())
        if ordered:
            written.sort(key=lambda r: (operators[r.number] or 0, r.number))
        nodes = [self._node(r, -1, (), ()) for r in inputs]
        before = [n.key for n in nodes if n.counterpart is not None]
        guessed = False
        made: list[Node] = []
        for place, recorded in enumerate(written):
            op = operators[recorded.number] if ordered else place
            known = self._reads(recorded)
            reads, unrecorded = known if known is not None else (tuple(before), ())
            guessed = guessed or known is None
            made.append(self._node(recorded, op or 0, reads, unrecorded))
            if made[-1].counterpart is not None:
                before.append(made[-1].key)
        return SideBySide(tuple(nodes), tuple(made), self._notes(nodes, ordered, guessed))

    def _other(self, recorded: Recorded) -> Recorded | None:
        pair = self._pairs.get(recorded.number)
        return None if pair is None else self._reference.tensors[pair[0]]

    def _is_input(self, recorded: Recorded) -> bool:
        other = self._other(recorded)
        return recorded.is_input or (other is not None and other.is_input)

    def _operator(self, recorded: Recorded) -> int | None:
        other = self._other(recorded)
        return recorded.operator if recorded.operator is not None or not other else other.operator

    def _reads(self, recorded: Recorded) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return the keys that an operator reads and those not recorded, or None if unknown."""
        other = self._other(recorded)
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
        other, pair = self._other(recorded), self._pairs.get(recorded.number)
        return Node(
            key=self._keys[recorded.number],
            tensor=recorded,
            counterpart=other,
            rule=pair[1] if pair else None,
            reason=None if pair else self._reasons.get(recorded.number),
            op=op,
            kind=recorded.kind or (other.kind if other and other.kind else "?"),
            reads=reads,
            unrecorded=unrecorded,
        )

    def _notes(self, inputs: Sequence[Node], ordered: bool, guessed: bool) -> tuple[str, ...]:
        notes = []
        left = len(self._reference.tensors) - len(self._pairs)
        if left:
            notes.append(f"{left} tensors of '{self._reference.path}' have no counterpart")
        if not any(n.counterpart for n in inputs):
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
