"""Check every match that would accuse an operator, by the values of a few samples, before it does.

A match is a claim.  Where an operator's own error is beyond its bound, either the operator is wrong
or the claim is.  An operator's error reaches those that read it; if these agree with the reference
once the claim is given up or another node is taken, and no other operator is accused instead, then
the claim was wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.judge import Judge
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.scales import without_refuted, wrong_scales
from tfldbg.graph.query import activation_inputs, non_activations
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.ports import pair_outputs
from tfldbg.match.proposals import Changes, Proposals, changed, holds
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
    failing: Mapping[int, str]
    """By tensor why its segment yields nothing to compare it with."""
    errors: Mapping[int, float]
    """By tensor its own error, RMSE over the RMS of the reference."""

    @property
    def in_doubt(self) -> frozenset[int]:
        """Tensors that are accused, or that the reference computes from more than is read."""
        return self.accused | self.relation.beyond

    def better_than(self, other: Claims) -> bool:
        """Whether fewer operators are accused or unchecked, and none that was not before.

        Where these are the same, fewer may be computed from more than they read.
        """
        if not (self.accused <= other.accused and self.unchecked <= other.unchecked):
            return False
        if self.accused < other.accused or self.unchecked < other.unchecked:
            return True
        return self.relation.beyond < other.relation.beyond


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
        measured = self._few.measured(local)
        evidence = without_refuted(collect(self._job.loaded, self._run, relation, measured))
        judge = Judge(Thresholds(), wrong_scales(evidence), {}, "keras")
        accused = {o.tensor for o in evidence.ops if judge.is_accused(o)}
        accused |= {i for i, n in self._outputs.items() if not holds(matching.matches.get(i), n)}
        covered = evidence.covered | {o.op for o in evidence.ops if o.tensor in failing}
        telling = ({o.op, *o.joint} for o in evidence.ops if judge.tells(o))
        return Claims(
            matching,
            relation,
            segments,
            accused=frozenset(accused | failing.keys()),
            unchecked=frozenset(o.op for o in evidence.ops if o.activation and o.op not in covered),
            telling=frozenset().union(*telling),
            failing=failing,
            errors={i: stats.relative_rmse for i, stats in measured.local.items()},
        )

    @cached_property
    def _run(self) -> Run:
        return replace(describe(self._job, True, {}), reference_kind="keras")

    def verified(self, claims: Claims) -> Claims:
        """Return the claims that are left when those that values refute are given up."""
        for _ in range(_ROUNDS):
            if not claims.in_doubt and not claims.unchecked:
                return claims
            better = next(self._better(claims), None)
            if better is None:
                break
            claims = better
        return self._computable(claims)

    def _better(self, claims: Claims) -> Iterator[Claims]:
        """Yield claims that accuse less, the boldest first."""
        proposals = self._proposals(claims)
        renamed = {t: c for t, c in proposals.items() if isinstance(c, Match)}
        for changes in (proposals, renamed) if renamed else (proposals,):
            tried = self._tried(claims, changes)
            if tried is not None:
                yield tried
        found = claims
        for tensor in sorted(claims.in_doubt & proposals.keys())[:_MOST_ALONE]:
            found = self._tried(found, {tensor: proposals[tensor]}) or found
        if found is not claims:
            yield found

    def _tried(self, claims: Claims, changes: Changes) -> Claims | None:
        """Return what follows from other matches, None where that is no better.

        A match may only be given up if what is checked in its place agrees with the reference, and
        would not if the operator were wrong: its error is still there, at those that read it.
        """
        if not changes:
            return None
        tried = self._with(claims, changes)
        given_up = [i for i, c in changes.items() if isinstance(c, Unmatched)]
        sound = all(self._is_refuted(i, claims, tried) for i in given_up)
        return tried if sound and tried.better_than(claims) else None

    def _is_refuted(self, tensor: int, claims: Claims, tried: Claims) -> bool:
        """Whether the error of a match that was given up is gone at those that read the tensor."""
        operators = {o.index for o in self._job.subgraph.operators if tensor in o.outputs}
        joint = tried.relation.joint
        instead = [i for i, together in joint.items() if not operators.isdisjoint(together)]
        left = max((tried.errors.get(i, 0.0) for i in instead), default=0.0)
        gone = tensor not in claims.errors or left <= _GONE * claims.errors[tensor]
        return operators <= tried.telling and gone and tried.accused.isdisjoint(instead)

    def _with(self, claims: Claims, changes: Changes) -> Claims:
        matching = changed(claims.matching, changes, self._job.subgraph, self._frozen.graph)
        return self.claims(matching)

    def _computable(self, claims: Claims) -> Claims:
        """Give up the matches whose segments yield nothing that could be compared."""
        changes = {k: Unmatched(k, reason) for k, reason in claims.failing.items()}
        return self._with(claims, changes) if changes else claims

    def _proposals(self, claims: Claims) -> dict[int, Match | Unmatched]:
        """Return other matches for what is accused, and for what is unchecked or feeds it."""
        tensors, few = self._job.subgraph.tensors, self._few
        in_doubt, feeding = self._open(claims)
        values = few.between(claims.matching, (*in_doubt, *feeding))
        proposals = Proposals(
            self._job.subgraph, self._outputs, self._frozen.graph, claims.matching
        )
        found: dict[int, Match | Unmatched] = {}
        for index in in_doubt:
            check = claims.relation.checks.get(index)
            proposed = proposals.of(
                tensors[index],
                few.held(index),
                few.beside(index, values),
                other_weights=check is not None and check.differ,
            )
            if proposed is not None:
                found[index] = proposed
        for index in feeding:
            widened = proposals.widened(tensors[index], values)
            if widened is not None:
                found[index] = widened
        return found

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
