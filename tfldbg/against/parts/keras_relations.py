"""Relate the tensors of a file to the parts of a frozen Keras model that compute them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.against.parts.agreement import Agreement
from tfldbg.against.parts.plausible import check_same_model
from tfldbg.compare.constants.pairs import check_pairs
from tfldbg.compare.constants.turned import HIDDEN, Turned, without_turns
from tfldbg.compare.constants.weights import check_weights
from tfldbg.compare.ranges.calibrate import Extent
from tfldbg.compare.ranges.parameters import expected_by_keras
from tfldbg.compare.relation import Port, Relation
from tfldbg.compare.segments import cut
from tfldbg.match.matcher import match
from tfldbg.match.model import Unmatched
from tfldbg.reference.evaluate import Evaluator, Frozen, Segment, in_reference_order
from tfldbg.reference.graphdef import RefGraph, node_of

if TYPE_CHECKING:
    from tfldbg.against.parts.few import FewSamples
    from tfldbg.compare.constants.checks import WeightCheck
    from tfldbg.compare.constants.turned import Turn
    from tfldbg.graph.model import Subgraph
    from tfldbg.match.model import Matching
    from tfldbg.progress import Progress
    from tfldbg.run.job import Job, Loaded
    from tfldbg.run.samples import Samples

_BATCH = 16
"""The batch size for a reference without a fixed one."""


class KerasRelations:
    """Makes relations from matchings: a segment for each operator, and compared constants.

    Segments that two matchings have in common are checked once.

    Args:
        job: The TFLite side.
        frozen: The reference.
        inputs: The number of the reference input for each TFLite input.
    """

    def __init__(self, job: Job, frozen: Frozen, inputs: tuple[int, ...]) -> None:
        self._job = job
        self._frozen = frozen
        self._inputs = inputs
        self._cut: dict[int, Segment] = {}
        self._planned: dict[int, Segment] = {}
        self._checks: dict[int, WeightCheck] = {}
        self._turns: Mapping[int, Turn] = {}

    def by_graphs(self, few: FewSamples | None) -> Matching:
        """Match the two models by names and structure.

        Args:
            few: The first samples, to decide by values where nothing else does; or None.
        """
        job, frozen = self._job, self._frozen
        agreement = None if few is None else Agreement(job, frozen, self._inputs, few)
        matching, self._turns = match_keras(job.loaded, frozen, self._inputs, agreement)
        return matching

    def check(self, relation: Relation) -> None:
        """Refuse the model of another file.

        Raises:
            MatchError: It is the model of another file.
        """
        check_same_model(self._job.subgraph, self._frozen.graph, relation)

    def relate(self, matching: Matching) -> tuple[Relation, dict[int, Segment]]:
        """Cut the reference into operators and compare their constants.

        Returns:
            The relation, and the computable segments by output tensor.
        """
        job, frozen = self._job, self._frozen
        subgraph = job.subgraph
        plan = cut(subgraph, matching, frozen.graph)
        self._check_constants(plan.segments)
        pairs = check_pairs(job.loaded.graph, subgraph, frozen, plan.segments, plan.joint)
        readable = {*job.exposed.taps, *subgraph.inputs}
        kept = {k: s for k, s in self._planned.items() if {k, *s.cuts.values()} <= readable}
        expected = expected_by_keras(subgraph, matching, frozen.graph)
        relation = Relation(
            matching,
            {**job.skipped, **{i: u.reason for i, u in plan.uncut.items()}},
            pairs | self._checks,
            {i: operators for i, operators in plan.joint.items() if i in kept},
            beyond=plan.beyond,
            trained={i: e.trained for i, e in expected.items() if e.trained is not None},
            idle=frozenset(i for i, uncut in plan.uncut.items() if uncut.idle),
            operations=_operations(matching, frozen.graph),
            ports=_ports(subgraph, matching, frozen),
        )
        return relation, kept

    def _check_constants(self, segments: Mapping[int, Segment]) -> None:
        """Compare the constants of new segments; forget those that no longer exist."""
        fresh = {k: s for k, s in segments.items() if not _same_segment(s, self._cut.get(k))}
        stale = fresh.keys() | (self._cut.keys() - segments.keys())
        checks, planned = check_weights(
            self._job.loaded.graph, self._job.subgraph, self._frozen, fresh, self._turns
        )
        self._cut = dict(segments)
        self._checks = {k: c for k, c in self._checks.items() if k not in stale} | checks
        self._planned = {k: planned.get(k) or self._planned[k] for k in segments}


def match_keras(
    loaded: Loaded, frozen: Frozen, inputs: tuple[int, ...], agreement: Agreement | None = None
) -> tuple[Matching, Mapping[int, Turn]]:
    """Match a file to a model, looking through factors that a quantizer applied to activations.

    Products with a constant for each channel are looked through only if that leaves fewer tensors
    without a counterpart: the model may have such a product itself.

    Args:
        loaded: The file.
        frozen: The reference.
        inputs: The number of the reference input for each TFLite input.
        agreement: Decides by values if nothing else does, and counts values; or None.

    Returns:
        The matching, and the factor of the activation of each operator that has one.
    """
    sizes = agreement.elements if agreement is not None else None

    def through(turned: Turned) -> tuple[Matching, int]:
        found = match(turned.view, loaded.signature, frozen, inputs, agreement, sizes)
        hidden = {i: Unmatched(i, HIDDEN) for i in turned.hidden}
        matches = {i: m for i, m in found.matches.items() if i not in hidden}
        kept = replace(found, matches=matches, unmatched={**found.unmatched, **hidden})
        return kept, len(found.unmatched.keys() - hidden.keys())

    plain = without_turns(loaded.graph, loaded.subgraph)
    scaled = without_turns(loaded.graph, loaded.subgraph, scaled=True)
    matching, alone = through(plain)
    if alone and scaled.hidden > plain.hidden:
        other, fewer = through(scaled)
        if fewer < alone:
            return other, scaled.turns
    return matching, plain.turns


def _same_segment(one: Segment, other: Segment | None) -> bool:
    return other is not None and (one.output, one.cuts) == (other.output, other.cuts)


def _operations(matching: Matching, graph: RefGraph) -> dict[int, str]:
    return {i: graph.nodes[node_of(m.group[0])].op for i, m in matching.matches.items()}


def _ports(subgraph: Subgraph, matching: Matching, frozen: Frozen) -> tuple[Port, ...]:
    """Return the output of the reference for each output of the file."""
    names = zip(frozen.graph.outputs, frozen.output_names, strict=True)
    ends = [(frozenset(frozen.graph.handed_on(node)), name) for node, name in names]
    found = []
    for position, index in enumerate(subgraph.outputs):
        match = matching.matches.get(index)
        if match is None:
            continue
        held = set(match.names)
        fitting = [(number, name) for number, (end, name) in enumerate(ends) if end & held]
        if len(fitting) == 1:
            found.append(Port(index, position, *fitting[0]))
    return tuple(found)


def keras_extents(
    frozen: Frozen,
    matching: Matching,
    samples: Samples,
    wanted: Iterable[int],
    progress: Progress,
) -> dict[int, Extent]:
    """Run the data through the reference, and return the extents of each tensor's counterpart.

    Args:
        frozen: The reference.
        matching: The matches of nodes and tensors.
        samples: The data.
        wanted: The tensors to measure.
        progress: Receives the progress, sample by sample.

    Raises:
        KerasError: TensorFlow cannot compute the data.
    """
    matched = [matching.matches[i] for i in wanted if i in matching.matches]
    seen = {m.tensor: Extent() for m in matched}
    size = frozen.batch or _BATCH
    progress.stage("float pass of the Keras model", samples.count)
    evaluator = Evaluator(frozen, [m.raw for m in matched], [])
    try:
        for start in range(0, samples.count, size):
            stop = min(start + size, samples.count)
            given = in_reference_order(matching.inputs, samples.real(start, stop))
            fetched, _ = evaluator.run(given, {})
            for match, values in zip(matched, fetched, strict=True):
                seen[match.tensor].see(values)
            progress.advance(stop - start)
    finally:
        evaluator.close()
    return seen
