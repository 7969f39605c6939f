"""Other matches for tensors whose match is in doubt, proposed by values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.graph.query import WEIGHTED, activation_slots
from tfldbg.match.by_values import agreeing, is_moved, nearest, reordered, same_values
from tfldbg.match.kinds import CARRIED, HANDED_ON, MAIN_OPS, PASSED_THROUGH, REFERENCE_OPS
from tfldbg.match.model import Match, Matching, Unmatched, port_match
from tfldbg.match.parameters import resolve_parameters
from tfldbg.match.settle import ACTIVATIONS, AFFINE, FOLDED, RESHAPES, Settler
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, node_of

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.reference.graphdef import RefGraph

_MOSTLY = 0.25
"""The share of agreeing elements from which a match counts as right and its operator as wrong: a
wrong match agrees by chance, while a wrong channel or border leaves the other elements."""
_NEARLY_ALL = 0.9
"""The share of agreeing elements from which a tensor holds its match, whatever its operator is."""
_SURE = 0.9
"""The confidence of a match that values propose and that blames no operator."""
_CODES = 1.5
_FLOATS = 1e-3

TensorValues = NDArray[Any]
Change = Match | Unmatched
Changes = Mapping[int, Change]
"""Another match, or the reason for no match, by tensor."""


class Proposals:
    """Proposes matches.

    Args:
        subgraph: The TFLite side.
        outputs: The reference tensor that each output of the file must be.
        graph: The reference.
        matching: The matching so far.
    """

    def __init__(
        self,
        subgraph: Subgraph,
        outputs: Mapping[int, str],
        graph: RefGraph,
        matching: Matching,
    ) -> None:
        self._graph = graph
        self._matches = matching.matches
        self._outputs = outputs
        self._settler = Settler(graph, subgraph, {})
        self._subgraph = subgraph

    def of(
        self,
        tensor: Tensor,
        test: TensorValues,
        values: Mapping[str, TensorValues],
        *,
        other_weights: bool = False,
        idle: bool = False,
    ) -> Change | None:
        """Return another match of a tensor, or why it has none; None if its match is kept.

        Args:
            tensor: The tensor.
            test: (n, ...) its values, real units.
            values: The values of each reference tensor (n, ...), clamped to the tensor's range.
            other_weights: True if its operator has other weights than its match, which explains
                other values.
            idle: True if its match is also the match of its operator's input.
        """
        known = self._matches.get(tensor.index)
        if tensor.index in self._outputs:
            return self._output(tensor, known)
        absurd = known is not None and self._is_absurd(tensor, known)
        found = nearest(test, values, None if known is None else known.raw)
        if found is not None and known is not None:
            # It may hold nearly the same values by chance, as exp(x) and log(1 + exp(x)) do, and a
            # reshape of its match is not another match.
            same = absurd if found == known.raw else self._hands_on(known.raw, found)
            near = same and self._share(tensor, test, values, found) < _NEARLY_ALL
            found = None if near else found
        if found is not None and not (idle and known is not None and found == known.raw):
            return self._renamed(tensor, found, values)
        if found is not None and (suited := self._suited(tensor, found, values)) != found:
            return self._settled(tensor, suited, values)
        if known is None:
            return None
        other = reordered(test, values, known.raw) if found is None else None
        mostly = not absurd and self._share(tensor, test, values, known.raw) >= _MOSTLY
        if other is None and (other_weights or mostly):
            return None
        elsewhere = other is not None and other not in known.names and not other_weights
        return Unmatched(tensor.index, _reason(known, other), certain=absurd or elsewhere)

    def refuted(self, tensor: Tensor) -> Unmatched | None:
        """Return why a tensor has no match, if its operator cannot compute the known one."""
        known = self._matches.get(tensor.index)
        if known is None or tensor.index in self._outputs or not self._is_absurd(tensor, known):
            return None
        return Unmatched(tensor.index, _reason(known, None), certain=True)

    def _is_absurd(self, tensor: Tensor, known: Match) -> bool:
        """Return whether the operator that writes a tensor cannot compute its match."""
        op = self._subgraph.producers.get(tensor.index)
        return op is not None and cannot_compute(self._subgraph, op, known.raw, self._graph)

    def after(
        self, tensor: Tensor, test: TensorValues, values: Mapping[str, TensorValues]
    ) -> Change | None:
        """Return another match of a tensor after one whose match is in doubt, or None.

        Its present match may be a consequence of that one.

        Args:
            tensor: The tensor.
            test: As for `of`.
            values: As for `of`.
        """
        known = self._matches[tensor.index]
        if known.raw in values and is_moved(test, values[known.raw], tensor.lsb or 0.0):
            return Unmatched(tensor.index, _reason(known, known.raw), certain=True)
        found = nearest(test, values, known.raw)
        return None if found is None else self._renamed(tensor, found, values)

    def following(self, tensor: Tensor, given: Iterable[Match]) -> Match | None:
        """Return the node of the same operation that reads other counterparts of the inputs.

        Args:
            tensor: A tensor with a match.
            given: Other matches of its operator's inputs.
        """
        known = self._matches[tensor.index]
        wanted = self._graph.nodes[node_of(known.raw)].op
        users = {user for match in given for name in match.names for user in self._users(name)}
        found = [user for user in users if self._graph.nodes[user].op == wanted]
        return self._settled(tensor, found[0]) if len(found) == 1 else None

    def _users(self, name: str) -> tuple[str, ...]:
        return () if ":" in name else self._graph.consumers.get(name, ())

    def _renamed(
        self, tensor: Tensor, found: str, values: Mapping[str, TensorValues]
    ) -> Match | None:
        known = self._matches.get(tensor.index)
        if known is not None and found == known.raw:
            return None
        if known is not None:
            # The range of the tensor may hide the effect of an activation.
            complete = (
                name
                for name in (found, *_equal(values, found))
                if not self.lacking(tensor, name, known) & ACTIVATIONS
            )
            found = next(complete, "")
        return self._settled(tensor, self._suited(tensor, found, values), values) if found else None

    def _suited(self, tensor: Tensor, found: str, values: Mapping[str, TensorValues]) -> str:
        """Return a node with the values of ``found`` that the operator computes, if any."""
        op = self._subgraph.producers.get(tensor.index)
        suited = REFERENCE_OPS.get(op.kind, frozenset()) if op is not None else frozenset()
        equal = _equal(values, found)
        return next((n for n in equal if self._graph.nodes[node_of(n)].op in suited), found)

    def widened(self, tensor: Tensor, values: Mapping[str, TensorValues]) -> Match | None:
        """Return a tensor's match with all tensors of the same values, or None if there are none.

        Args:
            tensor: The tensor.
            values: The values of each reference tensor.
        """
        known = self._matches.get(tensor.index)
        more = [] if known is None else same_values(self._graph, known.raw, values)
        if known is None or not more:
            return None
        return replace(known, chain=self._with_copies(tensor, known.chain, more))

    def _with_copies(
        self, tensor: Tensor, chain: Sequence[str], more: Sequence[str]
    ) -> tuple[str, ...]:
        plain = [n for n in more if ":" not in n]
        copies = [name for n in plain for name in self._settler.settle(tensor, None, n, "").chain]
        return tuple(dict.fromkeys((*chain, *more, *copies)))

    def _output(self, tensor: Tensor, known: Match | None) -> Match | None:
        """Match an output of the file with the reference's output, whatever its values are."""
        node = self._outputs[tensor.index]
        return None if holds(known, node) else self._settled(tensor, node)

    def _settled(
        self, tensor: Tensor, found: str, values: Mapping[str, TensorValues] = MappingProxyType({})
    ) -> Match:
        if ":" in found:
            settled = port_match(tensor.index, found, "values", _SURE)
        else:
            settled = self._settler.settle(tensor, None, found, "values", _SURE)
        same = same_values(self._graph, found, values)
        return replace(settled, chain=self._with_copies(tensor, settled.chain, same))

    def lacking(self, tensor: Tensor, found: str, known: Match) -> frozenset[str]:
        """Return the operations that a tensor lacks between its value and its match.

        Operators downstream may hide that they are missing on this data.  After a product, or after
        a value of another operator, the match belongs to another operator, and nothing is missing.

        Args:
            tensor: The tensor.
            found: The reference tensor whose values it holds.
            known: Its match.
        """
        # A carried match gives the meaning of a value, but not the operator that computes it.
        known_others = (m for m in self._matches.values() if m.rule != CARRIED)
        others = (m for m in known_others if m.tensor != tensor.index)
        held = frozenset(name for m in others for name in (m.raw, *m.group))
        name = node_of(known.raw)
        between: list[str] = []
        while name != node_of(found):
            between = [] if name in held else [*between, name]
            sources = self._graph.computed_sources(name)
            if len(sources) != 1 or self._graph.nodes[name].op in MAIN_OPS:
                return frozenset()
            name = sources[0]
        return frozenset(self._graph.nodes[name].op for name in between)

    def _hands_on(self, name: str, found: str) -> bool:
        """Return whether one reference tensor is another one, possibly reshaped."""
        node = node_of(found)
        while node != node_of(name) and self._graph.nodes[node].op in RESHAPES | IDENTITY_OPS:
            sources = self._graph.computed_sources(node)
            if len(sources) != 1:
                return False
            node = node_of(sources[0])
        return found != name and node == node_of(name)

    def _share(
        self, tensor: Tensor, test: TensorValues, values: Mapping[str, TensorValues], name: str
    ) -> float:
        """Return the share of a tensor's elements that agree with the values of a node."""
        value = values.get(name)
        if value is None:
            return 0.0
        largest = float(abs(value).max(initial=0.0))
        within = _FLOATS * largest if tensor.lsb is None else _CODES * tensor.lsb
        return agreeing(test, value, within)


def _equal(values: Mapping[str, TensorValues], found: str) -> list[str]:
    """Return the nodes that hold a node's values."""
    return [name for name, value in values.items() if np.array_equal(value, values[found])]


def changed(matching: Matching, changes: Changes, subgraph: Subgraph, graph: RefGraph) -> Matching:
    """Return a matching with other matches, or none, for some tensors.

    The changes also apply to tensors whose match was carried over from them.
    """
    changes = _followed(matching, changes, subgraph, Settler(graph, subgraph, {}))
    matches = {i: m for i, m in matching.matches.items() if i not in changes}
    matches |= {i: c for i, c in changes.items() if isinstance(c, Match)}
    unmatched = {i: u for i, u in matching.unmatched.items() if i not in changes}
    unmatched |= {i: c for i, c in changes.items() if isinstance(c, Unmatched)}
    shapes = {i: s for i, s in matching.shapes.items() if i not in changes}
    return replace(
        matching,
        matches=resolve_parameters(subgraph, matches),
        unmatched=unmatched,
        shapes=shapes,
    )


def _followed(
    matching: Matching, changes: Changes, subgraph: Subgraph, settler: Settler
) -> dict[int, Match | Unmatched]:
    """Add the changes of the tensors whose matches were carried over."""
    found = dict(changes)

    def follow(source: int, target: int) -> None:
        known, change = matching.matches.get(target), found.get(source)
        if change is None or target in found or known is None or known.rule != CARRIED:
            return
        if isinstance(change, Unmatched):
            found[target] = Unmatched(target, change.reason)
        elif ":" in change.raw:
            found[target] = port_match(target, change.raw, CARRIED, change.confidence)
        else:
            tensor = subgraph.tensors[target]
            settled = settler.settle(tensor, None, change.raw, CARRIED, change.confidence)
            chain = tuple(dict.fromkeys((*settled.chain, *change.chain)))
            found[target] = replace(settled, chain=chain)

    handing = [op for op in subgraph.operators if op.kind in HANDED_ON and op.inputs and op.outputs]
    for op in handing:
        follow(op.inputs[0], op.outputs[0])
    for op in reversed(handing):
        follow(op.outputs[0], op.inputs[0])
    return found


def cannot_compute(subgraph: Subgraph, op: Operator, name: str, graph: RefGraph) -> bool:
    """Return whether an operator cannot compute a node on its own.

    Operators with a folded bias, batch norm or activation compute these as well.

    Args:
        subgraph: The subgraph of the operator.
        op: The operator, matched with the node.
        name: The reference tensor.
        graph: The reference.
    """
    operation = graph.nodes[node_of(name)].op
    known = REFERENCE_OPS.get(op.kind)
    if known is None or op.kind in HANDED_ON:
        return False
    handing = IDENTITY_OPS | FAKE_QUANT_OPS | PASSED_THROUGH
    folds = op.kind in WEIGHTED or "fusedActivationFunction" in op.options
    # A batch norm or a bias has constants, and an operator of two activations has none.
    folded = FOLDED - (AFFINE if activation_slots(subgraph, op) > 1 else frozenset())
    return operation not in known | handing | (folded if folds else frozenset())


def holds(match: Match | None, name: str) -> bool:
    """Return whether a match is with a reference tensor or a copy of it."""
    return match is not None and name in match.names


_WITNESS = {"name": "name", "output": "signature"}


def _reason(known: Match, other: str | None) -> str:
    """Return why a match was dropped."""
    if other is not None:
        return (
            f"it holds the values of '{other}' in another order, so it is checked together with "
            "the operators that read it"
        )
    return (
        f"its {_WITNESS.get(known.rule, 'structure')} leads to '{known.raw}', but it holds other "
        "values while what reads it agrees with the reference, so both are checked together"
    )
