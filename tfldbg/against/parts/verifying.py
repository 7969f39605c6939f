"""Verify matches that would accuse an operator, by the values of a few samples.

A match is a claim.  If an operator's local error is beyond its bound, either the operator or the
claim is wrong.  An operator's error reaches its readers; if they agree with the reference once the
claim is withdrawn or another node is taken, and no other operator is accused instead, then the
claim was wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.against.parts.doubts import Doubts
from tfldbg.graph.query import stored
from tfldbg.match.kinds import CARRIED, DIVIDING, HANDED_ON
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.settle import AFFINE
from tfldbg.rewrite.emit import is_real

if TYPE_CHECKING:
    from tfldbg.against.parts.claims import Claimer, Claims
    from tfldbg.against.parts.few import FewSamples
    from tfldbg.graph.model import Operator
    from tfldbg.match.proposals import Changes
    from tfldbg.reference.evaluate import Frozen
    from tfldbg.run.job import Job

_ROUNDS = 4
_MOST_ALONE = 24
"""The number of accusations that are tried one by one in a round, each with its own graph."""
_GONE = 0.1
"""Share of an operator's error that may be left at its consumers: rounding, where it is of another
origin, stays far below, and what they inherit far above."""
_MOST_PARTS = 4
"""The number of parts of a divided tensor that are exchanged in pairs."""
_HIDING = frozenset(
    {
        *("ARG_MAX", "ARG_MIN", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"),
        *("GATHER", "GATHER_ND", "RELU", "SELECT", "SELECT_V2", "SLICE", "STRIDED_SLICE"),
        *("CEIL", "FLOOR", "ONE_HOT", "ROUND", "SIGN", "TOPK_V2"),
        *("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"),
    }
)
"""Operators whose output may be the same although a value of their inputs differs."""
_PRODUCTS = frozenset({"BATCH_MATMUL", "MUL"})


class MatchVerifier:
    """Tries matches on a few samples.

    Args:
        job: The TFLite side.
        frozen: The reference.
        few: Runs both sides on these samples.
        claimer: Makes claims from matchings.
    """

    def __init__(self, job: Job, frozen: Frozen, few: FewSamples, claimer: Claimer) -> None:
        self._subgraph = job.subgraph
        self._few = few
        self._claimer = claimer
        self._doubts = Doubts(job, frozen, few, claimer)

    def verified(self, claims: Claims) -> Claims:
        """Return the claims without those that values refute."""
        for _ in range(_ROUNDS):
            if not claims.in_doubt and not claims.unchecked:
                return claims
            better = next(self._better(claims), None)
            if better is None:
                break
            claims = better
        return self._computable(self._exchanged(self._claimed_twice(claims)))

    def _better(self, claims: Claims) -> Iterator[Claims]:
        """Yield claims that accuse less, those with the most changes first."""
        proposals = self._doubts.proposals(claims)
        renamed = {t: c for t, c in proposals.items() if isinstance(c, Match)}
        certain = {t: c for t, c in proposals.items() if isinstance(c, Unmatched) and c.certain}
        for changes in (proposals, renamed | certain, certain, renamed):
            tried = self._tried(claims, changes)
            if tried is not None:
                doubtful = tried.accused - self._claimer.ends.keys()
                helping = {t: c for t, c in changes.items() if t not in doubtful}
                alone = self._tried(claims, helping) if helping.keys() < changes.keys() else None
                yield alone or tried
        found = claims
        for tensor in sorted(claims.in_doubt & proposals.keys())[:_MOST_ALONE]:
            found = self._tried(found, {tensor: proposals[tensor]}) or found
        if found is not claims:
            yield found
            return
        tried = self._tried(claims, self._doubts.after(claims)) if claims.accused else None
        if tried is not None:
            yield tried

    def _tried(self, claims: Claims, changes: Changes) -> Claims | None:
        """Return the claims with other matches, None if they are not better.

        A match may only be withdrawn if the tensors checked instead agree with the reference, and
        would not if the operator were wrong, since its error reaches its readers.  A match that the
        tensor's own values contradict may always be withdrawn.
        """
        if not changes:
            return None
        tried = self._claimer.changed(claims, changes)
        given_up = [c for c in changes.values() if isinstance(c, Unmatched)]
        if not all(self._is_refuted(c, claims, tried) for c in given_up):
            return None
        if any(self._may_hide(tensor, changes, claims, tried) for tensor in changes):
            return None
        doubtful = changes.keys() - self._claimer.ends.keys()
        if tried.accused < claims.accused and not tried.better_than(claims, doubtful):
            # Tensors that remain unchecked, or their inputs, may match another node.
            more = self._doubts.proposals(tried)
            tried = self._claimer.changed(
                tried, {t: c for t, c in more.items() if t not in tried.accused}
            )
        return tried if tried.better_than(claims, doubtful) else None

    def _is_refuted(self, given_up: Unmatched, claims: Claims, tried: Claims) -> bool:
        """Return whether the error of a withdrawn match is gone at the readers of the tensor.

        A consumer that may hide an error, and agrees with the reference whether the match is given
        up or not, tells nothing.
        """
        tensor = given_up.tensor
        operators = {self._subgraph.producers[tensor].index}
        joint = tried.relation.joint
        instead = [i for i, together in joint.items() if not operators.isdisjoint(together)]
        if not tried.accused.isdisjoint(instead):
            return given_up.certain  # a reader of the tensor is accused instead
        if tensor in claims.accused and self._is_hidden(tensor, instead, claims, tried):
            return False
        if not given_up.certain and not operators <= tried.telling:
            return False
        known = tensor in claims.errors and tensor in claims.accused
        left = max((tried.errors.get(i, 0.0) for i in instead), default=0.0)
        return not known or left <= _GONE * claims.errors[tensor]

    def _is_hidden(
        self, tensor: int, consumers: Iterable[int], claims: Claims, tried: Claims
    ) -> bool:
        """Return whether all readers of a tensor may hide its error, and agree."""
        little = _GONE * claims.errors.get(tensor, 0.0)
        moved = (claims.errors.get(i, np.inf) - tried.errors.get(i, 0.0) for i in consumers)
        operators = (self._subgraph.producers[i] for i in consumers)
        hiding = all(o.kind in _HIDING or self._is_times_zero(tensor, o) for o in operators)
        return hiding and all(by <= little for by in moved)

    def _is_times_zero(self, tensor: int, op: Operator) -> bool:
        """Return whether an operator multiplies a tensor only by zeros."""
        if op.kind not in _PRODUCTS:
            return False
        others = (i for i in op.inputs if i != tensor and i in self._few.readable)
        return any(not self._few.held(i).any() for i in others)

    def _may_hide(self, tensor: int, changes: Changes, claims: Claims, tried: Claims) -> bool:
        """Return whether a tensor lacks a constant that its match has, and no reader shows it.

        A reader without constants cannot add the missing one.
        """
        change, known = changes[tensor], claims.matching.matches.get(tensor)
        if isinstance(change, Unmatched) or known is None or tensor not in claims.accused:
            return False
        proposals, held = self._doubts.proposing(claims), self._subgraph.tensors[tensor]
        same = self._handed_on(tensor)
        same |= {i for i, match in tried.matching.matches.items() if match.raw == change.raw}
        cuts = {k: same.intersection(s.cuts.values()) for k, s in tried.segments.items()}
        consumers = [k for k in cuts.keys() - same if cuts[k]]
        if not proposals.lacking(held, change.raw, known) & AFFINE:
            return False
        adds = any(self._has_constant(k, tried) for k in consumers)
        if not adds or self._is_hidden(tensor, consumers, claims, tried):
            return True
        wrong = tried.accused.intersection(consumers)
        if not wrong:
            return False
        kept = self._claimer.changed(claims, {i: c for i, c in changes.items() if i != tensor})
        return not wrong <= kept.accused | kept.blind  # agrees with the constant kept

    def _has_constant(self, tensor: int, claims: Claims) -> bool:
        """Return whether the operators checked by a tensor read a constant of the network."""
        subgraph = self._subgraph
        together = claims.relation.joint.get(tensor) or (self._subgraph.producers[tensor].index,)
        given = {i for n in together for i in subgraph.operators[n].inputs if i >= 0}
        constants = (stored(subgraph, i) for i in given)
        return any(t is not None and is_real(t) for t in constants)

    def _handed_on(self, tensor: int) -> set[int]:
        """Return a tensor and those that hold its values in the same order."""
        found = {tensor}
        for op in self._subgraph.operators:
            if op.kind in HANDED_ON and op.inputs[0] in found:
                found.update(op.outputs)
        return found

    def _claimed_twice(self, claims: Claims) -> Claims:
        """Accuse operators together whose outputs are matched with the same node.

        Any of them may be wrong, or none: if an accused tensor and one computed from it have the
        same match, only one of the two claims can be right.
        """
        matches = claims.matching.matches
        misled: dict[str, list[int]] = {}
        for index in sorted(claims.accused & matches.keys()):
            misled.setdefault(matches[index].raw, []).append(index)
        for raw, tensors in misled.items():
            last = self._last(raw, claims.matching)
            if last is None or last in claims.accused:
                continue
            end = self._subgraph.producers[last]
            reason = (
                f"'{raw}' is computed by this operator and operator {end.index} {end.kind} "
                "together, and both are checked there"
            )
            changes = {i: Unmatched(i, reason) for i in tensors}
            sound = self._tried(claims, changes)
            tried = sound or self._claimer.changed(claims, changes)
            if sound or tried.accused == claims.accused - set(tensors) | {last}:
                claims = tried
        return claims

    def _last(self, raw: str, matching: Matching) -> int | None:
        """Return the last tensor that an operator computes as a node, None if there is none."""
        found = [(i, matching.matches.get(i)) for i in self._subgraph.producers]
        own = [i for i, m in found if m is not None and m.raw == raw and m.rule != CARRIED]
        return own[-1] if own else None

    def _exchanged(self, claims: Claims) -> Claims:
        """Accuse an operator that divides a tensor instead of all readers of two of its parts."""
        for op in self._subgraph.operators if len(claims.accused) > 1 else ():
            if op.kind not in DIVIDING:
                continue
            misled = (self._subgraph.producers[i] for i in claims.accused)
            read = {i for consumer in misled for i in consumer.inputs}
            parts = [i for i in op.outputs if i in read & claims.matching.matches.keys()]
            for one, other in itertools.combinations(parts[:_MOST_PARTS], 2):
                tried = self._claimer.changed(claims, _exchange(claims.matching, one, other))
                before, after = self._accused(claims), self._accused(tried)
                if len(after) < len(before) and after - before <= {op.index}:
                    claims = tried
                    break
        return claims

    def _accused(self, claims: Claims) -> set[int]:
        """Return the operators that write accused tensors."""
        return {self._subgraph.producers[i].index for i in claims.accused}

    def _computable(self, claims: Claims) -> Claims:
        """Withdraw the matches whose segments compute nothing that could be compared.

        Their readers are then computed from tensors before them, which may also fail.
        """
        while claims.failing:
            changes = {k: Unmatched(k, reason) for k, reason in claims.failing.items()}
            claims = self._claimer.changed(claims, changes)
        return claims


def _exchange(matching: Matching, one: int, other: int) -> Changes:
    """Return the matches of two tensors, exchanged."""
    matches = matching.matches
    return {one: replace(matches[other], tensor=one), other: replace(matches[one], tensor=other)}
