"""Match recorded tensors with those of a file, or of another recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tfldbg.errors import MatchError
from tfldbg.graph.query import non_activations, producers
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
    """One tensor of either side, as far as matching looks at it."""

    key: int
    names: tuple[str, ...]
    """The tensor's own name and every other it goes by."""
    operator: int | None
    """Who writes it, -1 for an input of the model, None where nobody says."""
    kind: str | None
    elements: int | None
    """Values of one sample; None where that is known only when it runs."""

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the model."""
        return self.operator == -1 or self.kind == INPUT


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which tensor is which."""

    pairs: Mapping[int, tuple[int, str]]
    """Key of one side to the key of the other and the rule: ``index``, ``name``, ``order`` (of
    the operators) or ``input``."""
    reasons: Mapping[int, str]
    """Key of one side to why it has no counterpart."""


def pair_entries(ours: Sequence[Entry], theirs: Sequence[Entry]) -> Pairing:
    """Pair tensors by name, then inputs by size, then operators by their order.

    Args:
        ours: The side whose every tensor gets a pair or a reason.
        theirs: The recording.
    """
    pairer = _Pairer(ours, theirs)
    for forms in (_exact, _plain, _unnumbered):
        pairer.by_name(forms)
    pairer.inputs()
    pairer.by_order()
    return pairer.pairing()


def _exact(entry: Entry) -> frozenset[str]:
    return frozenset(name for name in entry.names if name)


def _plain(entry: Entry) -> frozenset[str]:
    """Return the names without what a converter adds around those of graph nodes."""
    return frozenset(_plain_name(name) for name in entry.names if name)


def _plain_name(name: str) -> str:
    parts = (part.strip().split(":")[0] for part in name.split(";"))
    return ";".join(part.removeprefix(_ARGUMENT).replace(_CALL, "") for part in parts)


def _unnumbered(entry: Entry) -> frozenset[str]:
    """Return the plain names without the digits that a converter appends to a name it used."""
    return frozenset(stripped for name in _plain(entry) if (stripped := name.rstrip("0123456789")))


class _Pairer:
    def __init__(self, ours: Sequence[Entry], theirs: Sequence[Entry]) -> None:
        self._ours, self._theirs = ours, theirs
        self._open = {e.key: e for e in ours}
        self._free = {e.key: e for e in theirs}
        self._pairs: dict[int, tuple[int, str]] = {}
        self._misfits: dict[int, str] = {}

    def by_name(self, forms: Callable[[Entry], frozenset[str]]) -> None:
        """Pair what goes by the same name, if only one tensor of each side does."""
        mine, other = _unique(self._open.values(), forms), _unique(self._free.values(), forms)
        for name, entry in mine.items():
            found = other.get(name)
            if found is None or entry.key not in self._open or found.key not in self._free:
                continue
            if _fits(entry, found):
                self._settle(entry, found, "name")
            else:
                self._misfits[entry.key] = (
                    f"the recording's '{name}' has {found.elements} values a sample, expected "
                    f"{entry.elements}"
                )

    def inputs(self) -> None:
        """Pair inputs that are left, if there is one of their size on each side."""
        for entry in [e for e in self._open.values() if e.is_input]:
            mine = [e for e in self._open.values() if e.is_input and _fits(e, entry)]
            other = [e for e in self._free.values() if e.is_input and _fits(entry, e)]
            if len(mine) == len(other) == 1:
                self._settle(entry, other[0], "input")

    def by_order(self) -> None:
        """Pair operators between those that are paired, where as many of the same kind stand."""
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
        """Return what was found."""
        missing = "the recording holds no tensor of that name, nor operators in the same order"
        reasons = {key: self._misfits.get(key, missing) for key in self._open}
        return Pairing(self._pairs, reasons)


def _unique(entries: Iterable[Entry], forms: Callable[[Entry], frozenset[str]]) -> dict[str, Entry]:
    """Map each name to the one entry that goes by it."""
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
    """Return a recorded tensor as `pair_entries` takes it."""
    names = (recorded.name,) if recorded.name else ()
    return Entry(recorded.number, names, recorded.operator, recorded.kind, recorded.elements)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedCapture:
    """A file and a recording."""

    matching: Matching
    recorded: Mapping[int, Recorded]
    """By tensor of the file its recorded counterpart."""
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
        subgraph: Of the traced file.
        specs: Its inputs with every name they go by.
        tensors: The recording.
        same_file: Whether the recording is of this very subgraph, so that indices mean the same.
        sizes: By tensor how many values it has, where that is known better than from the file.
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
    """Return inputs and activations of the traced file in the order in which they are written.

    Args:
        subgraph: Of the traced file.
        specs: Its inputs.
        sizes: As for `match_capture`.
        trusted: Whether the sizes that the file states count; some files state others than they
            compute.
    """
    writers, others = producers(subgraph), non_activations(subgraph)
    dynamic = any(-1 in _of_one_sample(spec.tensor) for spec in specs)
    entries = []
    for index in (*subgraph.inputs, *writers):
        if index in others and index not in subgraph.inputs:
            continue
        tensor, op = subgraph.tensors[index], writers.get(index)
        names = [tensor.name, *(n for s in specs if s.tensor.index == index for n in s.names)]
        elements = sizes.get(index, tensor.elements if trusted and not dynamic else None)
        kind = op.kind if op else INPUT
        entries.append(Entry(index, tuple(names), op.index if op else -1, kind, elements))
    return entries


def _of_one_sample(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's shape for one sample; a batch of unknown size runs as a batch of one."""
    return tensor.shape_signature[1:] if tensor.shape[:1] == (1,) else tensor.shape_signature


def _by_index(entries: Sequence[Entry], tensors: Sequence[Recorded], everything: bool) -> Pairing:
    """Pair by index: everything, or what the recording gives no name."""
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
                f"recorded with {found.elements} values a sample, expected {entry.elements}"
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
    """Say why recorded values cannot be what a tensor holds, None where they can."""
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
    known = recorded.scale is not None and recorded.zero_point is not None
    if known and tensor.lsb is not None and tensor.type == recorded.type:
        expected = (recorded.scale or 0.0, recorded.zero_point or 0)
        parameters = "equal" if same_parameters(tensor, expected) else "differ"
    names = (label,)
    return Match(
        tensor.index, label, label, names, names, rule, _CONFIDENCE[rule], parameters, expected
    )


def _judged(matches: dict[int, Match]) -> tuple[dict[int, Match], tuple[str, ...]]:
    """Drop the comparison of parameters where the recording is of another calibration.

    It is if fewer than half of the parameters are equal; then no single one is a fault.
    """
    equal = sum(m.parameters == "equal" for m in matches.values())
    differ = sum(m.parameters == "differ" for m in matches.values())
    if equal >= differ:
        return matches, ()
    note = (
        f"{differ} of {equal + differ} scales and zero points are not the recording's: it was made "
        "with a file that was calibrated differently, so that parameters are not compared"
    )
    blank = {i: replace(m, parameters="none", expected=None) for i, m in matches.items()}
    return blank, (note,)


def check_same_model(
    path: str, tensors: Sequence[Recorded], matched: MatchedCapture, subgraph: Subgraph
) -> None:
    """Refuse a recording that has hardly anything in common with the file.

    Raises:
        MatchError: Fewer than a third of the activations, and of what was recorded, have a
            counterpart.
    """
    others = non_activations(subgraph)
    written = [i for i in producers(subgraph) if i not in others]
    found = sum(i in matched.recorded for i in written)
    if not found or 3 * found < min(len(written), len(tensors)):
        reason = next((u.reason for u in matched.matching.unmatched.values()), "it is empty")
        raise MatchError(
            f"'{path}' is no recording of this model: {found} of the {len(written)} tensors that "
            f"its operators write have a counterpart among the {len(tensors)} recorded ones "
            f"({reason})",
            hint="record the same model, and name the tensors as the .tflite file does",
        )
