"""Memory that the session and a child process share, so that large arrays need no pipe."""

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
"""The alignment in bytes, which suits vector instructions and caches."""
_SMALLEST = 1 << 12
"""The size in bytes from which an array is stored here."""


class Block:
    """The arrays of one message.  They are read before the next message is written.

    Args:
        descriptor: The descriptor of a file that both processes hold open.
        size: The size of the block, bytes; the file has at least this size.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._map = mmap.mmap(descriptor, size)
        # Views of this array prevent closing the map, unlike those of `numpy.ndarray`.
        self._bytes: NDArray[np.uint8] | None = np.frombuffer(self._map, np.uint8)
        self.descriptor, self.size = descriptor, size
        self._used = 0

    def clear(self) -> None:
        """Begin a message."""
        self._used = 0

    def put(self, array: NDArray[Any]) -> int | None:
        """Write an array; return its start, or None if it is small or does not fit.

        Args:
            array: A numeric array.
        """
        start = self._used
        if array.nbytes < _SMALLEST or start + array.nbytes > self.size:
            return None
        np.copyto(self._view(array.dtype, array.shape, start), array)
        self._used = start + -(-array.nbytes // _ALIGNED) * _ALIGNED
        return start

    def get(self, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> NDArray[Any]:
        """Return an array without copying it; the next message overwrites it.

        Raises:
            ValueError: The array reaches beyond the end.
        """
        return self._view(dtype, shape, start)

    def _view(self, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> NDArray[Any]:
        if self._bytes is None:
            raise ValueError("the memory was given back")
        stop = start + prod(shape) * dtype.itemsize
        return self._bytes[start:stop].view(dtype).reshape(shape)

    def close(self) -> None:
        """Release the memory; the other process and existing arrays still hold it."""
        self._bytes = None
        with suppress(BufferError):  # an array is in use and keeps the memory
            self._map.close()


def shared_memory() -> int | None:
    """Return the descriptor of memory without a size, or None if the system does not support it."""
    return os.memfd_create("tfldbg") if hasattr(os, "memfd_create") else None


def block_for(descriptor: int, arrays: Sequence[int]) -> Block:
    """Return a block for some arrays.  Its pages are allocated when they are written.

    Args:
        descriptor: The descriptor from `shared_memory`.
        arrays: The sizes of the arrays, bytes.

    Raises:
        OSError: There is not enough memory.
    """
    size = max(_SMALLEST, sum(-(-n // _ALIGNED) * _ALIGNED for n in arrays))
    os.truncate(descriptor, size)
    return Block(descriptor, size)
