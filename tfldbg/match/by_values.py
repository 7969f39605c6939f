"""Identify the reference node of a tensor by the values of a few samples alone.

Names and structure are claims that may be wrong; values are independent evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.reference.graphdef import FAKE_QUANT_OPS, IDENTITY_OPS, RefGraph, node_of

Doubles = NDArray[np.float64]

_ALIKE = 0.3
"""The largest ratio of RMSE to RMS at which a tensor may hold a node's value: rounding to a coarse
scale reaches a quarter; values of another node differ by half of the signal and more."""
_CLEARLY = 0.5
"""The best node's distance must be below this share of the next node's."""
_SAME_MOMENTS = 0.01
"""The relative difference of moments that rounding to codes explains if values are the same."""
_ROUNDINGS = 2
"""The rounding error that one or two operators upstream leave in the values, steps."""
_COARSE = 0.25
"""The ratio of this error's RMS to the values' RMS from which values of other nodes look alike."""
_SKIPPED = FAKE_QUANT_OPS | IDENTITY_OPS | {"Placeholder"}
_NUMBERS = ("float", "int", "bfloat", "bool")
_NEUTRAL = frozenset({"Add", "AddV2", "BiasAdd", "Mul", "RealDiv", "Sub"})
"""Operations that do not change a value if the other operand is 0 or 1, such as an initial state of
zeros, and that the converter then removes."""


def candidates(graph: RefGraph, elements: Iterable[int]) -> list[str]:
    """Return the tensors that may hold the given numbers of values, in topological order.

    Further outputs of a node that nothing reads, such as the statistics that a batch norm returns,
    are left out, because nothing is computed from them.

    Args:
        graph: The reference.
        elements: The numbers of values to look for.
    """
    wanted = frozenset(elements)
    found = []
    for name in sorted(graph.activations, key=lambda n: graph.order[n]):
        node = graph.nodes[name]
        if node.op in _SKIPPED or not node.dtype.startswith(_NUMBERS):
            continue
        if node.elements is not None and not any(
            node.elements and count % node.elements == 0 for count in wanted
        ):
            continue
        found.append(name)
        ports = (f"{name}:{port}" for port in range(1, len(node.others) + 1))
        found += [port for port in ports if port in graph.read]
    return found


def nearest(
    test: NDArray[Any], values: Mapping[str, NDArray[Any]], known: str | None = None
) -> str | None:
    """Return the node whose values a tensor holds, element by element.

    Args:
        test: The tensor's values, one sample after the other, real units.
        values: The values of each node, clamped to the tensor's range; as many values each.
        known: The node that the tensor is matched with.

    Returns:
        The node that agrees best; of several, the known one or else the first.  None if no node
        agrees, if another value agrees about as well, or if all values of the tensor are equal,
        which shows nothing.
    """
    flat = np.asarray(test, np.float64).ravel()
    if not flat.size or np.ptp(flat) == 0 or not np.isfinite(flat).all():
        return None
    distance = {name: _distance(flat, value) for name, value in values.items()}
    ranked = sorted(distance, key=lambda name: distance[name])
    if not ranked or distance[ranked[0]] > _ALIKE:
        return None
    floor = 1e-6  # float32 sums in another order: nodes this near hold the same values
    best = ranked[0]
    if known is not None and distance.get(known, np.inf) <= max(distance[best], floor):
        return known
    rival = next((n for n in ranked[1:] if not np.array_equal(values[n], values[best])), None)
    if rival is None or distance[best] < _CLEARLY * distance[rival] or distance[rival] < floor:
        return best
    return None


def _distance(flat: Doubles, value: NDArray[Any]) -> float:
    """Return the RMSE divided by the RMS of the tensor's own values."""
    other = np.asarray(value, np.float64).ravel()
    scale = float(np.linalg.norm(flat))
    off = float(np.linalg.norm(flat - other))
    return off / scale if np.isfinite(off) else np.inf


def moments(values: NDArray[Any]) -> Doubles:
    """Return the statistics that do not change when the values of a sample are reordered.

    Args:
        values: (n, ...) real units.

    Returns:
        (n, 4) sum, root of the sum of squares, minimum and maximum of each sample.
    """
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    columns = (rows.sum(1), np.sqrt(np.square(rows).sum(1)), rows.min(1), rows.max(1))
    return np.stack(columns, 1)


def reordered(
    test: NDArray[Any], values: Mapping[str, NDArray[Any]], known: str | None = None
) -> str | None:
    """Return a node that holds the tensor's values in another order, or None.

    A node that agrees with the tensor element by element, even roughly, is not in another order.

    Args:
        test: (n, ...) the tensor's values, real units.
        values: The values of each node (n, ...), as many values each.
        known: The node that the tensor is matched with, which is preferred.
    """
    own = moments(test)
    scale = np.abs(own).max()
    if not np.isfinite(scale) or scale == 0 or np.ptp(np.asarray(test)) == 0:
        return None
    away = {
        name: float(np.abs(moments(v) - own).max() / scale)
        for name, v in values.items()
        if not _in_order(test, v)
    }
    if known is not None and away.get(known, np.inf) <= _SAME_MOMENTS:
        return known
    best = min(away, key=lambda name: away[name], default=None)
    return best if best is not None and away[best] <= _SAME_MOMENTS else None


def _in_order(test: NDArray[Any], value: NDArray[Any]) -> bool:
    """Return whether values agree element by element, apart from their mean."""
    one, other = (np.asarray(v, np.float64).ravel() for v in (test, value))
    return bool(np.linalg.norm(one - other) <= _ALIKE * np.linalg.norm(one - one.mean()))


def is_moved(test: NDArray[Any], value: NDArray[Any], step: float) -> bool:
    """Return whether a tensor holds a node's values (n, ...) in another order than the node.

    Args:
        test: The tensor's values, real units.
        value: The node's values.
        step: The size of one code of the tensor, 0 for float: rounding, which some kernels do in
            one direction, may move every value by this much.
    """
    rows = [np.sort(np.asarray(v, np.float64).reshape(len(v), -1), 1) for v in (test, value)]
    norm = float(np.linalg.norm(rows[0]))
    rounding = _ROUNDINGS * step * np.sqrt(rows[0].size)
    if not np.isfinite(norm) or np.ptp(rows[0]) == 0 or rounding > _COARSE * norm:
        return False
    apart = float(np.linalg.norm(rows[0] - rows[1]))
    moved = _distance(np.asarray(test, np.float64).ravel(), value) > _ALIKE
    return moved and apart <= _SAME_MOMENTS * norm + rounding


def agreeing(test: NDArray[Any], value: NDArray[Any], within: float) -> float:
    """Return the share of elements that differ by at most ``within``, ignoring common zeros."""
    one, other = (np.asarray(v, np.float64).ravel() for v in (test, value))
    telling = (one != 0) | (other != 0)
    if not telling.any():
        return 1.0
    return float((np.abs(one - other) <= within)[telling].mean())


def same_values(graph: RefGraph, tensor: str, values: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the tensors with the same values as a tensor, of which the converter may keep one.

    These are nodes of the same operation on the same inputs and equal constants, nodes after it
    that add zero or multiply by one, and nodes of other branches, all identical to the last bit.
    A node that computes something else from it and has the same values by chance, such as a ReLU
    of positive values, is not included.

    Args:
        graph: The reference.
        tensor: A reference tensor, ``name`` or ``name:port``.
        values: The values of each reference tensor; as many values each.
    """
    if tensor not in values:
        return []
    flat = np.ravel(values[tensor])
    own = node_of(tensor)
    equal = [n for n, v in values.items() if n != tensor and np.array_equal(np.ravel(v), flat)]
    same = [n for n in _twins(graph, own) if n in equal] if tensor == own else []
    if flat.size and np.ptp(flat):
        before, after = _reached(graph, own, up=True), _reached(graph, own, up=False)
        same += [n for n in equal if node_of(n) not in before | after]
        same += _unchanged_after(graph, own, frozenset(equal))
    return list(dict.fromkeys(same))


def _reached(graph: RefGraph, name: str, *, up: bool) -> set[str]:
    """Return the nodes upstream of a node, or those downstream."""
    found = {name}
    stack = [name]
    while stack:
        here = stack.pop()
        further = graph.nodes[here].sources if up else graph.consumers.get(here, ())
        fresh = [n for n in further if n not in found]
        found.update(fresh)
        stack += fresh
    return found


def _unchanged_after(graph: RefGraph, name: str, equal: frozenset[str]) -> list[str]:
    found: list[str] = []
    stack = [name]
    while stack:
        for user in graph.consumers.get(stack.pop(), ()):
            if user in equal and graph.nodes[user].op in _NEUTRAL and user not in found:
                found.append(user)
                stack.append(user)
    return found


def _twins(graph: RefGraph, name: str) -> list[str]:
    """Return the nodes that compute the same value if their constants are equal."""
    node = graph.nodes[name]

    def computed(other: str) -> tuple[str, ...]:
        return tuple(i for i in graph.nodes[other].inputs if node_of(i) in graph.computed)

    own = computed(name)
    consumers = graph.consumers.get(node_of(own[0]), ()) if own else ()
    return [
        n for n in consumers if n != name and (graph.nodes[n].op, computed(n)) == (node.op, own)
    ]
