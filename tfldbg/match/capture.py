"""Match recorded tensors with those of a file or of another recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tfldbg.errors import MatchError
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.settle import same_parameters
from tfldbg.reference.recorded import INPUT, Recorded

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor
    from tfldbg.run.samples import InputSpec

_CONFIDENCE = {"index": 1.0, "name": 1.0, "order": 0.8, "input": 0.9}
_CALL = "StatefulPartitionedCall/"
_ARGUMENT = "serving_default_"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of either side in the form used for matching."""

    key: int
    names: tuple[str, ...]
    """The tensor's own name and its other names."""
    operator: int | None
    """The operator that writes it, -1 for an input of the model, None if unknown."""
    kind: str | None
    elements: int | None
    """The number of values in one sample, or None if it is only known at run time."""

    @property
    def is_input(self) -> bool:
        """Return whether it is an input of the model."""
        return self.operator == -1 or self.kind == INPUT


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs of tensors of two sides."""

    pairs: Mapping[int, tuple[int, str]]
    """For each paired tensor the other side's key and the rule: ``index``, ``name``, ``order`` (of
    the operators) or ``input``."""
    reasons: Mapping[int, str]
    """The reason why a tensor has no counterpart, by key."""


def pair_entries(ours: Sequence[Entry], theirs: Sequence[Entry]) -> Pairing:
    """Pair tensors by name, then inputs by size, then operators by their order.

    Args:
        ours: The tensors that each get a pair or a reason.
        theirs: The recording.
    """
    pairer = _TensorPairer(ours, theirs)
    for forms in (_exact, _plain, _unnumbered):
        pairer.by_name(forms)
    pairer.inputs()
    pairer.by_order()
    return pairer.pairing()


def _exact(entry: Entry) -> frozenset[str]:
    return frozenset(name for name in entry.names if name)


def _plain(entry: Entry) -> frozenset[str]:
    """Return the names without the parts that a converter adds around those of graph nodes."""
    return frozenset(_plain_name(name) for name in entry.names if name)


def _plain_name(name: str) -> str:
    parts = (part.strip().split(":")[0] for part in name.split(";"))
    return ";".join(part.removeprefix(_ARGUMENT).replace(_CALL, "") for part in parts)


def _unnumbered(entry: Entry) -> frozenset[str]:
    """Return the plain names without the digits that a converter appends to duplicate names."""
    return frozenset(stripped for name in _plain(entry) if (stripped := name.rstrip("0123456789")))


class _TensorPairer:
    def __init__(self, ours: Sequence[Entry], theirs: Sequence[Entry]) -> None:
        self._ours, self._theirs = ours, theirs
        self._open = {e.key: e for e in ours}
        self._free = {e.key: e for e in theirs}
        self._pairs: dict[int, tuple[int, str]] = {}
        self._misfits: dict[int, str] = {}

    def by_name(self, forms: Callable[[Entry], frozenset[str]]) -> None:
        """Pair tensors with the same name, if only one tensor of each side has it."""
        mine, other = _unique(self._open.values(), forms), _unique(self._free.values(), forms)
        for name, entry in mine.items():
            found = other.get(name)
            if found is None or entry.key not in self._open or found.key not in self._free:
                continue
            if _fits(entry, found):
                self._settle(entry, found, "name")
            else:
                self._misfits[entry.key] = (
                    f"the recording's '{name}' has {found.elements} values per sample, expected "
                    f"{entry.elements}"
                )

    def inputs(self) -> None:
        """Pair remaining inputs, if each side has one of their size."""
        for entry in [e for e in self._open.values() if e.is_input]:
            mine = [e for e in self._open.values() if e.is_input and _fits(e, entry)]
            other = [e for e in self._free.values() if e.is_input and _fits(entry, e)]
            if len(mine) == len(other) == 1:
                self._settle(entry, other[0], "input")

    def by_order(self) -> None:
        """Pair the operators between paired ones, if both sides have as many of the same kinds."""
        ours, theirs = _written(self._ours), _written(self._theirs)
        places = {e.key: place for place, e in enumerate(theirs)}
        anchors = [
            (place, places[self._pairs[e.key][0]])
            for place, e in enumerate(ours)
            if e.key in self._pairs and self._pairs[e.key][0] in places
        ]
        ends = [(-1, -1), *anchors, (len(ours), len(theirs))]
        for (left, their_left), (right, their_right) in pairwise(ends):
            here, there = ours[left + 1 : right], theirs[their_left + 1 : their_right]
            pairs = list(zip(here, there, strict=False))
            if len(here) == len(there) and all(self._alike(*pair) for pair in pairs):
                for entry, found in pairs:
                    self._settle(entry, found, "order")

    def _alike(self, entry: Entry, found: Entry) -> bool:
        loose = entry.key in self._open and found.key in self._free
        return loose and entry.kind == found.kind is not None and _fits(entry, found)

    def _settle(self, entry: Entry, found: Entry, rule: str) -> None:
        del self._open[entry.key], self._free[found.key]
        self._pairs[entry.key] = (found.key, rule)
        self._misfits.pop(entry.key, None)

    def pairing(self) -> Pairing:
        """Return the result."""
        missing = "the recording holds no tensor of that name, nor operators in the same order"
        reasons = {key: self._misfits.get(key, missing) for key in self._open}
        return Pairing(self._pairs, reasons)


def _unique(entries: Iterable[Entry], forms: Callable[[Entry], frozenset[str]]) -> dict[str, Entry]:
    """Return the entry of each name that only one entry has."""
    found: dict[str, Entry | None] = {}
    for entry in entries:
        for name in forms(entry):
            found[name] = None if name in found else entry
    return {name: entry for name, entry in found.items() if entry is not None}


def _fits(one: Entry, other: Entry) -> bool:
    return None in (one.elements, other.elements) or one.elements == other.elements


def _written(entries: Iterable[Entry]) -> list[Entry]:
    known = [e for e in entries if e.operator is not None and not e.is_input]
    return sorted(known, key=lambda e: (e.operator, e.key))


def entry_of(recorded: Recorded) -> Entry:
    """Return a recorded tensor in the form for `pair_entries`."""
    names = (recorded.name,) if recorded.name else ()
    return Entry(recorded.number, names, recorded.operator, recorded.kind, recorded.elements)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedCapture:
    """A file and a recording."""

    matching: Matching
    recorded: Mapping[int, Recorded]
    """The recorded counterpart of each tensor of the file."""
    notes: tuple[str, ...]


def match_capture(
    subgraph: Subgraph,
    specs: Sequence[InputSpec],
    tensors: Sequence[Recorded],
    *,
    same_file: bool,
    sizes: Mapping[int, int],
) -> MatchedCapture:
    """Find the recorded counterpart of every activation and input.

    Args:
        subgraph: The subgraph of the traced file.
        specs: Its inputs with all their names.
        tensors: The recording.
        same_file: True if the recording is of the same subgraph, so that indices agree.
        sizes: The number of values of each tensor, where the file may state another.
    """
    entries = _entries(subgraph, specs, sizes, trusted=not same_file)
    pairing = _by_index(entries, tensors, everything=same_file)
    rest = [e for e in entries if e.key not in pairing.pairs]
    taken = {number for number, _ in pairing.pairs.values()}
    if same_file:
        reasons = {e.key: "it is not in the recording" for e in rest} | {**pairing.reasons}
        found = Pairing(pairing.pairs, reasons)
    else:
        more = pair_entries(rest, [entry_of(r) for r in tensors if r.number not in taken])
        found = Pairing({**pairing.pairs, **more.pairs}, more.reasons)
    return _matched(subgraph, tensors, found)


def _entries(
    subgraph: Subgraph, specs: Sequence[InputSpec], sizes: Mapping[int, int], *, trusted: bool
) -> list[Entry]:
    """Return inputs and activations of the traced file in execution order.

    Args:
        subgraph: The subgraph of the traced file.
        specs: Its inputs.
        sizes: As for `match_capture`.
        trusted: True to use the sizes that the file states; some files state other sizes than they
            compute.
    """
    producers, others = subgraph.producers, subgraph.non_activations
    dynamic = any(-1 in _of_one_sample(spec.tensor) for spec in specs)
    entries = []
    for index in (*subgraph.inputs, *producers):
        if index in others and index not in subgraph.inputs:
            continue
        tensor, op = subgraph.tensors[index], producers.get(index)
        names = [tensor.name, *(n for s in specs if s.tensor.index == index for n in s.names)]
        elements = sizes.get(index, tensor.elements if trusted and not dynamic else None)
        kind = op.kind if op else INPUT
        entries.append(Entry(index, tuple(names), op.index if op else -1, kind, elements))
    return entries


def _of_one_sample(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's shape for one sample; a batch of unknown size runs as a batch of one."""
    return tensor.shape_signature[1:] if tensor.shape[:1] == (1,) else tensor.shape_signature


def _by_index(entries: Sequence[Entry], tensors: Sequence[Recorded], everything: bool) -> Pairing:
    """Pair all tensors by index, or only the recorded ones without a name."""
    by_index = {r.index: r for r in tensors if r.index is not None and (everything or not r.name)}
    pairs: dict[int, tuple[int, str]] = {}
    reasons: dict[int, str] = {}
    for entry in entries:
        found = by_index.get(entry.key)
        if found is None:
            continue
        if _fits(entry, entry_of(found)):
            pairs[entry.key] = (found.number, "index")
        else:
            reasons[entry.key] = (
                f"recorded with {found.elements} values per sample, expected {entry.elements}"
            )
    return Pairing(pairs, reasons)


def _matched(subgraph: Subgraph, tensors: Sequence[Recorded], pairing: Pairing) -> MatchedCapture:
    recorded: dict[int, Recorded] = {}
    matches: dict[int, Match] = {}
    reasons = dict(pairing.reasons)
    for index, (number, rule) in pairing.pairs.items():
        misfit = _misfit(subgraph.tensors[index], tensors[number])
        if misfit is not None:
            reasons[index] = misfit
            continue
        recorded[index] = tensors[number]
        matches[index] = match_of(subgraph.tensors[index], tensors[number], rule)
    matches, notes = _judged(matches)
    unmatched = {i: Unmatched(i, reason) for i, reason in reasons.items()}
    inputs = tuple(range(len(subgraph.inputs)))
    return MatchedCapture(Matching(matches, unmatched, inputs), recorded, notes)


def _misfit(tensor: Tensor, recorded: Recorded) -> str | None:
    """Return why recorded values cannot be those of a tensor, or None if they can."""
    if tensor.lsb is None or recorded.is_float or recorded.scale is not None:
        return None
    if recorded.type == tensor.type:
        return None
    return (
        f"recorded as {recorded.type.lower()} without a scale, expected {tensor.type.lower()} "
        "codes or float values in real units"
    )


def match_of(tensor: Tensor, recorded: Recorded, rule: str) -> Match:
    """Return the match of a tensor with its recorded counterpart, their parameters compared."""
    label, parameters = recorded.label, "none"
    expected = None
    affine = recorded.affine
    if affine is not None and tensor.lsb is not None and tensor.type == recorded.type:
        expected = (affine.scale, affine.zero_point)
        parameters = "equal" if same_parameters(tensor, expected) else "differ"
    names = (label,)
    return Match(
        tensor.index, label, label, names, names, rule, _CONFIDENCE[rule], parameters, expected
    )


def _judged(matches: dict[int, Match]) -> tuple[dict[int, Match], tuple[str, ...]]:
    """Drop the comparison of parameters if the recording is of another calibration.

    That is the case if fewer than half of the parameters are equal; then single ones are no fault.
    """
    equal = sum(m.parameters == "equal" for m in matches.values())
    differ = sum(m.parameters == "differ" for m in matches.values())
    if equal >= differ:
        return matches, ()
    note = (
        f"{differ} of {equal + differ} scales and zero points differ from the recording's: it was "
        "made with a file of another calibration, so that parameters are not compared"
    )
    blank = {i: replace(m, parameters="none", expected=None) for i, m in matches.items()}
    return blank, (note,)


def check_recorded_model(
    path: str, tensors: Sequence[Recorded], matched: MatchedCapture, subgraph: Subgraph
) -> None:
    """Check that a recording has enough tensors in common with the file.

    Raises:
        MatchError: Fewer than a third of the activations, and of the recorded tensors, have a
            counterpart.
    """
    others = subgraph.non_activations
    written = [i for i in subgraph.producers if i not in others]
    found = sum(i in matched.recorded for i in written)
    if not found or 3 * found < min(len(written), len(tensors)):
        reason = next((u.reason for u in matched.matching.unmatched.values()), "it is empty")
        raise MatchError(
            f"'{path}' is not a recording of this model: {found} of the {len(written)} tensors "
            f"that its operators write have a counterpart among the {len(tensors)} recorded ones "
            f"({reason})",
            hint="record the same model, and name the tensors as the .tflite file does",
        )
