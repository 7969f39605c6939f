"""Constants that are stored sparse: the place of each stored value in the array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
_ALWAYS = 1 << 24
"""The number of elements up to which a constant is always unpacked."""
_TIMES = 4096
"""The number of elements per stored byte beyond that: a damaged file may claim any shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level of the tree that stores a sparse constant."""

    size: int
    """The number of children of every node in a dense level."""
    segments: NDArray[Any] | None = None
    """The start of each node's children and the end in a compressed (CSR) level; None if dense."""
    indices: NDArray[Any] | None = None
    """The coordinate of each child in a compressed level; None if dense."""


@dataclass(frozen=True, slots=True, eq=False)
class Sparsity:
    """The layout of the values of a sparse constant (TFLite, ``SparsityParameters``)."""

    order: tuple[int, ...]
    """The dimension of each level; numbers from the rank on are dimensions of blocks."""
    blocks: tuple[int, ...]
    """The dimension of the tensor that each dimension of the blocks divides."""
    levels: tuple[Level, ...]

    @property
    def stored(self) -> int:
        """The count of numbers in the layout itself."""
        return sum(p.size for v in self.levels for p in (v.segments, v.indices) if p is not None)


def densify(
    sparsity: Sparsity, shape: tuple[int, ...], values: NDArray[Any]
) -> NDArray[Any] | None:
    """Return a sparse constant as an array with zeros where nothing is stored.

    Follows TFLite's ``sparsity_format_converter``: the levels of the tensor's dimensions come
    first, followed by those of the blocks; the stored values are the leaves in order.

    Args:
        sparsity: The layout.
        shape: The shape of the array.
        values: (stored,) the stored values.

    Returns:
        The array, or None if layout, shape and values contradict each other.
    """
    elements, rank = int(np.prod(shape, dtype=object)), len(shape)
    if elements > max(_ALWAYS, _TIMES * (values.size + sparsity.stored)):
        return None
    if sorted(sparsity.order) != list(range(rank + len(sparsity.blocks))):
        return None
    if sorted(sparsity.order[:rank]) != list(range(rank)):
        return None
    if len(sparsity.levels) != len(sparsity.order) or not set(sparsity.blocks) <= {*range(rank)}:
        return None
    coordinates = _leaves(sparsity.levels, elements, values.size)
    places = None if coordinates is None else _places(sparsity, coordinates, shape)
    if places is None:
        return None
    dense: NDArray[Any] = np.zeros(elements, values.dtype)
    dense[places] = values
    return dense.reshape(shape)


def _leaves(levels: tuple[Level, ...], most: int, count: int) -> list[Numbers] | None:
    """Walk through the tree level by level.

    Args:
        levels: The levels of the tree.
        most: The largest number of nodes in a level.
        count: The required number of leaves.

    Returns:
        The coordinates of the leaves in each level, or None if the tree is not valid.
    """
    coordinates: list[Numbers] = []
    nodes = 1
    for level in levels:
        if level.segments is None or level.indices is None:
            if level.size < 0 or nodes * level.size > most:
                return None
            parents = np.repeat(np.arange(nodes), level.size)
            own = np.tile(np.arange(level.size), nodes)
        else:
            ends = level.segments.astype(np.int64)
            counts = np.diff(ends)
            whole = ends.size == nodes + 1 and ends[0] == 0 and ends[-1] == level.indices.size
            if not whole or (counts < 0).any():
                return None
            parents, own = np.repeat(np.arange(nodes), counts), level.indices.astype(np.int64)
        coordinates = [*(c[parents] for c in coordinates), own]
        nodes = own.size
    return coordinates if nodes == count else None


def _places(
    sparsity: Sparsity, coordinates: list[Numbers], shape: tuple[int, ...]
) -> Numbers | None:
    """Return the position of each leaf in the flat array."""
    rank, found = len(shape), [np.zeros(0, np.int64)] * len(shape)
    for dimension, own in zip(sparsity.order, coordinates, strict=True):
        if dimension < rank:
            found[dimension] = own
        else:
            divided = sparsity.blocks[dimension - rank]
            size = sparsity.levels[sparsity.order.index(dimension)].size
            found[divided] = found[divided] * size + own
    inside = all(((c >= 0) & (c < n)).all() for c, n in zip(found, shape, strict=True))
    return np.ravel_multi_index(tuple(found), shape).astype(np.int64) if inside and rank else None
