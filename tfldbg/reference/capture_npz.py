"""Read a recording from an ``.npz`` archive: one array per tensor, keyed by the tensor's name.

A tensor without a name has the key ``tensor N``, where N is its index in the file.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg import guard
from tfldbg.errors import CaptureError
from tfldbg.reference.recorded import Contents, Recorded, count_samples, stored_type

_NPZ_HINT = "save it with numpy.savez(path, **{tensor_name: array}), first axis samples"
_INDEX_KEY = re.compile(r"tensor ([0-9]{1,9})")


def open_npz(path: Path, source: Path | BinaryIO) -> Contents:
    """Open an archive.

    Args:
        path: Its name in messages.
        source: The file, or its content.

    Raises:
        CaptureError: It is damaged, or holds anything other than arrays of numbers.
    """
    with _readable_npz(path):
        archive = zipfile.ZipFile(source)
    try:
        with _readable_npz(path):
            return _Npz(path, archive).contents()
    except CaptureError:
        archive.close()
        raise


@contextmanager
def _readable_npz(path: Path) -> Iterator[None]:
    try:
        yield
    except guard.UNREADABLE as error:
        raise CaptureError(
            f"cannot read the recording '{path}': {error}", hint=_NPZ_HINT
        ) from error


@dataclass(slots=True)
class _ArrayMember:
    """One array of the archive."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begins: int
    """The position of the first value, bytes."""


class _Npz:
    """An archive with one array per tensor in C order, read forward."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._members: list[_ArrayMember] = []
        self._open: dict[int, Any] = {}

    def read(self, number: int, start: int, stop: int) -> NDArray[Any]:
        member = self._members[number]
        row = math.prod(member.shape[1:]) * member.dtype.itemsize
        with _readable_npz(self._path):
            if number not in self._open:
                self._open[number] = self._archive.open(member.name)
            stream = self._open[number]
            stream.seek(member.begins + start * row)
            content = stream.read((stop - start) * row)
            return np.frombuffer(content, member.dtype).reshape(stop - start, *member.shape[1:])

    def descriptor(self) -> int:
        return self._archive.fp.fileno()  # type: ignore[union-attr]

    def close(self) -> None:
        for stream in self._open.values():
            stream.close()
        self._archive.close()

    def contents(self) -> Contents:
        """Return a description of the archive's contents."""
        tensors: list[Recorded] = []
        lengths: dict[str, int] = {}
        for info in self._archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            member = self._member(info)
            self._members.append(member)
            name = info.filename.removesuffix(".npy")
            lengths[name] = member.shape[0]
            nameless = _INDEX_KEY.fullmatch(name)
            tensors.append(
                Recorded(
                    number=len(tensors),
                    index=int(nameless[1]) if nameless else None,
                    name="" if nameless else name,
                    type=stored_type(member.dtype, ""),
                    shape=member.shape[1:],
                    scale=None,
                    zero_point=None,
                    operator=None,
                    kind=None,
                    reads=None,
                )
            )
        return Contents(tuple(tensors), count_samples(self._path, lengths), {}, self)

    def _member(self, info: zipfile.ZipInfo) -> _ArrayMember:
        name = info.filename.removesuffix(".npy")
        with self._archive.open(info) as stream:
            shape, fortran, dtype = guard.npy_header(stream, name)
            begins = stream.tell()
        if dtype.kind not in "biuf" or not shape:
            raise CaptureError(
                f"'{name}' in '{self._path}' is {dtype} of shape {shape}, expected numbers of "
                "shape (samples, ...)",
                hint=_NPZ_HINT,
            )
        if fortran and len(shape) > 1:
            raise CaptureError(
                f"'{name}' in '{self._path}' is stored column by column (Fortran order)",
                hint="save numpy.ascontiguousarray(array)",
            )
        size = begins + math.prod(shape) * dtype.itemsize
        if info.file_size != size:
            raise CaptureError(
                f"'{name}' in '{self._path}' is damaged: {info.file_size} bytes, expected {size} "
                f"for {dtype} of shape {shape}",
                hint="save it again",
            )
        sample = math.prod(shape[1:]) * dtype.itemsize
        guard.check_size(f"one sample of '{name}'", sample)
        return _ArrayMember(info.filename, dtype, tuple(shape), begins)
