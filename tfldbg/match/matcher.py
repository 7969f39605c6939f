"""Match every activation of a TFLite subgraph with a node of the reference, or give a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from tfldbg.graph.query import activation_inputs, activation_slots
from tfldbg.graph.windows import padded_otherwise
from tfldbg.match.kinds import (
    CARRIED,
    HANDED_ON,
    LOOKALIKE,
    MAIN_OPS,
    REFERENCE_OPS,
    REQUANTIZING,
    SEVERAL_OUTPUTS,
)
from tfldbg.match.model import Match, Matching, Unmatched, port_match
from tfldbg.match.names import NameIndex, numbered
from tfldbg.match.parameters import resolve_parameters
from tfldbg.match.ports import pair_outputs
from tfldbg.match.settle import Settler, same_parameters
from tfldbg.match.structure import (
    following,
    lookalikes,
    read_by,
    sequence_read,
    with_folded,
)
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, RefNode, node_of

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Signature, Subgraph, Tensor
    from tfldbg.reference.evaluate import Frozen

CheckAgreement = Callable[[int, Sequence[str]], str | None]
"""Returns the candidate node whose values agree best with a tensor's, or None."""

Sizes = Callable[[str], int | None]
"""Returns the number of values per sample of a node at run time, or None if there is no batch."""


def match(
    subgraph: Subgraph,
    signature: Signature | None,
    frozen: Frozen,
    inputs: tuple[int, ...],
    agreement: CheckAgreement | None = None,
    sizes: Sizes | None = None,
) -> Matching:
    """Match every computed tensor of ``subgraph``.

    Args:
        subgraph: The TFLite side.
        signature: Its signature, for the names of the outputs.
        frozen: The reference.
        inputs: The number of the reference input for each TFLite input.
        agreement: Chooses between several candidates with the right parameters and shape.
        sizes: Counts the values of nodes with a dynamic shape.

    Returns:
        A match or a reason for every input and every operator output that is not a constant.
    """
    matcher = _Matcher(subgraph, frozen, agreement, sizes)
    matcher.match_inputs(inputs)
    matcher.match_operators()
    matcher.match_outputs(pair_outputs(subgraph, signature, frozen))
    matcher.carry_back()
    matcher.match_behind()
    matcher.drop_shared_anchors()
    matches = resolve_parameters(subgraph, matcher.matches)
    return Matching(matches, matcher.reasons(), inputs, matcher.shapes)


class _Matcher:
    def __init__(
        self,
        subgraph: Subgraph,
        frozen: Frozen,
        agreement: CheckAgreement | None,
        sizes: Sizes | None,
    ) -> None:
        self._subgraph = subgraph
        self._frozen = frozen
        self._graph = frozen.graph
        self._agreement, self._sizes = agreement, sizes
        index = NameIndex(frozen.graph, (t.name for t in subgraph.tensors))
        self._mentioned = {
            out: index.nodes(subgraph.tensors[out].name)
            for op in subgraph.operators
            for out in op.outputs
            if out >= 0
        }
        self._settler = Settler(frozen.graph, subgraph, self._mentioned)
        self._refused: dict[int, str] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.matches: dict[int, Match] = {}

    def match_inputs(self, inputs: tuple[int, ...]) -> None:
        for index, number in zip(self._subgraph.inputs, inputs, strict=True):
            tensor = self._subgraph.tensors[index]
            settled = self._settler.settle(tensor, None, self._graph.inputs[number], "input")
            self.matches[index] = settled

    def match_operators(self) -> None:
        """Match the outputs in execution order, so that the inputs of each operator are known."""
        for op in self._subgraph.operators:
            if any(i in self._subgraph.non_activations for i in op.outputs):
                continue
            if op.kind in HANDED_ON and self._carry_forward(op):
                continue
            given = activation_inputs(self._subgraph, op)
            known = bool(given) and all(t.index in self.matches for t in given)
            for index in (i for i in op.outputs[:1] if i >= 0):
                tensor = self._subgraph.tensors[index]
                if known and self._match_by_structure(op, tensor, given):
                    continue
                if op.kind not in REQUANTIZING:
                    self._match_by_name(op, tensor)
            self._match_other_outputs(op)

    def _match_other_outputs(self, op: Operator) -> None:
        """Match every output of an operator with a port of the first output's node."""
        first = self.matches.get(op.outputs[0]) if op.outputs else None
        if first is None or self._graph.nodes[node_of(first.raw)].op not in SEVERAL_OUTPUTS:
            return
        names = [self._subgraph.tensors[i].name for i in op.outputs]
        for port, index in zip(numbered(names), op.outputs, strict=True):
            name = f"{first.raw}:{port}"
            self.matches[index] = (
                port_match(index, name, first.rule, first.confidence)
                if port
                else replace(first, tensor=index)
            )

    def _match_by_name(self, op: Operator, tensor: Tensor) -> None:
        """Match with the most downstream named node: the order of a name's parts is arbitrary."""
        mentioned = self._mentioned[tensor.index]
        if not mentioned:
            return
        fitting = [n for n in mentioned if self._fits(tensor, n) and self._can_be(op, n)]
        if not fitting:
            self._note_padding(op, tensor, mentioned)
            node = self._graph.nodes[mentioned[-1]]
            self._refused[tensor.index] = (
                f"its name leads to '{node.name}', a {node.op} of {node.elements} elements per "
                f"sample; the tensor has {tensor.elements} and is written by {op.kind}"
            )
            return
        self.matches[tensor.index] = self._last_named(op, tensor, fitting)

    def _last_named(self, op: Operator, tensor: Tensor, names: Sequence[str]) -> Match:
        """Return the match with the last of the nodes that a name refers to.

        If the name refers to several products, because layers share the constant that holds a
        shape, this is the last of the products that have most of the other nodes around them.
        """
        latest = sorted(names, key=lambda n: self._graph.order[n], reverse=True)
        products = sum(self._graph.nodes[n].op in MAIN_OPS for n in latest)
        found = latest if products > 1 else latest[:1]
        settled = [self._settler.settle(tensor, op, name, "name") for name in found]
        return max(settled, key=lambda m: len({*m.group, *m.chain}.intersection(names)))

    def _can_be(self, op: Operator, name: str) -> bool:
        """Return whether an operator can compute a node, which no other kind must compute."""
        operation = self._graph.nodes[name].op
        wanted = REFERENCE_OPS.get(op.kind)
        return wanted is None or operation in wanted or operation not in MAIN_OPS

    def _fits(self, tensor: Tensor, name: str) -> bool:
        """Return whether a tensor can hold one sample of a node, as far as shapes are known."""
        node = self._graph.nodes[name]
        if not node.whole and node.shape and node.shape[0] not in (None, self._frozen.batch):
            return False  # the first axis is not the batch, so samples cannot be separated
        elements = node.elements
        if elements is None:
            return True
        if self._batch is not None:
            return self._can_hold(tensor, elements * self._batch, node)
        return elements > 0 and tensor.elements % elements == 0

    def _can_hold(self, tensor: Tensor, elements: int, node: RefNode) -> bool:
        """Return whether a tensor may hold this many values; dynamic dimensions may have any size.

        The first axis is the batch, unless the reference puts several blocks of a sample into it.
        """
        sizes = list(zip(tensor.shape, tensor.shape_signature, strict=False))
        is_open = any(sign == -1 for _, sign in sizes[1:]) or node.in_blocks
        known = math.prod(size for size, sign in sizes if sign != -1)
        divisible = is_open and known > 0 and elements % known == 0
        return tensor.elements == elements or divisible

    @cached_property
    def _batch(self) -> int | None:
        """The number of reference samples that the file takes at once, or None if unknown."""
        pairs = (
            (self._subgraph.tensors[i], self._graph.nodes[node_of(m.raw)])
            for i, m in self.matches.items()
            if i in self._subgraph.inputs
        )
        found = {
            t.elements // n.elements
            for t, n in pairs
            if n.elements and -1 not in t.shape_signature[1:] and t.elements % n.elements == 0
        }
        return found.pop() if len(found) == 1 else None

    def match_outputs(self, outputs: dict[int, str]) -> None:
        for index, node in outputs.items():
            op = self._subgraph.producers.get(index)
            if index not in self.matches and op is not None and op.kind not in REQUANTIZING:
                self._accept_output(self._subgraph.tensors[index], op, node)

    def _accept_output(self, tensor: Tensor, op: Operator, node: str) -> None:
        """Match an output with the value before its fake-quant nodes, then settle the match."""
        if ":" in node:
            self.matches[tensor.index] = port_match(tensor.index, node, "output", 1.0)
            return
        anchor = node
        while self._graph.nodes[anchor].op in FAKE_QUANT_OPS | IDENTITY_OPS:
            anchor = self._graph.nodes[anchor].sources[0]
        if self._fits(tensor, anchor):
            self.matches[tensor.index] = self._settler.settle(tensor, op, anchor, "output")

    def _carry_forward(self, op: Operator) -> bool:
        known = self.matches.get(op.inputs[0]) if op.inputs else None
        if known is None or not op.outputs or op.outputs[0] < 0:
            return False
        tensor = self._subgraph.tensors[op.outputs[0]]
        cast = self._cast(known, tensor) if op.kind == "CAST" else None
        if cast is not None:
            settled = self._settler.settle(tensor, None, cast, CARRIED, known.confidence)
            self.matches[tensor.index] = settled
        else:
            self._hand_on(known, tensor)
        return True

    def _cast(self, known: Match, tensor: Tensor) -> str | None:
        """Return the node that casts the value of a match to the tensor's type."""
        users = (self._graph.nodes[n] for n in self._graph.consumers.get(node_of(known.raw), ()))
        casts = (n for n in users if n.op == "Cast" and n.inputs[0] in known.chain)
        return next((n.name for n in casts if n.dtype.upper() == tensor.type), None)

    def carry_back(self) -> None:
        """Pass the matches of value-preserving operators' outputs on to their inputs."""
        for op in reversed(self._subgraph.operators):
            if op.kind not in HANDED_ON or not op.inputs or op.outputs[0] not in self.matches:
                continue
            if op.inputs[0] in self._subgraph.non_activations:
                continue
            given = self._subgraph.tensors[op.inputs[0]]
            if given.index not in self.matches and not given.has_data:
                self._hand_on(self.matches[op.outputs[0]], given)

    def match_behind(self) -> None:
        """Match the input of a matched operator with the input of its node, if each has only one.

        So the matching continues before operators that the reference computes with a loop.
        """
        for op in reversed(self._subgraph.operators):
            known = self.matches.get(op.outputs[0]) if op.outputs else None
            given = activation_inputs(self._subgraph, op)
            if known is None or len(given) != 1 or given[0].index in self.matches:
                continue
            source = read_by(self._graph, op.kind, node_of(known.raw))
            if source is not None and op.kind == "FULLY_CONNECTED":
                source = sequence_read(self._graph, source, given[0])
            if source is None or given[0].index not in self._subgraph.producers:
                continue
            node = self._graph.nodes[source]
            if self._elements(node) is None or not self._fits(given[0], node.name):
                continue
            anchor = node.name
            while self._graph.nodes[anchor].op in FAKE_QUANT_OPS | IDENTITY_OPS:
                anchor = self._graph.nodes[anchor].sources[0]
            settled = self._settler.settle(given[0], None, anchor, "structure", 0.8)
            self.matches[given[0].index] = settled

    def _elements(self, node: RefNode) -> int | None:
        """Return the elements per sample of a node, from a run if its shape is dynamic."""
        if node.elements is not None or self._sizes is None:
            return node.elements
        return self._sizes(node.name)

    def _hand_on(self, known: Match, tensor: Tensor) -> None:
        """Pass a match on to ``tensor``, which holds the same values."""
        carried = replace(
            known, tensor=tensor.index, rule=CARRIED, parameters="none", expected=None
        )
        found = [carried]
        if tensor.lsb is not None and any(self._fake_quants(known.chain)):
            found = [
                replace(carried, node=name, raw=raw, parameters="equal", expected=expected)
                for name, raw, expected in self._fake_quants(known.chain, tensor.type)
                if same_parameters(tensor, expected)
            ] or [replace(carried, parameters="differ", expected=self._expected(known, tensor))]
        self.matches[tensor.index] = found[0]

    def _expected(self, known: Match, tensor: Tensor) -> tuple[float, int]:
        """Return the parameters that a copy of a fake-quantized value should have."""
        return known.expected or self._fake_quants(known.chain, tensor.type)[0][2]

    def _fake_quants(
        self, chain: Sequence[str], type_name: str = "INT8"
    ) -> list[tuple[str, str, tuple[float, int]]]:
        """Return name, input and parameters of the fake-quant nodes in a chain."""
        nodes = [self._graph.nodes[node_of(name)] for name in chain]
        return [
            (n.name, n.inputs[0], n.fake_quant.parameters(type_name))
            for n in nodes
            if n.fake_quant is not None
        ]

    def _match_by_structure(self, op: Operator, tensor: Tensor, given: Sequence[Tensor]) -> bool:
        """Match with a node of the right operation that reads exactly the operator's inputs.

        Names choose between several; then quantization parameters; then values.  Names alone are
        not reliable: the converter merges equal constants and joins the names of all their users.
        """
        mentioned = frozenset(self._mentioned[tensor.index])
        rule = "structure"
        found = self._following(op, given, REFERENCE_OPS.get(op.kind, frozenset()))
        if not found and op.kind not in HANDED_ON and not self._is_named(op, tensor):
            found = self._following(op, given, lookalikes(op.kind))
            rule = LOOKALIKE
        fitting = [name for name in found if self._fits(tensor, name)]
        if not fitting:
            self._note_shape(op, tensor, found)
        settled = [self._settler.settle(tensor, op, name, rule, 0.9) for name in fitting]
        votes = [len(mentioned & frozenset((*m.group, *m.chain))) for m in settled]
        most = max(votes, default=0)
        if fitting and not most and (other := self._named_beside(op, tensor, given)) is not None:
            settled, votes, rule = [other], [0], LOOKALIKE
        best = [m for m, v in zip(settled, votes, strict=True) if v == most]
        equal = [m for m in best if m.parameters == "equal"]
        best = equal or best
        if len(best) == 1:
            named = replace(best[0], rule="name", confidence=1.0)
            self.matches[tensor.index] = named if most and rule != LOOKALIKE else best[0]
            return True
        return bool(best) and self._match_by_values(tensor, best)

    def _named_beside(self, op: Operator, tensor: Tensor, given: Sequence[Tensor]) -> Match | None:
        """Return the match with a named node of another operation that reads the same values.

        The file then has the wrong operator; the node of its kind belongs to another operator.
        """
        mentioned = self._mentioned[tensor.index]
        operations = frozenset(self._graph.nodes[name].op for name in mentioned)
        beside = self._following(op, given, operations - REFERENCE_OPS.get(op.kind, frozenset()))
        named = [name for name in beside if name in mentioned and self._fits(tensor, name)]
        if len(named) != 1 or op.kind not in REFERENCE_OPS:
            return None
        return self._settler.settle(tensor, op, named[0], LOOKALIKE, 0.9)

    def _is_named(self, op: Operator, tensor: Tensor) -> bool:
        """Return whether the name refers to a node of an operation that the operator computes."""
        wanted = REFERENCE_OPS.get(op.kind, frozenset())
        nodes = (self._graph.nodes[n] for n in self._mentioned[tensor.index])
        return any(node.op in wanted for node in nodes)

    def _note_shape(self, op: Operator, tensor: Tensor, names: Sequence[str]) -> None:
        """Store the shape of the reference's value if it differs for the same inputs."""
        nodes = [self._graph.nodes[name] for name in names]
        shapes = {n.shape[1:] for n in nodes if n.op in MAIN_OPS and n.shape and n.elements}
        nameless = not any(self._mentioned.values())
        named = nameless or not set(self._mentioned[tensor.index]).isdisjoint(
            with_folded(self._graph, names)
        )
        if op.kind in REQUANTIZING or len(shapes) != 1 or len(nodes) != 1 or not named:
            return
        if nodes[0].in_blocks:
            return  # its shape is not that of one sample
        batch = nodes[0].shape[0] if nodes[0].shape else None
        if batch in (None, self._frozen.batch):
            self.shapes[tensor.index] = (1, *(d or 1 for d in shapes.pop()))

    def _note_padding(self, op: Operator, tensor: Tensor, names: Sequence[str]) -> None:
        """Store the shape of the named node, if the operator's other padding would give it."""
        other = padded_otherwise(self._subgraph, op)
        nodes = (self._graph.nodes[n] for n in names)
        wanted = REFERENCE_OPS.get(op.kind, ())
        # The shape of a node in blocks is not that of one sample.
        own = [n for n in nodes if n.op in wanted and n.shape and not n.in_blocks]
        if other is not None and any(n.shape[1:] == other[1:] for n in own if n.shape):
            self.shapes[tensor.index] = other

    def _match_by_values(self, tensor: Tensor, candidates: Sequence[Match]) -> bool:
        if self._agreement is None:
            return False
        chosen = self._agreement(tensor.index, [m.raw for m in candidates])
        for one in candidates:
            if one.raw == chosen:
                self.matches[tensor.index] = replace(one, rule="agreement", confidence=0.7)
                return True
        return False

    def _following(
        self, op: Operator, given: Sequence[Tensor], wanted: frozenset[str]
    ) -> list[str]:
        """Return the nodes of a wanted operation that read exactly the given values."""
        chains = [frozenset(self.matches[t.index].chain) for t in given]
        return following(self._graph, chains, wanted, activation_slots(self._subgraph, op))

    def drop_shared_anchors(self) -> None:
        """Keep only the last match if an operator and its consumer have the same anchor.

        This is the case for a batch norm that the converter could not fold: both names mention it.
        """
        for op in self._subgraph.operators:
            if op.kind in HANDED_ON:
                continue
            for out in op.outputs:
                mine = self.matches.get(out)
                if mine is None:
                    continue
                for given in activation_inputs(self._subgraph, op):
                    theirs = self.matches.get(given.index)
                    if theirs is not None and theirs.raw == mine.raw:
                        del self.matches[given.index]
                        self._refused[given.index] = (
                            f"'{mine.raw}' is computed by this operator and operator {op.index} "
                            f"{op.kind} together, and only the last of them holds its value"
                        )

    def reasons(self) -> dict[int, Unmatched]:
        """Return the reason why each remaining tensor has no counterpart."""
        found = {}
        for op in self._subgraph.operators:
            for index in op.outputs:
                if index >= 0 and index not in self.matches:
                    found[index] = Unmatched(index, self._reason(op, index))
        return found

    def _reason(self, op: Operator, index: int) -> str:
        if index in self._subgraph.shape_tensors:
            return "it holds a shape or a counter, not an activation"
        if index in self._subgraph.non_activations:
            return "it unpacks a constant, which is compared where it is used"
        if index in self._refused:
            return self._refused[index]
        given = activation_inputs(self._subgraph, op)
        name = self._subgraph.tensors[index].name
        missing = [str(t.index) for t in given if t.index not in self.matches]
        if not given:
            return "it is computed from constants only"
        said = f"no node of the reference is called '{name}'" if name else "it has no name"
        if missing:
            return f"{said}, and its input tensor {', '.join(missing)} is unmatched too"
        return f"{said}, and several nodes or none could follow its inputs"
