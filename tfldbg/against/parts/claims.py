"""The consequences of a matching on a few samples: a match is a claim that values may refute."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.describe import describe
from tfldbg.diagnose.judge import OutputJudge
from tfldbg.diagnose.scales import without_refuted, wrong_scales
from tfldbg.match.ports import pair_outputs
from tfldbg.match.proposals import Changes, changed, holds
from tfldbg.options.judge import Thresholds

if TYPE_CHECKING:
    from tfldbg.against.opened import About
    from tfldbg.against.parts.few import FewSamples
    from tfldbg.against.parts.keras_relations import KerasRelations
    from tfldbg.compare.keras_reference import KerasReference
    from tfldbg.compare.relation import Relation
    from tfldbg.diagnose.evidence import Run
    from tfldbg.match.model import Matching
    from tfldbg.reference.evaluate import Frozen, Segment
    from tfldbg.run.job import Job

_NOT_COMPUTED = "the reference cannot compute it from the values that its operator had"
_ANOTHER_SIZE = "the reference computes another number of values from those its operator had"


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """A matching and its consequences on a few samples."""

    matching: Matching
    relation: Relation
    segments: Mapping[int, Segment]
    accused: frozenset[int]
    """Tensors whose local error is beyond the bound of their operator, and outputs of the file that
    are not matched with the reference's outputs."""
    unchecked: frozenset[int]
    """Operators that compute activations and are not checked."""
    telling: frozenset[int]
    """Operators covered by a check that does not hide a large error."""
    blind: frozenset[int]
    """The outputs of the unchecked operators."""
    failing: Mapping[int, str]
    """The reason, by tensor, why its segment computes nothing to compare it with."""
    errors: Mapping[int, float]
    """The local error of each tensor, RMSE over the RMS of the reference."""

    @property
    def in_doubt(self) -> frozenset[int]:
        """Tensors that are accused, or that the reference computes from additional inputs."""
        return self.accused | self.relation.beyond

    def better_than(self, other: Claims, doubtful: AbstractSet[int]) -> bool:
        """Return whether fewer operators are in doubt or unchecked, and no additional ones.

        An operator that was not checked may be accused instead of another, unless by a match that
        is itself in doubt.

        Args:
            other: The claims before.
            doubtful: Tensors whose matches were proposed and may be wrong.
        """
        known = self.accused <= other.accused
        instead = self.accused - (other.blind - doubtful) < other.accused
        if not (known or instead) or not self.unchecked <= other.unchecked:
            return False
        return self.in_doubt < other.in_doubt or self.unchecked < other.unchecked


class Claimer:
    """Makes claims from matchings.

    Args:
        job: The TFLite side.
        frozen: The reference.
        relations: Makes segments from a matching.
        few: Computes the segments.
        about: The description of the reference.
    """

    def __init__(
        self, job: Job, frozen: Frozen, relations: KerasRelations, few: FewSamples, about: About
    ) -> None:
        self._job = job
        self._frozen = frozen
        self._relations = relations
        self._few = few
        self._about = about
        self.outputs = pair_outputs(job.subgraph, job.loaded.signature, frozen)
        """The reference tensor of each output of the file."""

    def of(self, matching: Matching, reference: KerasReference | None = None) -> Claims:
        """Return the claims of a matching.

        Args:
            matching: The matching.
            reference: Its reference, if it exists already.
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
        judge = OutputJudge(Thresholds(), wrong_scales(evidence), {}, self._about.traits)
        accused = {o.tensor for o in evidence.ops if judge.is_accused(o)}
        accused |= {i for i, n in self.outputs.items() if not holds(matching.matches.get(i), n)}
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
            errors={i: stats.relative_rmse for i, stats in measured.local.items()},
        )

    def changed(self, claims: Claims, changes: Changes) -> Claims:
        """Return the claims of a matching with some matches changed."""
        matching = changed(claims.matching, changes, self._job.subgraph, self._frozen.graph)
        return self.of(matching)

    @cached_property
    def _run(self) -> Run:
        return self._about.described(describe(self._job, True, {}))

    @cached_property
    def ends(self) -> dict[int, str]:
        """The output of the reference for each tensor that is one, perhaps converted to float."""
        found = dict(self.outputs)
        for op in reversed(self._job.subgraph.operators):
            if op.kind in ("DEQUANTIZE", "QUANTIZE") and op.outputs[0] in found:
                found[op.inputs[0]] = found[op.outputs[0]]
        return found
