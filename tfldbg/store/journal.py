"""Whole batches of a recording that is not finished, in a file that survives whatever ends the run.

The file stands beside the target, ``.RUN.h5.partial`` for ``RUN.h5``, and only ever grows::

    preamble    ``tfldbg unfinished 2`` and the process that writes it, as a line of text
    record      mark, CRC-32, length of the header, length of the values; header (JSON); values
    ...

The first record says which run this is, each of the others holds one batch, its arrays compressed
in the chunks that the HDF5 file will hold.  A record counts if it
is whole and its CRC is right; with the first that is not, the file ends, whatever follows.  A batch
is on the disk (fsync) before the next one runs.  So a run that is killed, or loses its power, keeps
every batch but the one at work, and nothing that was half written is ever read.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, Computed, batch_of
from tfldbg.errors import CaptureError
from tfldbg.files import sync_folder, worded
from tfldbg.store.locked import LENGTH, begin, begun, lock, open_locked, pour
from tfldbg.store.packed import MOST_OF_A_BYTE, Packer, checksum, rows_of_chunk, unpacked

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph

CODES = "codes"
"""The field of TFLite's own values; the others are those of `Computed`."""
SAMPLES = "number of samples"
"""In the identity of a run: how many samples there will be."""
_START = struct.Struct("<4sIQQ")
_LENGTHS = struct.Struct("<QQ")
_MARK = b"tfdb"
_LONGEST_HEADER = 64 << 20
_VALUES = tuple(f.name for f in fields(Computed) if f.name != "saturated")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of one tensor in one batch lie in the file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]
    rows: int
    """Samples of a chunk."""
    lengths: tuple[int, ...]
    """Bytes of each chunk."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some samples of one field of one tensor, compressed."""

    start: int
    """The first of them, among those of which the field is kept."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """What the chunks of one field of one tensor have in common."""

    dtype: str
    count: int
    """Samples."""
    sample: tuple[int, ...]
    """Shape of one."""
    rows: int
    """Samples of a chunk."""


@dataclass(frozen=True, slots=True, eq=False)
class _Record:
    """What the header of a batch says."""

    start: int
    stop: int
    saturated: Mapping[int, int]
    places: Mapping[tuple[str, int], _Place]
    """By field and tensor."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What an unfinished recording holds."""

    path: Path
    done: int
    """Samples that it holds."""
    samples: int
    """Samples that the run was to record."""


def journal_path(target: Path) -> Path:
    """Return where the batches of an unfinished recording are kept."""
    return target.parent / f".{target.name}.partial"


def unfinished(target: Path) -> Unfinished | None:
    """Look for a recording that was not finished.

    Returns:
        What it holds; None where there is none, where it holds no batch, or where a run is at work
        on it.
    """
    path = journal_path(target)
    try:
        with path.open("rb") as file:
            if not lock(file):
                return None
            identity, records, _ = _scan(file)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if identity is None or not records:
        return None
    return Unfinished(path, records[-1].stop, int(identity[SAMPLES]))


class Journal:
    """Keeps batches, and hands out those of an earlier run.  Use as a context manager.

    Args:
        target: The recording that shall come of it.
        subgraph: Whose tensors are recorded.
        identity: What must be the same for an earlier run to be gone on with, by what messages call
            it; `SAMPLES` is one of them.
        resume: Whether to go on with it; else what it kept is thrown away.

    Raises:
        CaptureError: Another process records to the same target, or the earlier run was another.
        TfldbgError: The folder cannot be written to.
    """

    def __init__(
        self, target: Path, subgraph: Subgraph, identity: Mapping[str, str], *, resume: bool
    ) -> None:
        self._target, self._subgraph, self._identity = target, subgraph, dict(identity)
        self._resume = resume
        self._path = journal_path(target)
        self._records: list[_Record] = []

    def __enter__(self) -> Journal:
        with worded(self._target):
            self._file = open_locked(self._path, self._target)
            try:
                self._begin()
            except BaseException:
                self._file.close()
                raise
        self._kept = self.done
        self._packer = Packer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._records:
            self.remove()  # nothing to go on with
        self._packer.close()
        self._file.close()

    @property
    def done(self) -> int:
        """How many samples are kept."""
        return self._records[-1].stop if self._records else 0

    def kept(self) -> Iterator[tuple[Batch, Computed]]:
        """Return the batches of the earlier run, one at a time."""
        for record in [r for r in self._records if r.stop <= self._kept]:
            found: dict[str, dict[int, NDArray[Any]]] = {CODES: {}, **{n: {} for n in _VALUES}}
            for (field, index), place in record.places.items():
                found[field][index] = self._read(place)
            numbers = range(record.start, record.stop)
            batch = batch_of(self._subgraph.tensors, numbers, found.pop(CODES))
            yield batch, Computed(**found, saturated=record.saturated)

    def append(self, batch: Batch, computed: Computed) -> None:
        """Keep one batch, on the disk.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        arrays = {
            (name, i): np.ascontiguousarray(array)
            for name in (CODES, *_VALUES)
            for i, array in (batch.codes if name == CODES else getattr(computed, name)).items()
        }
        rows = [self._rows(key, array) for key, array in arrays.items()]
        packed = self._packer.pack(list(arrays.values()), rows)
        described = zip(arrays.items(), rows, packed, strict=True)
        header = {
            "start": batch.start,
            "stop": batch.stop,
            "saturated": {str(i): n for i, n in computed.saturated.items()},
            "arrays": [
                [*key, array.dtype.str, list(array.shape), size, [len(c) for c in chunks]]
                for (key, array), size, chunks in described
            ],
        }
        self._write(header, [chunk for chunks in packed for chunk in chunks])

    def _rows(self, key: tuple[str, int], array: NDArray[Any]) -> int:
        """Return how many samples a chunk holds: as many as in the first batch."""
        known = self._records[0].places.get(key) if self._records else None
        return known.rows if known is not None else rows_of_chunk(array)

    def tensors(self, field: str) -> list[int]:
        """Return the tensors of which a field is kept."""
        return list(dict.fromkeys(i for r in self._records for f, i in r.places if f == field))

    def layout(self, field: str, index: int) -> Layout | None:
        """Return what the chunks of a field of a tensor are like, None where it holds nothing."""
        places = self._places(field, index)
        if not places or not places[0].lengths:
            return None
        first, count = places[0], sum(p.shape[0] for p in places)
        return Layout(first.dtype, count, first.shape[1:], first.rows)

    def chunks(self, field: str, index: int) -> Iterator[Chunk]:
        """Return one field of one tensor, chunk by chunk."""
        start = 0
        for place in self._places(field, index):
            for number, content in enumerate(self._contents(place)):
                yield Chunk(start + number * place.rows, content)
            start += place.shape[0]

    def _places(self, field: str, index: int) -> list[_Place]:
        places = (record.places.get((field, index)) for record in self._records)
        return [place for place in places if place is not None]

    def remove(self) -> None:
        """Remove the file: the recording is whole, or there is nothing in it."""
        self._path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Read what an earlier run kept, or begin anew."""
        try:
            identity, records, end = _scan(self._file) if self._resume else (None, [], 0)
        except (ValueError, TypeError, KeyError) as error:
            raise CaptureError(
                f"'{self._path}' is no unfinished recording of this tfldbg: {error}",
                hint="leave --resume out to start over",
            ) from error
        if identity is not None and records:
            self._check(identity)
            self._records = records
            self._file.truncate(end)
        else:
            self._file.truncate(0)
        begin(self._file)
        if not records:
            self._write(self._identity, [])
            sync_folder(self._path.parent)

    def _check(self, identity: Mapping[str, str]) -> None:
        names = dict.fromkeys((*identity, *self._identity))
        differing = [n for n in names if identity.get(n) != self._identity.get(n)]
        if differing:
            first = differing[0]
            rest = f"; so do {', '.join(differing[1:])}" if differing[1:] else ""
            raise CaptureError(
                f"the unfinished recording of '{self._target}' is of another run: its {first} was "
                f"{identity.get(first)}, now it is {self._identity.get(first)}{rest}",
                hint="repeat the same command with --resume, or leave --resume out to start over",
            )

    def _write(self, header: Mapping[str, Any], chunks: Sequence[bytes]) -> None:
        text = json.dumps(header).encode()
        lengths = (len(text), sum(map(len, chunks)))
        found = checksum([_LENGTHS.pack(*lengths), text, *chunks])
        start = self._file.seek(0, os.SEEK_END)
        with worded(self._target):
            try:
                for piece in (_START.pack(_MARK, found, *lengths), text, *chunks):
                    pour(self._file, piece)
                os.fsync(self._file.fileno())
            except BaseException:
                self._file.truncate(start)  # half a record is of no use and takes space
                raise
        if "start" in header:
            values = start + _START.size + len(text)
            self._records.append(_record(header, values, values + lengths[1]))

    def _read(self, place: _Place) -> NDArray[Any]:
        # Into an array of its own: how NumPy adds up depends on where an array begins in memory.
        array = np.empty(place.shape, place.dtype)
        for number, content in enumerate(self._contents(place)):
            start = number * place.rows
            unpacked(content, array[start : start + place.rows], place.rows)
        return array

    def _contents(self, place: _Place) -> Iterator[bytes]:
        """Return the chunks of one tensor in one batch."""
        offset = place.offset
        for length in place.lengths:
            self._file.seek(offset)
            yield self._file.read(length)
            offset += length


def _scan(file: BinaryIO) -> tuple[dict[str, str] | None, list[_Record], int]:
    """Read the whole records of a file.

    Returns:
        Which run it is of, None if it does not tell; its batches; where the last of them ends.
    """
    identity: dict[str, str] | None = None
    records: list[_Record] = []
    if not begun(file):
        return None, [], 0
    end = LENGTH
    size = os.fstat(file.fileno()).st_size
    while (found := _whole(file, end, size)) is not None:
        header, values, following = found
        if identity is None:
            identity = header
        else:
            records.append(_record(header, values, following))
        end = following
    return identity, records, end


def _whole(file: BinaryIO, offset: int, size: int) -> tuple[dict[str, Any], int, int] | None:
    """Read one record; return its header, and where its values begin and end, if it is whole."""
    file.seek(offset)
    start = file.read(_START.size)
    if len(start) < _START.size:
        return None
    mark, expected, header_length, values_length = _START.unpack(start)
    values = offset + _START.size + header_length
    if mark != _MARK or header_length > _LONGEST_HEADER or values + values_length > size:
        return None
    text = file.read(header_length)
    found = checksum([_LENGTHS.pack(header_length, values_length), text])
    left = values_length
    while left and (piece := file.read(min(left, 1 << 20))):
        found = checksum([piece], found)
        left -= len(piece)
    if left or found != expected:
        return None
    return json.loads(text), values, values + values_length


def _record(header: Mapping[str, Any], offset: int, end: int) -> _Record:
    """Read the header of a batch.

    Raises:
        ValueError: It does not describe the values behind it.
    """
    places = {}
    for field, index, *described in header["arrays"]:
        places[field, index] = place = _place(offset, *described)
        offset += sum(place.lengths)
    if offset != end:
        raise ValueError("the arrays of a batch are of another size than its values")
    saturated = {int(i): n for i, n in header["saturated"].items()}
    return _Record(header["start"], header["stop"], saturated, places)


def _place(offset: int, dtype: str, shape: list[int], rows: int, lengths: list[int]) -> _Place:
    """Read what the header of a batch says of one array.

    Raises:
        ValueError: It makes no sense, or no memory could hold it.
    """
    kind = np.dtype(dtype)
    whole = all(type(n) is int and n >= 0 for n in (*shape, rows, *lengths))
    if kind.hasobject or not shape or not whole or rows < 1:
        raise ValueError(f"an array is of type {dtype} and shape {shape}")
    size = math.prod(shape)
    chunks = -(-shape[0] // rows) if size else 0
    chunk = math.prod(shape[1:]) * rows * kind.itemsize
    if len(lengths) != chunks or any(chunk > MOST_OF_A_BYTE * (n + 1) for n in lengths):
        raise ValueError(f"an array of shape {shape} does not fit into its chunks")
    return _Place(offset, kind.str, tuple(shape), rows, tuple(lengths))
