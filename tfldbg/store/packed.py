"""Arrays of samples, compressed in the chunks that HDF5 keeps them in: zlib's format, nothing else.

Chunks are compressed by threads, outside of HDF5, which does one thing at a time.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 1
MOST_OF_A_BYTE = 1032
"""Bytes that one compressed byte can stand for (zlib's technical details)."""
_CHUNK_BYTES = 1 << 20
_MOST_THREADS = 4


def _zlib() -> Any:
    """Return what compresses and adds up: ISA-L is several times faster, where it is built."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def checksum(pieces: Iterable[Any], found: int = 0) -> int:
    """Return the CRC-32 of bytes that follow each other, and those that ``found`` is of."""
    crc32 = _zlib().crc32
    for piece in pieces:
        found = crc32(piece, found)
    return found


def rows_of_chunk(first: NDArray[Any]) -> int:
    """Return how many samples a chunk holds, so that every batch is a whole number of chunks.

    Args:
        first: (n, ...) the first batch; all but the last have as many samples.
    """
    most = max(1, _CHUNK_BYTES // max(first[:1].nbytes, 1))
    return next(rows for rows in range(min(most, len(first)), 0, -1) if len(first) % rows == 0)


class Packer:
    """Threads that compress."""

    def __init__(self) -> None:
        self._compress: Callable[[Any, int], bytes] = _zlib().compress
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "tfldbg-pack")

    def pack(self, arrays: Sequence[NDArray[Any]], rows: Sequence[int]) -> list[list[bytes]]:
        """Return the chunks of some arrays.

        Args:
            arrays: (n, ...) each, contiguous.
            rows: Of each, how many samples a chunk holds.
        """
        pieces = [_pieces(a, r) for a, r in zip(arrays, rows, strict=True)]
        packed = self._threads.map(self._packed, [p for some in pieces for p in some])
        return [[next(packed) for _ in some] for some in pieces]

    def _packed(self, chunk: NDArray[Any]) -> bytes:
        return self._compress(chunk.reshape(-1).view(np.uint8).data, LEVEL)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)


def _pieces(array: NDArray[Any], rows: int) -> list[NDArray[Any]]:
    """Cut an array into chunks; what is missing of the last one is 0, as HDF5 has it."""
    if not array.size:
        return []
    found = [array[n : n + rows] for n in range(0, len(array), rows)]
    if len(found[-1]) < rows:
        whole = np.zeros((rows, *array.shape[1:]), array.dtype)
        whole[: len(found[-1])] = found[-1]
        found[-1] = whole
    return found


def unpacked(chunk: bytes, into: NDArray[Any], rows: int) -> None:
    """Decompress one chunk.

    Args:
        chunk: What `Packer.pack` made of it.
        into: (n, ...) receives the samples: fewer than ``rows`` of the last chunk.
        rows: Samples of the chunk.

    Raises:
        ValueError: It is damaged.
    """
    size = rows * into[:1].nbytes
    try:
        raw = zlib.decompressobj().decompress(chunk, size + 1)  # whatever else it holds
    except zlib.error as error:
        raise ValueError(f"a chunk is damaged: {error}") from error
    if len(raw) != size:
        more = "more than" if len(raw) > size else f"{len(raw)} bytes and not"
        raise ValueError(f"a chunk holds {more} {size} bytes")
    values = np.frombuffer(raw, into.dtype).reshape((rows, *into.shape[1:]))
    into[...] = values[: len(into)]
