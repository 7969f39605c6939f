"""The results of a model sample by sample, collected into one array per tensor."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)


class Frames(Generic[Key]):
    """Collects the arrays of several samples by key.

    Args:
        count: The number of samples.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._arrays: dict[Key, NDArray[Any]] = {}
        self.shapes: dict[Key, list[tuple[int, ...]]] = {}
        """The shape of each sample, by key."""

    def add(self, arrays: Mapping[Key, NDArray[Any]]) -> None:
        """Copy the arrays of the next sample."""
        for key, array in arrays.items():
            seen = self.shapes.setdefault(key, [])
            if not seen:
                self._arrays[key] = np.empty((self._count, *array.shape), array.dtype)
            seen.append(array.shape)
            if array.shape == seen[0]:
                self._arrays[key][len(seen) - 1] = array

    def stacked(self) -> dict[Key, NDArray[Any]]:
        """Return an array (n, ...) for each key; the first axis is samples.

        Raises:
            ValueError: Samples are missing, or have different shapes.
        """
        for key, seen in self.shapes.items():
            if len(seen) != self._count or len(set(seen)) > 1:
                raise ValueError(f"{key}: {self._count} samples of the shapes {sorted(set(seen))}")
        return self._arrays


def numeric(arrays: Mapping[Key, NDArray[Any]]) -> dict[Key, NDArray[Any]]:
    """Return the arrays that do not hold strings."""
    return {key: array for key, array in arrays.items() if array.dtype != object}
