"""Check every match that would accuse an operator, by the values of a few samples, before it does.

A match is a claim.  Where an operator's own error is beyond its bound, either the operator is wrong
or the claim is.  An operator's error reaches those that read it; if these agree with the reference
once the claim is given up or another node is taken, and no other operator is accused instead, then
the claim was wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, Computed, as_floats, clamped, settled
from tfldbg.compare.overlap import Crew
from tfldbg.compare.stream import run_batch
from tfldbg.compare.tally import Plan, Tally
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.judge import Judge
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.scales import without_refuted, wrong_scales
from tfldbg.errors import KerasError
from tfldbg.graph.query import activation_inputs, non_activations
from tfldbg.match.by_values import candidates
from tfldbg.match.model import Match, Matching, Unmatched
from tfldbg.match.ports import pair_outputs
from tfldbg.match.proposals import Changes, Proposals, changed, holds
from tfldbg.progress import Silent
from tfldbg.reference.evaluate import Evaluator, in_reference_order
from tfldbg.session.describe import describe

if TYPE_CHECKING:
    from tfldbg.compare.against.keras import KerasReference, KerasRelations
    from tfldbg.compare.relation import Relation
    from tfldbg.reference.evaluate import Floats, Frozen, Segment
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner

_SAMPLES = 4
_ROUNDS = 4
_MOST_ALONE = 24
"""Accusations that are tried one by one in a round; each costs a small graph of its own."""


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
    """Operators that a check covers which a large error would not pass."""

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
        inputs: For each TFLite input the number of the reference input.
        runner: The instrumented model.
        relations: Makes segments of a matching.
    """

    def __init__(
        self,
        job: Job,
        frozen: Frozen,
        inputs: tuple[int, ...],
        runner: Runner,
        relations: KerasRelations,
    ) -> None:
        self._job = job
        self._frozen = frozen
        self._inputs = inputs
        self._relations = relations
        self._plan = Plan(job.subgraph, job.exposed.taps, observed=0)
        self._batches = [
            run_batch(self._plan, job.samples, runner, numbers, Silent())
            for numbers in _numbers(job.samples.count, frozen.batch)
        ]
        self._outputs = pair_outputs(job.subgraph, job.loaded.signature, frozen)
        self._known: dict[int, tuple[Segment, list[Floats] | None]] = {}

    def claims(self, matching: Matching, reference: KerasReference | None = None) -> Claims:
        """Return what follows from a matching.

        Args:
            matching: It.
            reference: Its reference, where there is one already.
        """
        relation, segments = self._relations.relate(matching)
        if reference is not None:
            self._compute_by(reference, segments)
        self._compute({k: s for k, s in segments.items() if not self._knows(k, s)})
        local = {k: v for k in segments if (v := self._known[k][1]) is not None}
        failing = frozenset(segments) - self._fitting(local)
        evidence = without_refuted(self._evidence(relation, local))
        judge = Judge(Thresholds(), wrong_scales(evidence), {}, "keras")
        accused = {o.tensor for o in evidence.ops if judge.is_accused(o)}
        covered = evidence.covered | {o.op for o in evidence.ops if o.tensor in failing}
        open_ones = {o.op for o in evidence.ops if o.activation and o.op not in covered}
        accused |= {i for i, n in self._outputs.items() if not holds(matching.matches.get(i), n)}
        telling = (
            {o.op, *o.joint} for o in evidence.ops if o.tensor not in failing and judge.tells(o)
        )
        return Claims(
            matching,
            relation,
            segments,
            failing | accused,
            unchecked=frozenset(open_ones),
            telling=frozenset().union(*telling),
        )

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
        given_up = {i for i, c in changes.items() if isinstance(c, Unmatched)}
        operators = {o.index for o in self._job.subgraph.operators if given_up & {*o.outputs}}
        joint = (tried.relation.joint.get(i, ()) for i in tried.accused)
        inherited = any(not operators.isdisjoint(together) for together in joint)
        sound = not inherited and operators <= tried.telling
        return tried if sound and tried.better_than(claims) else None

    def _with(self, claims: Claims, changes: Changes) -> Claims:
        matching = changed(claims.matching, changes, self._job.subgraph, self._frozen.graph)
        return self.claims(matching)

    def _fitting(self, local: Mapping[int, list[Floats]]) -> frozenset[int]:
        """Return the tensors of which the reference computes as many values as TFLite."""
        held = [batch.real for batch in self._batches]
        return frozenset(
            k
            for k, values in local.items()
            if all(v.size == h[k].size for v, h in zip(values, held, strict=True))
        )

    def _computable(self, claims: Claims) -> Claims:
        """Give up the matches whose segments TensorFlow cannot compute, or to another size."""
        local = {k: v for k in claims.segments if (v := self._known[k][1]) is not None}
        failing = claims.segments.keys() - self._fitting(local)
        changes = {
            k: Unmatched(
                k,
                "the reference makes another number of values of what its operator had"
                if k in local
                else "the reference cannot compute it from the values that its operator had",
            )
            for k in failing
        }
        return self._with(claims, changes) if changes else claims

    def _proposals(self, claims: Claims) -> dict[int, Match | Unmatched]:
        """Return other matches for what is accused, and for what is unchecked or feeds it."""
        subgraph = self._job.subgraph
        others = non_activations(subgraph)
        in_doubt: list[int] = []
        feeding: dict[int, None] = {}
        for op in subgraph.operators:
            unchecked = op.index in claims.unchecked
            readable = [i for i in op.outputs if i in self._batches[0].real and i not in others]
            in_doubt += [i for i in readable if i in claims.in_doubt or unchecked]
            if unchecked or not claims.relation.beyond.isdisjoint(op.outputs):
                given = (t.index for t in activation_inputs(subgraph, op))
                feeding |= dict.fromkeys(i for i in given if i in self._batches[0].real)
        values = self._free(claims, in_doubt, feeding)
        proposals = Proposals(subgraph, self._outputs, self._frozen.graph, claims.matching)
        found: dict[int, Match | Unmatched] = {}
        for index in in_doubt:
            check = claims.relation.checks.get(index)
            proposed = proposals.of(
                subgraph.tensors[index],
                *self._beside(index, values),
                other_weights=check is not None and check.differ,
            )
            if proposed is not None:
                found[index] = proposed
        for index in feeding.keys() - found.keys() - set(in_doubt):
            proposed = proposals.widened(subgraph.tensors[index], values)
            if proposed is not None:
                found[index] = proposed
        return found

    def _beside(
        self, index: int, values: Mapping[str, NDArray[Any]]
    ) -> tuple[Floats, dict[str, Floats]]:
        """Return what a tensor holds, and what the nodes hold that have as many values."""
        tensor, test = self._job.subgraph.tensors[index], self._held(index)
        fitting = ((n, v) for n, v in values.items() if v.size == test.size)
        return test, {n: clamped(tensor, v)[0].reshape(test.shape) for n, v in fitting}

    def _held(self, index: int) -> Floats:
        return np.concatenate([b.real[index] for b in self._batches])

    def _free(
        self, claims: Claims, wanted: Sequence[int], feeding: Iterable[int]
    ) -> dict[str, NDArray[Any]]:
        """Return what nodes hold if every tensor whose match stands has TFLite's value.

        Args:
            claims: What is claimed.
            wanted: Tensors whose match is in doubt.
            feeding: Tensors that some of them are computed from, which keep their match.

        Returns:
            By reference tensor its values, first axis samples.
        """
        subgraph, matching = self._job.subgraph, claims.matching
        unforced = {*wanted, *feeding}
        forced: dict[str, int] = {}
        for match in matching.matches.values():
            if match.tensor in self._batches[0].real and match.tensor not in unforced:
                for name in (match.node, match.raw, *match.chain):
                    forced.setdefault(name, match.tensor)
        names = candidates(
            self._frozen.graph, (subgraph.tensors[i].elements for i in (*wanted, *feeding))
        )
        names = [name for name in names if name not in forced]
        if not names:
            return {}
        try:
            evaluator = Evaluator(self._frozen, names, [], forced=forced, once=True)
        except KerasError:
            return {}
        try:
            found = [
                evaluator.run(self._given(b), self._taken(b, evaluator))[0] for b in self._batches
            ]
        except KerasError:
            return {}
        finally:
            evaluator.close()
        return {
            name: np.concatenate(
                [
                    as_floats(v).reshape(b.stop - b.start, -1)
                    for v, b in zip(parts, self._batches, strict=True)
                ]
            )
            for name, parts in zip(names, zip(*found, strict=True), strict=True)
            if all(
                v.size and v.size % (b.stop - b.start) == 0
                for v, b in zip(parts, self._batches, strict=True)
            )
        }

    def _given(self, batch: Batch) -> list[NDArray[Any]]:
        return in_reference_order(self._inputs, self._job.samples.real(batch.start, batch.stop))

    def _taken(self, batch: Batch, evaluator: Evaluator) -> dict[int, Floats]:
        return {key: batch.real[key] for key in evaluator.tap_keys}

    def _knows(self, key: int, segment: Segment) -> bool:
        return key in self._known and self._known[key][0] is segment

    def _compute_by(self, reference: KerasReference, segments: Mapping[int, Segment]) -> None:
        """Compute all segments by the reference that the trace will use, if it can."""
        try:
            computed = [reference.compute(batch).local for batch in self._batches]
        except KerasError:
            return
        self._known = {k: (s, [c[k] for c in computed]) for k, s in segments.items()}

    def _compute(self, segments: Mapping[int, Segment]) -> None:
        """Compute segments; where TensorFlow cannot compute all of them, each half by itself."""
        if not segments:
            return
        try:
            self._known |= self._computed(segments)
        except KerasError:
            keys = list(segments)
            if len(keys) == 1:
                self._known[keys[0]] = (segments[keys[0]], None)
                return
            half = len(keys) // 2
            for some in (keys[:half], keys[half:]):
                self._compute({k: segments[k] for k in some})

    def _computed(
        self, segments: Mapping[int, Segment]
    ) -> dict[int, tuple[Segment, list[Floats] | None]]:
        evaluator = Evaluator(self._frozen, [], list(segments.values()), once=True)
        try:
            parts = [
                evaluator.run(self._given(b), self._taken(b, evaluator))[1] for b in self._batches
            ]
        finally:
            evaluator.close()
        columns = zip(*parts, strict=True)
        return {k: (s, list(v)) for (k, s), v in zip(segments.items(), columns, strict=True)}

    def _evidence(self, relation: Relation, local: Mapping[int, list[Floats]]) -> Any:
        tensors, samples = self._job.subgraph.tensors, self._job.samples
        tally = Tally(self._plan)
        with Crew(1) as crew:
            for number, batch in enumerate(self._batches):
                computed = Computed({}, {k: v[number] for k, v in local.items()})
                tally.take(samples, batch, settled(tensors, batch, computed), crew)
        return collect(self._job.loaded, self._run, relation, tally.measured())

    @cached_property
    def _run(self) -> Any:
        return replace(describe(self._job, True, {}), reference_kind="keras")


def _numbers(count: int, size: int | None) -> Iterable[range]:
    """Return the samples to look at, in batches that the reference takes."""
    step = size or min(_SAMPLES, count)
    most = max(1, _SAMPLES // step) * step
    return [range(n, min(n + step, count)) for n in range(0, min(most, count), step)]
