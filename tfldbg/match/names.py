"""Find the reference nodes that the name of a TFLite tensor mentions.

The converter joins the names of the graph nodes that an operator replaces with ``;``.  Parts can be
empty, and the order of the parts has no meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.reference.graphdef import RefGraph

_CALL = "StatefulPartitionedCall/"


class NameIndex:
    """Looks up node names for the tensor names of one file.

    Args:
        graph: The reference.
        tensor_names: Every tensor name of the file, constants included.
    """

    def __init__(self, graph: RefGraph, tensor_names: Iterable[str]) -> None:
        self._graph = graph
        self._tensor_names = frozenset(tensor_names)
        self._by_name: dict[str, str] = {}
        self._by_tail: dict[str, list[str]] = {}
        for name in sorted(graph.computed):
            plain = _called(name)
            self._by_name.setdefault(plain, name)
            self._by_tail.setdefault(_tail(plain), []).append(name)

    def nodes(self, tensor_name: str) -> tuple[str, ...]:
        """Return the computed reference nodes that a tensor name mentions."""
        parts = self._plain(tensor_name).split(";")
        if parts == [parts[0], *(f"{parts[0]}{port}" for port in range(1, len(parts)))]:
            # These are the outputs of one node: ``split_11`` is one of ``split_1``.
            del parts[1:]
        found = (self._node(part) for part in parts)
        return tuple(dict.fromkeys(node for node in found if node is not None))

    def _plain(self, name: str) -> str:
        """Strip the digits that the exporter appends to a name that is already used.

        A name that refers to a node was not extended: ``MatMul_10`` is not ``MatMul_1``.
        """
        if self._node(name.rpartition(";")[2]) is not None:
            return name
        stripped = name.rstrip("0123456789")
        for end in range(len(name) - 1, len(stripped) - 1, -1):
            if name[:end] in self._tensor_names:
                return name[:end]
        return name

    def _node(self, part: str) -> str | None:
        name = _called(part.strip().split(":")[0])
        if name in self._graph.computed:
            return name
        if name in self._by_name:
            return self._by_name[name]
        same_tail = self._by_tail.get(_tail(name), []) if "/" in name else []
        return same_tail[0] if len(same_tail) == 1 else None


def numbered(names: Sequence[str]) -> list[int]:
    """Return the output number of each tensor of an operator, from the exporter's numbers.

    The exporter names them ``split``, ``split1``, ``split2``.  For other names their order counts.
    """
    base = min(names, key=len)
    ends = [name.removeprefix(base) for name in names]
    expected = ["", *map(str, range(1, len(names)))]
    if sorted(ends) != sorted(expected):
        return list(range(len(names)))
    return [expected.index(end) for end in ends]


def _called(name: str) -> str:
    """Return a name without the calls that a SavedModel's signature puts around a model."""
    while name.startswith(_CALL):
        name = name.removeprefix(_CALL)
    return name


def _tail(name: str) -> str:
    """Return a node's name without its first component, the name of the model."""
    return name.partition("/")[2] or name
