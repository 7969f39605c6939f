"""Compress the chunks of an HDF5 file in threads, in zlib's format.

HDF5 itself compresses one chunk at a time, and ISA-L is several times faster than zlib.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 1
_CHUNK_BYTES = 1 << 20
_MOST_THREADS = 4


def rows_of_chunk(first: NDArray[Any]) -> int:
    """Return the number of samples per chunk, with which batches are a whole number of chunks.

    Args:
        first: The first batch (n, ...); all but the last batch have as many samples.
    """
    most = max(1, _CHUNK_BYTES // max(first[:1].nbytes, 1))
    return next(rows for rows in range(min(most, len(first)), 0, -1) if len(first) % rows == 0)


class Compressor:
    """Compresses chunks in threads.  Use as a context manager."""

    def __init__(self) -> None:
        self._compress = _compress()
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "tfldbg-pack")

    def __enter__(self) -> Compressor:
        return self

    def __exit__(self, *raised: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def compressed(self, chunks: Iterable[tuple[NDArray[Any], int]]) -> Iterator[bytes]:
        """Return the content of each chunk, in order.

        Args:
            chunks: The samples of each chunk, (n, ...), and the number of samples that the chunk
                holds, which in the last chunk is more than n, and HDF5 expects zeros.
        """
        return self._threads.map(self._one, chunks)

    def _one(self, chunk: tuple[NDArray[Any], int]) -> bytes:
        samples, rows = chunk
        if len(samples) < rows:
            missing = np.zeros((rows - len(samples), *samples.shape[1:]), samples.dtype)
            samples = np.concatenate((samples, missing))
        return self._compress(np.ascontiguousarray(samples).reshape(-1).view(np.uint8), LEVEL)


def _compress() -> Callable[[Any, int], bytes]:
    """Return ISA-L's function if it is installed, else zlib's."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compress
    compress: Callable[[Any, int], bytes] = isal_zlib.compress
    return compress
