"""Other matches for tensors whose match is in doubt, proposed by values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tfldbg.graph.query import consumers
from tfldbg.match.by_values import agreeing, nearest, reordered, twins
from tfldbg.match.kinds import REFERENCE_OPS
from tfldbg.match.model import Match, Unmatched, port_match
from tfldbg.match.settle import ACTIVATIONS, Settler
from tfldbg.reference.graphdef import node_of

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph, Tensor
    from tfldbg.match.model import Matching
    from tfldbg.reference.graphdef import RefGraph

_MOSTLY = 0.25
"""Share of a tensor's elements whose agreement tells that its match is right and its operator is
wrong: a wrong match agrees by chance, a channel or a border that is wrong leaves the others."""

_CODES = 1.5
_FLOATS = 1e-3

Values = NDArray[Any]


class Proposals:
    """Proposes matches.

    Args:
        subgraph: The TFLite side.
        outputs: By output of the file the reference tensor that it must be.
        graph: The reference.
        matching: What is claimed so far.
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
        self._readers = consumers(subgraph)
        self._settler = Settler(graph, subgraph, {})

    def of(
        self, tensor: Tensor, test: Values, values: Mapping[str, Values], *, accused: bool
    ) -> Match | Unmatched | None:
        """Return another match of a tensor, or why it has none; None where nothing is better.

        Args:
            tensor: The tensor.
            test: (n, ...) what it holds, real units.
            values: By reference tensor (n, ...) what it would hold, clamped to the tensor's range.
            accused: Whether its operator is accused; else it is unchecked.
        """
        known = self._matches.get(tensor.index)
        if tensor.index in self._outputs:
            return self._output(tensor, known)
        found = nearest(test, values)
        if found is not None:
            if known is not None and (found == known.raw or self._drops(tensor, found, known)):
                return None
            return self._settled(tensor, found)
        if known is None or not accused:
            return None
        other = reordered(test, values)
        if other is None and self._mostly(tensor, test, values, known):
            return None
        return Unmatched(tensor.index, _reason(known, other))

    def _output(self, tensor: Tensor, known: Match | None) -> Match | None:
        """An output of the file is an output of the reference, whatever it holds."""
        node = self._outputs[tensor.index]
        return None if holds(known, node) else self._settled(tensor, node)

    def _settled(self, tensor: Tensor, found: str) -> Match:
        if ":" in found:
            return port_match(tensor.index, found, "values", 0.9)
        settled = self._settler.settle(tensor, None, found, "values", 0.9)
        same = (self._settler.settle(tensor, None, t, "values") for t in twins(self._graph, found))
        chain = (*settled.chain, *(name for twin in same for name in twin.chain))
        return replace(settled, chain=tuple(dict.fromkeys(chain)))

    def _drops(self, tensor: Tensor, found: str, known: Match) -> bool:
        """Whether the tensor lacks an activation that its match has, and nobody computes after it.

        What follows may hide that on this data.
        """
        name, between = node_of(known.raw), []
        while name != node_of(found):
            between.append(self._graph.nodes[name].op)
            sources = self._graph.computed_sources(name)
            if len(sources) != 1:
                return False
            name = sources[0]
        kinds = {op.kind for op in self._readers.get(tensor.index, ())}
        computed = frozenset().union(*(REFERENCE_OPS.get(kind, frozenset()) for kind in kinds))
        return any(op in ACTIVATIONS and op not in computed for op in between)

    def _mostly(
        self, tensor: Tensor, test: Values, values: Mapping[str, Values], known: Match
    ) -> bool:
        value = values.get(known.raw)
        if value is None:
            return False
        largest = float(abs(value).max(initial=0.0))
        within = _FLOATS * largest if tensor.lsb is None else _CODES * tensor.lsb
        return agreeing(test, value, within) >= _MOSTLY


def holds(match: Match | None, name: str) -> bool:
    """Whether a match is with a reference tensor or a copy of it."""
    return match is not None and name in (match.node, match.raw, *match.chain)


_WITNESS = {"name": "name", "output": "signature"}


def _reason(known: Match, other: str | None) -> str:
    """Say why a match was given up."""
    if other is not None:
        return (
            f"it holds the values of '{other}' in another order, so it is checked together with "
            "the operators that read it"
        )
    return (
        f"its {_WITNESS.get(known.rule, 'structure')} leads to '{known.raw}', but it holds other "
        "values while what reads it agrees with the reference, so both are checked together"
    )
