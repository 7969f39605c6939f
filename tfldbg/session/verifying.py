"""Check every match that would accuse an operator, by the values of a few samples, before it does.

A match is a claim.  Where an operator's own error is beyond its bound, either the operator is wrong
or the claim is.  An operator's error reaches those that read it; if these agree with the reference
once the claim is given up or another node is taken, and no other operator is accused instead, then
the claim was wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.against.plan import NOTHING_BETWEEN
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.judge import Judge
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.scales import without_refuted, wrong_scales
from tfldbg.graph.query import activation_inputs, non_activations, producers, stored
from tfldbg.match.kinds import CARRIED, COMPUTING, DIVIDING, HANDED_ON
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.ports import pair_outputs
from tfldbg.match.proposals import Change, Changes, Proposals, Values, changed, holds
from tfldbg.match.settle import AFFINE
from tfldbg.reference.evaluate import cuts_met
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, node_of
from tfldbg.rewrite.emit import is_real
from tfldbg.session.describe import describe

if TYPE_CHECKING:
    from tfldbg.compare.against.few import FewSamples
    from tfldbg.compare.against.keras import KerasReference, KerasRelations
    from tfldbg.compare.relation import Relation
    from tfldbg.diagnose.evidence import Run
    from tfldbg.reference.evaluate import Frozen, Segment
    from tfldbg.run.job import Job

_ROUNDS = 4
_MOST_ALONE = 24
"""Accusations that are tried one by one in a round; each costs a small graph of its own."""


_GONE = 0.1
"""Share of an operator's error that may be left at its readers: rounding, where it is of another
origin, stays far below, and what they inherit far above."""
_MOST_PARTS = 4
"""Parts of a divided tensor that are exchanged two by two."""
_HIDING = frozenset(
    {
        *("ARG_MAX", "ARG_MIN", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"),
        *("GATHER", "GATHER_ND", "RELU", "SELECT", "SELECT_V2", "SLICE", "STRIDED_SLICE"),
        *("CEIL", "FLOOR", "ONE_HOT", "ROUND", "SIGN", "TOPK_V2"),
        *("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"),
    }
)
"""Operators whose output may be the same although a value that they read is another."""
_NOT_COMPUTED = "the reference cannot compute it from the values that its operator had"
_ANOTHER_SIZE = "the reference makes another number of values of what its operator had"


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """A matching and what follows from it on a few samples."""

    matching: Matching
    relation: Relation
    segments: Mapping[int, Segment]
    accused: frozenset[int]
    """Tensors whose own error is beyond the bound of their operator, and outputs of the file that
    are matched with something else than the reference's outputs."""
    unchecked: frozenset[int]
    """Operators that nothing checks, of those that compute activations."""
    telling: frozenset[int]
    """Operators that a check covers which does not hide a large error."""
    blind: frozenset[int]
    """What the unchecked operators write."""
    failing: Mapping[int, str]
    """By tensor why its segment yields nothing to compare it with."""
    errors: Mapping[int, float]
    """By tensor its own error, RMSE over the RMS of the reference."""
    wrong: Mapping[int, tuple[int, float]]
    """By accused tensor on how many channels it is beyond the bound, and its error."""

    @property
    def in_doubt(self) -> frozenset[int]:
        """Tensors that are accused, or that the reference computes from more than is read."""
        return self.accused | self.relation.beyond

    def better_than(self, other: Claims, doubtful: AbstractSet[int]) -> bool:
        """Whether fewer operators are in doubt or unchecked, and none is that was not before.

        One that nothing checked may be accused in place of another, unless by a match that is in
        doubt itself.

        Args:
            other: The claims before.
            doubtful: Tensors whose matches were proposed and may be wrong.
        """
        known = self.accused <= other.accused
        instead = self.accused - (other.blind - doubtful) < other.accused
        if not (known or instead) or not self.unchecked <= other.unchecked:
            return False
        return self.in_doubt < other.in_doubt or self.unchecked < other.unchecked


class Verifier:
    """Tries matches on a few samples.

    Args:
        job: The TFLite side.
        frozen: The reference.
        relations: Makes segments of a matching.
        few: Computes them.
    """

    def __init__(
        self, job: Job, frozen: Frozen, relations: KerasRelations, few: FewSamples
    ) -> None:
        self._job = job
        self._frozen = frozen
        self._relations = relations
        self._few = few
        self._writers = producers(job.subgraph)
        self._outputs = pair_outputs(job.subgraph, job.loaded.signature, frozen)

    def claims(self, matching: Matching, reference: KerasReference | None = None) -> Claims:
        """Return what follows from a matching.

        Args:
            matching: It.
            reference: Its reference, where there is one already.
        """
        relation, segments = self._relations.relate(matching)
        local = self._few.local(segments, reference)
        failing = {
            k: _NOT_COMPUTED if values is None else _ANOTHER_SIZE
            for k, values in local.items()
            if values is None or not self._few.fits(k, values)
        }
        own = self._few.own(relation.joint)
        measured = self._few.measured(local, own)
        related = replace(relation, unrounded_before=frozenset(own))
        evidence = without_refuted(collect(self._job.loaded, self._run, related, measured))
        judge = Judge(Thresholds(), wrong_scales(evidence), {}, "keras")
        accused = {o.tensor for o in evidence.ops if judge.is_accused(o)}
        errors = {i: stats.relative_rmse for i, stats in measured.local.items()}
        beyond = {o.tensor: judge.channels_beyond(o) for o in evidence.ops if o.tensor in accused}
        accused |= {i for i, n in self._outputs.items() if not holds(matching.matches.get(i), n)}
        covered = evidence.covered | {o.op for o in evidence.ops if o.tensor in failing}
        telling = ({o.op, *o.joint} for o in evidence.ops if judge.tells(o))
        unchecked = [o for o in evidence.ops if o.activation and o.op not in covered]
        return Claims(
            matching,
            relation,
            segments,
            accused=frozenset(accused | failing.keys()),
            unchecked=frozenset(o.op for o in unchecked),
            blind=frozenset(o.tensor for o in unchecked),
            telling=frozenset().union(*telling),
            failing=failing,
            errors=errors,
            wrong={i: (channels, errors.get(i, np.inf)) for i, channels in beyond.items()},
        )

    @cached_property
    def _run(self) -> Run:
        return replace(describe(self._job, True, {}), reference_kind="keras")

    @cached_property
    def _ends(self) -> dict[int, str]:
        """By tensor the output of the reference that it is, converted to float perhaps."""
        found = dict(self._outputs)
        for op in reversed(self._job.subgraph.operators):
            if op.kind in ("DEQUANTIZE", "QUANTIZE") and op.outputs[0] in found:
                found[op.inputs[0]] = found[op.outputs[0]]
        return found

    def verified(self, claims: Claims) -> Claims:
        """Return the claims that are left when those that values refute are given up."""
        for _ in range(_ROUNDS):
            if not claims.in_doubt and not claims.unchecked:
                return claims
            better = next(self._better(claims), None)
            if better is None:
                break
            claims = better
        return self._computable(self._exchanged(self._claimed_twice(claims)))

    def _better(self, claims: Claims) -> Iterator[Claims]:
        """Yield claims that accuse less, the boldest first."""
        proposals = self._proposals(claims)
        renamed = {t: c for t, c in proposals.items() if isinstance(c, Match)}
        certain = {t: c for t, c in proposals.items() if isinstance(c, Unmatched) and c.certain}
        for changes in (proposals, renamed | certain, certain, renamed):
            tried = self._tried(claims, changes)
            if tried is not None:
                doubtful = tried.accused - self._ends.keys()
                helping = {t: c for t, c in changes.items() if t not in doubtful}
                alone = self._tried(claims, helping) if helping.keys() < changes.keys() else None
                yield alone or tried
        found = claims
        for tensor in sorted(claims.in_doubt & proposals.keys())[:_MOST_ALONE]:
            found = self._tried(found, {tensor: proposals[tensor]}) or found
        if found is not claims:
            yield found
            return
        tried = self._tried(claims, self._after(claims)) if claims.accused else None
        if tried is not None:
            yield tried

    def _after(self, claims: Claims) -> Changes:
        """Return other matches for all that is computed from what is accused.

        A match that structure gave follows from those before it.  And the converter may move a
        transpose over the operators that follow: all of these hold the values of their nodes, and
        none of them in their order.
        """
        subgraph, few = self._job.subgraph, self._few
        after = set(claims.accused)
        for op in subgraph.operators:
            if not after.isdisjoint(op.inputs):
                after.update(op.outputs)
        matched = after & claims.matching.matches.keys() & few.readable
        doubted = [i for o in subgraph.operators for i in o.outputs if i in matched]
        values = few.between(claims.matching, doubted)
        proposals = self._proposing(claims)
        changes: dict[int, Match | Unmatched] = {}
        checks = claims.relation.checks
        for index in (i for i in doubted if i not in self._outputs):
            carried = claims.matching.matches[index].rule == CARRIED  # it follows what it is from
            if carried or (index in checks and checks[index].differ):
                continue  # other weights explain other values
            tensor = subgraph.tensors[index]
            proposed = proposals.after(tensor, few.held(index), few.beside(index, values))
            if proposed is None and claims.matching.matches[index].rule == "structure":
                read = (changes.get(i) for i in self._writers[index].inputs)
                proposed = proposals.following(tensor, [m for m in read if isinstance(m, Match)])
            if proposed is not None and not self._repeats(index, proposed, claims, changes):
                changes[index] = proposed
        return changes

    def _tried(self, claims: Claims, changes: Changes) -> Claims | None:
        """Return what follows from other matches, None where that is no better.

        A match may only be given up if what is checked in its place agrees with the reference, and
        would not if the operator were wrong: its error is still there, at those that read it.  One
        that the tensor's own values contradict may be given up in any case.
        """
        if not changes:
            return None
        tried = self._with(claims, changes)
        given_up = [c for c in changes.values() if isinstance(c, Unmatched)]
        if not all(self._is_refuted(c, claims, tried) for c in given_up):
            return None
        if any(self._may_hide(tensor, changes, claims, tried) for tensor in changes):
            return None
        doubtful = changes.keys() - self._ends.keys()
        if tried.accused < claims.accused and not tried.better_than(claims, doubtful):
            # What was left unchecked may hold, or read, what another node holds as well.
            more = self._proposals(tried)
            tried = self._with(tried, {t: c for t, c in more.items() if t not in tried.accused})
        return tried if tried.better_than(claims, doubtful) else None

    def _is_refuted(self, given_up: Unmatched, claims: Claims, tried: Claims) -> bool:
        """Whether the error of a match that was given up is gone at those that read the tensor.

        A reader that may hide an error, and agrees with the reference whether the match is given up
        or not, tells nothing.
        """
        tensor = given_up.tensor
        operators = {self._writers[tensor].index}
        joint = tried.relation.joint
        instead = [i for i, together in joint.items() if not operators.isdisjoint(together)]
        if not tried.accused.isdisjoint(instead):
            return given_up.certain  # what reads the tensor is accused in its place
        if tensor in claims.accused and self._is_hidden(tensor, instead, claims, tried):
            return False
        if not given_up.certain and not operators <= tried.telling:
            return False
        known = tensor in claims.errors and tensor in claims.accused
        left = max((tried.errors.get(i, 0.0) for i in instead), default=0.0)
        return not known or left <= _GONE * claims.errors[tensor]

    def _is_hidden(
        self, tensor: int, readers: Iterable[int], claims: Claims, tried: Claims
    ) -> bool:
        """Whether all that read a tensor hide its error: they agree with and without its match.

        So does what multiplies it by zeros.  One that was computed without the tensor's match, and
        is of no kind that hides anything, tells something.
        """
        little = _GONE * claims.errors.get(tensor, 0.0)
        graph, known = self._frozen.graph, claims.segments

        def hides(reader: int) -> bool:
            if claims.errors.get(reader, np.inf) - tried.errors.get(reader, 0.0) > little:
                return False
            agrees = reader in known and reader not in claims.accused
            return self._writers[reader].kind in _HIDING or (
                agrees and tensor in cuts_met(graph, known[reader])
            )

        return all(map(hides, readers))

    def _may_hide(self, tensor: int, changes: Changes, claims: Claims, tried: Claims) -> bool:
        """Whether a tensor lacks a constant that its match has, and nothing that reads it tells.

        What has no constant of its own adds none in its place.
        """
        change, known = changes[tensor], claims.matching.matches.get(tensor)
        if isinstance(change, Unmatched) or known is None or tensor not in claims.accused:
            return False
        proposals, held = self._proposing(claims), self._job.subgraph.tensors[tensor]
        same = self._handed_on(tensor)
        same |= {i for i, match in tried.matching.matches.items() if match.raw == change.raw}
        cuts = {k: same.intersection(s.cuts.values()) for k, s in tried.segments.items()}
        readers = [k for k in cuts.keys() - same if cuts[k]]
        if not proposals.lacking(held, change.raw, known) & AFFINE:
            return False
        adds = any(self._has_constant(k, tried) for k in readers)
        if not adds or self._is_hidden(tensor, readers, claims, tried):
            return True
        wrong = tried.wrong.keys() & set(readers)
        if not wrong:
            return False
        kept = self._with(claims, {i: c for i, c in changes.items() if i != tensor})
        return any(k in kept.errors and tried.wrong[k] >= kept.wrong.get(k, (0, 0)) for k in wrong)

    def _has_constant(self, tensor: int, claims: Claims) -> bool:
        """Whether what is checked by a tensor reads a constant of the network."""
        subgraph = self._job.subgraph
        together = claims.relation.joint.get(tensor) or (self._writers[tensor].index,)
        given = {i for n in together for i in subgraph.operators[n].inputs if i >= 0}
        constants = (stored(subgraph, i) for i in given)
        return any(t is not None and is_real(t) for t in constants)

    def _handed_on(self, tensor: int) -> set[int]:
        """Return a tensor and those that hold its values in the same order."""
        found = {tensor}
        for op in self._job.subgraph.operators:
            if op.kind in HANDED_ON and op.inputs[0] in found:
                found.update(op.outputs)
        return found

    def _with(self, claims: Claims, changes: Changes) -> Claims:
        matching = changed(claims.matching, changes, self._job.subgraph, self._frozen.graph)
        return self.claims(matching)

    def _claimed_twice(self, claims: Claims) -> Claims:
        """Accuse together the operators after which tensors are said to hold one node's values.

        Any of them may be wrong, or none: where what is accused is the match of what is computed
        from it as well, only one of both claims can be right.
        """
        matches = claims.matching.matches
        misled: dict[str, list[int]] = {}
        for index in sorted(claims.accused & matches.keys()):
            misled.setdefault(matches[index].raw, []).append(index)
        for raw, tensors in misled.items():
            last = self._last(raw, claims.matching)
            if last is None or last in claims.accused:
                continue
            end = self._writers[last]
            reason = (
                f"'{raw}' is computed by this operator and operator {end.index} {end.kind} "
                "together, and which of them is wrong shows there"
            )
            changes = {i: Unmatched(i, reason) for i in tensors}
            sound = self._tried(claims, changes)
            tried = sound or self._with(claims, changes)
            if sound or tried.accused == claims.accused - set(tensors) | {last}:
                claims = tried
        return claims

    def _last(self, raw: str, matching: Matching) -> int | None:
        """Return the last tensor that an operator computes as a node, None without one."""
        written = (i for op in self._job.subgraph.operators for i in op.outputs)
        found = [(i, matching.matches.get(i)) for i in written]
        own = [i for i, m in found if m is not None and m.raw == raw and m.rule != CARRIED]
        return own[-1] if own else None

    def _exchanged(self, claims: Claims) -> Claims:
        """Accuse an operator that divides a tensor rather than all that read two of its parts."""
        for op in self._job.subgraph.operators if len(claims.accused) > 1 else ():
            if op.kind not in DIVIDING:
                continue
            misled = (self._writers[i] for i in claims.accused)
            read = {i for reader in misled for i in reader.inputs}
            parts = [i for i in op.outputs if i in read & claims.matching.matches.keys()]
            for one, other in itertools.combinations(parts[:_MOST_PARTS], 2):
                tried = self._with(claims, _exchange(claims.matching, one, other))
                before, after = self._accused(claims), self._accused(tried)
                if len(after) < len(before) and after - before <= {op.index}:
                    claims = tried
                    break
        return claims

    def _accused(self, claims: Claims) -> set[int]:
        """Return the operators that write what is accused."""
        return {self._writers[i].index for i in claims.accused}

    def _computable(self, claims: Claims) -> Claims:
        """Give up the matches whose segments yield nothing that could be compared.

        What reads them is then computed from what lies before them, which may fail, too.
        """
        while claims.failing:
            changes = {k: Unmatched(k, reason) for k, reason in claims.failing.items()}
            claims = self._with(claims, changes)
        return claims

    def _proposals(self, claims: Claims) -> dict[int, Match | Unmatched]:
        """Return other matches for what is accused, and for what is unchecked or feeds it."""
        tensors, few = self._job.subgraph.tensors, self._few
        in_doubt, feeding = self._open(claims)
        values = few.between(claims.matching, (*in_doubt, *feeding))
        proposals = self._proposing(claims)
        found: dict[int, Match | Unmatched] = {}
        for index in in_doubt:
            if self._copies_accused(index, claims):
                continue  # it follows what it is a copy of
            check = claims.relation.checks.get(index)
            proposed = proposals.of(
                tensors[index],
                few.held(index),
                few.beside(index, values),
                other_weights=check is not None and check.differ,
                idle=claims.relation.reasons.get(index) == NOTHING_BETWEEN,
            )
            if proposed is None or self._is_other_part(index, proposed, claims):
                continue
            if self._repeats(index, proposed, claims, found):
                proposed = proposals.refuted(tensors[index])
            if proposed is not None:
                found[index] = proposed
        return found | self._widened(claims, feeding, values)

    def _is_other_part(self, tensor: int, change: Change, claims: Claims) -> bool:
        """Whether a part of a divided tensor would be matched with one in another place.

        The parts are in the same order on both sides, and have names.
        """
        op, known = self._writers.get(tensor), claims.matching.matches.get(tensor)
        if op is None or known is None or op.kind not in DIVIDING or isinstance(change, Unmatched):
            return False
        node, _, port = known.raw.partition(":")
        certain = known.rule == "name" or op.outputs.index(tensor) == int(port or 0)
        return certain and change.raw != known.raw and node_of(change.raw) == node

    def _copies_accused(self, tensor: int, claims: Claims) -> bool:
        """Whether an operator only hands on the values of a tensor that is accused itself."""
        op = self._writers.get(tensor)
        return op is not None and op.kind in HANDED_ON and op.inputs[0] in claims.accused

    def _widened(
        self, claims: Claims, feeding: Iterable[int], values: Mapping[str, Values]
    ) -> dict[int, Match]:
        """Return the matches of tensors with all that holds the same values.

        Args:
            claims: What they are.
            feeding: The tensors.
            values: By reference tensor what it holds.
        """
        proposals, tensors = self._proposing(claims), self._job.subgraph.tensors
        found = {i: proposals.widened(tensors[i], values) for i in feeding}
        return {i: match for i, match in found.items() if match is not None}

    def _repeats(self, tensor: int, change: Change, claims: Claims, changes: Changes) -> bool:
        """Whether an operator that computes something would be matched with what it reads.

        That, or what its input is computed from, may hold the same values on this data.
        """
        op = self._writers.get(tensor)
        if isinstance(change, Unmatched) or op is None or op.kind not in COMPUTING:
            return False
        given = (changes.get(i, claims.matching.matches.get(i)) for i in op.inputs)
        graph, node = self._frozen.graph, node_of(change.raw)
        copies = graph.nodes[node].op in IDENTITY_OPS | FAKE_QUANT_OPS
        return any(
            isinstance(m, Match)
            and (
                change.raw in (m.names if copies else (m.node, m.raw))
                or graph.comes_from(node_of(m.raw), node)
            )
            for m in given
        )

    def _proposing(self, claims: Claims) -> Proposals:
        graph = self._frozen.graph
        return Proposals(self._job.subgraph, self._ends, graph, claims.matching)

    def _open(self, claims: Claims) -> tuple[list[int], list[int]]:
        """Return the tensors in doubt, and those that some of them are computed from."""
        subgraph = self._job.subgraph
        readable = self._few.readable - non_activations(subgraph)
        in_doubt: dict[int, None] = {}
        feeding: dict[int, None] = {}
        for op in subgraph.operators:
            unchecked = op.index in claims.unchecked
            outputs = [i for i in op.outputs if i in readable]
            in_doubt |= dict.fromkeys(i for i in outputs if unchecked or i in claims.in_doubt)
            if unchecked or not claims.relation.beyond.isdisjoint(op.outputs):
                given = (t.index for t in activation_inputs(subgraph, op))
                feeding |= dict.fromkeys(i for i in given if i in self._few.readable)
        return list(in_doubt), [i for i in feeding if i not in in_doubt]


def _exchange(matching: Matching, one: int, other: int) -> Changes:
    """Return the matches of two tensors, each given to the other."""
    matches = matching.matches
    return {one: replace(matches[other], tensor=one), other: replace(matches[one], tensor=other)}
