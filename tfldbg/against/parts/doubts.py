"""Propose other matches for tensors in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tfldbg.graph.query import activation_inputs
from tfldbg.match.kinds import CARRIED, COMPUTING, DIVIDING, HANDED_ON
from tfldbg.match.model import Match, Unmatched
from tfldbg.match.proposals import Change, Changes, Proposals, TensorValues
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, node_of

if TYPE_CHECKING:
    from tfldbg.against.parts.claims import Claimer, Claims
    from tfldbg.against.parts.few import FewSamples
    from tfldbg.reference.evaluate import Frozen
    from tfldbg.run.job import Job


class Doubts:
    """Finds other matches.

    Args:
        job: The TFLite side.
        frozen: The reference.
        few: Computes the values of reference tensors.
        claimer: Knows the outputs of the file.
    """

    def __init__(self, job: Job, frozen: Frozen, few: FewSamples, claimer: Claimer) -> None:
        self._job = job
        self._frozen = frozen
        self._few = few
        self._outputs, self._ends = claimer.outputs, claimer.ends

    def proposals(self, claims: Claims) -> dict[int, Match | Unmatched]:
        """Return other matches for accused and unchecked tensors, and for their inputs."""
        tensors, few = self._job.subgraph.tensors, self._few
        in_doubt, feeding = self._open(claims)
        values = few.between(claims.matching, (*in_doubt, *feeding))
        proposals = self.proposing(claims)
        found: dict[int, Match | Unmatched] = {}
        for index in in_doubt:
            if self._copies_accused(index, claims):
                continue  # a copy follows its source
            check = claims.relation.checks.get(index)
            proposed = proposals.of(
                tensors[index],
                few.held(index),
                few.beside(index, values),
                other_weights=check is not None and check.differ,
                idle=index in claims.relation.idle,
            )
            if proposed is None or self._is_other_part(index, proposed, claims):
                continue
            if self._repeats(index, proposed, claims, found):
                proposed = proposals.refuted(tensors[index])
            if proposed is not None:
                found[index] = proposed
        return found | self._widened(claims, feeding, values)

    def after(self, claims: Claims) -> Changes:
        """Return other matches for all tensors that are computed from accused ones.

        A match by structure follows from those before it.  And the converter may move a transpose
        past the next operators, which then hold the values of their nodes in another order.
        """
        subgraph, few = self._job.subgraph, self._few
        after = set(claims.accused)
        for op in subgraph.operators:
            if not after.isdisjoint(op.inputs):
                after.update(op.outputs)
        matched = after & claims.matching.matches.keys() & few.readable
        doubted = [i for o in subgraph.operators for i in o.outputs if i in matched]
        values = few.between(claims.matching, doubted)
        proposals = self.proposing(claims)
        changes: dict[int, Match | Unmatched] = {}
        checks = claims.relation.checks
        for index in (i for i in doubted if i not in self._outputs):
            carried = claims.matching.matches[index].rule == CARRIED  # it follows its source
            if carried or (index in checks and checks[index].differ):
                continue  # other weights explain other values
            tensor = subgraph.tensors[index]
            proposed = proposals.after(tensor, few.held(index), few.beside(index, values))
            if proposed is None and claims.matching.matches[index].rule == "structure":
                read = (changes.get(i) for i in self._job.subgraph.producers[index].inputs)
                proposed = proposals.following(tensor, [m for m in read if isinstance(m, Match)])
            if proposed is not None and not self._repeats(index, proposed, claims, changes):
                changes[index] = proposed
        return changes

    def _is_other_part(self, tensor: int, change: Change, claims: Claims) -> bool:
        """Return whether a part of a divided tensor would be matched with a part of another number.

        The parts are in the same order on both sides, and have names.
        """
        op, known = self._job.subgraph.producers.get(tensor), claims.matching.matches.get(tensor)
        if op is None or known is None or op.kind not in DIVIDING or isinstance(change, Unmatched):
            return False
        node, _, port = known.raw.partition(":")
        certain = known.rule == "name" or op.outputs.index(tensor) == int(port or 0)
        return certain and change.raw != known.raw and node_of(change.raw) == node

    def _copies_accused(self, tensor: int, claims: Claims) -> bool:
        """Return whether an operator only passes on the values of an accused tensor."""
        op = self._job.subgraph.producers.get(tensor)
        return op is not None and op.kind in HANDED_ON and op.inputs[0] in claims.accused

    def _widened(
        self, claims: Claims, feeding: Iterable[int], values: Mapping[str, TensorValues]
    ) -> dict[int, Match]:
        """Return the matches of tensors, widened by all nodes that hold the same values.

        Args:
            claims: The claims.
            feeding: The tensors.
            values: The values of each reference tensor.
        """
        proposals, tensors = self.proposing(claims), self._job.subgraph.tensors
        found = {i: proposals.widened(tensors[i], values) for i in feeding}
        return {i: match for i, match in found.items() if match is not None}

    def _repeats(self, tensor: int, change: Change, claims: Claims, changes: Changes) -> bool:
        """Return whether an operator that computes something would be matched with its input.

        The input, or what it is computed from, may hold the same values on this data.
        """
        op = self._job.subgraph.producers.get(tensor)
        if isinstance(change, Unmatched) or op is None or op.kind not in COMPUTING:
            return False
        given = (self._given(i, claims, changes) for i in op.inputs)
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

    def _given(self, tensor: int, claims: Claims, changes: Changes) -> Change | None:
        """Return the match of an operator's input, which may follow a changed match."""
        known, source = claims.matching.matches.get(tensor), tensor
        while source not in changes and source in self._job.subgraph.producers:
            match = claims.matching.matches.get(source)
            if match is None or match.rule != CARRIED:
                break
            source = self._job.subgraph.producers[source].inputs[0]
        return changes.get(source, known)

    def proposing(self, claims: Claims) -> Proposals:
        """Return the object that proposes matches instead of the claimed ones."""
        graph = self._frozen.graph
        return Proposals(self._job.subgraph, self._ends, graph, claims.matching)

    def _open(self, claims: Claims) -> tuple[list[int], list[int]]:
        """Return the tensors in doubt, and inputs of some of them."""
        subgraph = self._job.subgraph
        readable = self._few.readable - subgraph.non_activations
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
