"""Compress the values of samples into chunks of a recording, in the process that computes them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.loops import errors_lsb
from tfldbg.store import schema

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.graph.model import Subgraph
    from tfldbg.quant import Affine

LEVEL = 1
_CHUNK_BYTES = 1 << 20
_PART_BYTES = 128 << 20
"""The values in bytes that are compressed before they are written."""
_MOST = 32
"""The largest number of samples of a part."""

_FREE = schema.REFERENCE, schema.ACCUMULATED_ERROR
_LOCAL = schema.LOCAL_REFERENCE, schema.LOCAL_ERROR
"""The datasets for the values of each reference, and for the errors of TFLite."""

_LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""The smallest scale for which float32 holds its inverse."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The compressed values of some samples."""

    index: int
    """The tensor."""
    name: str
    """The name of the dataset."""
    start: int
    """The number of the first sample."""
    count: int
    """The number of samples."""
    rows: int
    """The number of samples that the chunk has room for; the rest is zeros."""
    dtype: np.dtype[Any]
    sample: tuple[int, ...]
    """The shape of one sample."""
    content: bytes
    """The values in zlib's format."""


def samples_of_part(sample_bytes: int) -> int:
    """Return the number of samples to compress at a time, a power of two up to 32.

    Args:
        sample_bytes: The size of all values of one sample.
    """
    return divisor_below(_MOST, _PART_BYTES // max(sample_bytes, 1))


def divisor_below(number: int, most: int) -> int:
    """Return the largest divisor of a number up to ``most``, at least 1."""
    return next((d for d in range(min(number, most), 1, -1) if number % d == 0), 1)


def as_errors(subgraph: Subgraph) -> dict[int, Affine]:
    """Return the scale and zero point of the tensors whose errors float16 holds: those of 8 bits.

    Args:
        subgraph: The subgraph whose tensors are recorded.
    """
    known = ((t.index, t.affine) for t in subgraph.tensors if t.type in ("INT8", "UINT8"))
    return {i: a for i, a in known if a is not None and a.scale >= _LEAST_SCALE}


class ChunkPacker:
    """Compresses the values of samples that follow each other, beginning where a part begins.

    It can be pickled.

    Args:
        part: The number of samples of a part, of `samples_of_part` or a divisor of a stream.
        affines: The scale and zero point of each tensor for which the errors of TFLite are recorded
            in LSB instead of the reference's values; those of `as_errors`, or none.
    """

    def __init__(self, part: int, affines: Mapping[int, Affine]) -> None:
        self._part, self._affines = part, affines
        self._pending: dict[tuple[int, str], _Pending] = {}
        self._chunks: list[Chunk] = []

    def __getstate__(self) -> dict[str, Any]:
        """Return the chunks, and nothing pending."""
        return {**self.__dict__, "_pending": {}, "_chunks": self.take()}

    def record(self, batch: Batch, computed: Computed) -> None:
        """Take the values of one batch."""
        for index, codes in batch.codes.items():
            self._add(index, schema.VALUES, batch.start, codes)
        own = {i: codes for i, codes in batch.codes.items() if i not in computed.tested}
        self._add_reference(batch.start, computed.free, batch.codes, _FREE)
        self._add_reference(batch.start, computed.local, own, _LOCAL)

    def _add_reference(
        self,
        start: int,
        references: Mapping[int, Floats],
        compared: Mapping[int, NDArray[Any]],
        names: tuple[str, str],
    ) -> None:
        """Take the values of a reference, or the errors of the codes that are compared with it."""
        whole, errors = names
        for index, reference in references.items():
            codes, affine = compared.get(index), self._affines.get(index)
            if codes is None or affine is None or codes.shape != reference.shape:
                self._add(index, whole, start, reference)
            else:
                array = errors_lsb(codes, reference, affine.scale, affine.zero_point)
                self._add(index, errors, start, array)

    def _add(self, index: int, name: str, start: int, array: NDArray[Any]) -> None:
        if not array.size:
            return  # HDF5 has no chunks for it
        pending = self._pending.get((index, name))
        if pending is None:
            rows = divisor_below(self._part, _CHUNK_BYTES // array[0].nbytes)
            pending = self._pending[index, name] = _Pending(index, name, rows, array)
        self._chunks += pending.add(start, array)

    def full(self) -> list[Chunk]:
        """Return the full chunks since the last call."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def take(self) -> list[Chunk]:
        """Return all chunks since the last call, after which a part begins or nothing follows."""
        return [*self.full(), *(c for p in self._pending.values() for c in p.rest())]


class _Pending:
    """The values of a tensor that do not fill a chunk yet."""

    def __init__(self, index: int, name: str, rows: int, first: NDArray[Any]) -> None:
        self._index, self._name = index, name
        self._room = np.zeros((rows, *first.shape[1:]), first.dtype)
        self._start = self._count = 0
        self._compress = _compress()

    def add(self, start: int, array: NDArray[Any]) -> Sequence[Chunk]:
        """Add samples, and return the chunks that they fill."""
        full: list[Chunk] = []
        for number, values in enumerate(array, start):
            if number != self._start + self._count:
                full += self.rest()
                self._start = number
            self._room[self._count] = values
            self._count += 1
            if self._count == len(self._room):
                full += self.rest()
        return full

    def rest(self) -> Sequence[Chunk]:
        """Return the chunk of the samples so far, if there are any."""
        if not self._count:
            return ()
        self._room[self._count :] = 0
        content = self._compress(self._room.reshape(-1).view(np.uint8), LEVEL)
        sizes = (self._start, self._count, len(self._room))
        self._start, self._count = self._start + self._count, 0
        outline = (self._room.dtype, self._room.shape[1:])
        return (Chunk(self._index, self._name, *sizes, *outline, content),)


def _compress() -> Callable[[Any, int], bytes]:
    """Return ISA-L's function if it is installed, which is several times faster, else zlib's."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compress
    compress: Callable[[Any, int], bytes] = isal_zlib.compress
    return compress
