"""Memory that a session and its child process share, so that large arrays need no pipe."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNED = 64
"""Bytes; what vector instructions and caches like."""
_SMALLEST = 1 << 12
"""Bytes from which an array is worth a place here."""


class Block:
    """The arrays of one message at a time.  What is written is read before the next is sent.

    Args:
        descriptor: Of a file of at least ``size`` bytes that both processes hold open.
        size: Bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._map = mmap.mmap(descriptor, size)
        # Unlike one that `numpy.ndarray` makes of the map, its views keep the map from closing.
        self._bytes: NDArray[np.uint8] | None = np.frombuffer(self._map, np.uint8)
        self.descriptor, self.size = descriptor, size
        self._used = 0

    def clear(self) -> None:
        """Begin a message."""
        self._used = 0

    def put(self, array: NDArray[Any]) -> int | None:
        """Write an array; return where it begins, None if it is small or there is no room.

        Args:
            array: Numeric.
        """
        start = self._used
        if array.nbytes < _SMALLEST or start + array.nbytes > self.size:
            return None
        np.copyto(self._view(array.dtype, array.shape, start), array)
        self._used = start + -(-array.nbytes // _ALIGNED) * _ALIGNED
        return start

    def get(self, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> NDArray[Any]:
        """Return an array where it lies, until another message takes its place.

        Raises:
            ValueError: It would reach beyond the end.
        """
        return self._view(dtype, shape, start)

    def _view(self, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> NDArray[Any]:
        if self._bytes is None:
            raise ValueError("the memory was given back")
        stop = start + prod(shape) * dtype.itemsize
        return self._bytes[start:stop].view(dtype).reshape(shape)

    def close(self) -> None:
        """Give the memory back; the other process still holds it, and whoever holds an array."""
        self._bytes = None
        with suppress(BufferError):  # an array is in use: the memory goes with it
            self._map.close()


def shared_memory() -> int | None:
    """Return the descriptor of memory that has no size yet; None where the system has none."""
    return os.memfd_create("tfldbg") if hasattr(os, "memfd_create") else None


def block_for(descriptor: int, arrays: Sequence[int]) -> Block:
    """Return memory for some arrays.  The pages are taken as they are written to.

    Args:
        descriptor: As `shared_memory` returns it.
        arrays: Their sizes in bytes.

    Raises:
        OSError: There is not so much.
    """
    size = max(_SMALLEST, sum(-(-n // _ALIGNED) * _ALIGNED for n in arrays))
    os.truncate(descriptor, size)
    return Block(descriptor, size)
