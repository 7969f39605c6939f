"""Checks of untrusted files, made before anything is unpacked, allocated or followed.

The checks do not depend on a file's name or type.  What is read whole has to fit into half of the
machine's memory, and only data stored in the file itself is read.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np

_OWN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
"""HDF5's own filters and h5py's LZF; HDF5 would load any other from a library."""
_UNKNOWN_MEMORY = 8 << 30
"""The memory assumed for a machine that does not report its size, bytes."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_HEAP, _HEAP_VERSION = b"GCOL", b"\x01\0\0\0"
"""The first bytes of a global heap of HDF5."""
_MOST_IN_HEAP = 1 << 16
"""The largest number of objects in a heap, where the check ends: HDF5 numbers them in 16 bits."""
_MOST_SEARCHED = 1 << 30
"""The largest file that is searched for damaged heaps, bytes: a larger one would take seconds."""
_MOST_EXPANSION = 1100
"""The largest number of bytes that one stored byte expands to: DEFLATE reaches 1,032."""
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,  # NotImplementedError and RecursionError are subclasses
    MemoryError,
    OverflowError,
    SyntaxError,
    TypeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The exceptions that libraries raise on files that are damaged or malicious."""
_NO_HEADER = (
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    OverflowError,
    TypeError,
)
"""The exceptions that NumPy raises on a header in addition to ValueError, which readers catch."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class RefusedError(ValueError):
    """A file claims or asks for something that no valid file does; the message says what."""


def machine_memory() -> int | None:
    """Return the bytes of memory that this process may use, or None if unknown.

    This is the memory of the machine or container, or the limit of the process if that is lower.
    """
    sizes = []
    with suppress(ImportError, ValueError, OSError):
        import resource

        limits = (resource.RLIMIT_DATA, resource.RLIMIT_AS)
        set_limits = (resource.getrlimit(limit)[0] for limit in limits)
        sizes += [size for size in set_limits if size != resource.RLIM_INFINITY]
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" is not a number
            sizes.append(int(Path(path).read_text()))
    return min((size for size in sizes if size > 0), default=None)


def memory_limit() -> int:
    """Return the largest size of a file that is read whole, bytes: half of the memory."""
    return (machine_memory() or _UNKNOWN_MEMORY) // 2


def check_size(what: str, size: int) -> None:
    """Check that ``size`` bytes fit into the memory.

    Raises:
        RefusedError: ``size`` bytes exceed `memory_limit`.
    """
    limit = memory_limit()
    if size > limit:
        raise RefusedError(
            f"{what} would take {size:,} bytes, more than half of this machine's memory "
            f"({limit:,} bytes)"
        )


def check_zip(archive: zipfile.ZipFile) -> None:
    """Check that what an archive unpacks to fits into the memory.

    `zipfile` returns no more bytes of a member than its entry declares, so declared sizes count.

    Raises:
        RefusedError: The archive is a decompression bomb.
    """
    check_size("its unpacked content", sum(member.file_size for member in archive.infolist()))


def check_member_names(archive: zipfile.ZipFile) -> None:
    """Check that an archive can be unpacked into a folder without writing outside it.

    Raises:
        RefusedError: The name of a member leads out of the folder.
    """
    for name in archive.namelist():
        if leaves_folder(name):
            raise RefusedError(f"its member {name!r} names a place outside the archive")


def leaves_folder(name: str) -> bool:
    """Return whether a relative path leads out of its folder on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.anchor) or ".." in windows.parts or PurePosixPath(name).is_absolute()


def npy_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a ``.npy`` stream.

    Returns:
        The shape, True if the order is Fortran's, and the type.

    Raises:
        RefusedError: There is no header, or it is not one that NumPy writes.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise RefusedError(f"'{name}' has .npy version {version}")
        shape, fortran, dtype = _HEADERS[version](stream)
    except _NO_HEADER as error:
        raise RefusedError(f"'{name}' has a .npy header that cannot be read") from error
    if any(size < 0 for size in shape):
        raise RefusedError(f"'{name}' has the shape {shape}")
    return shape, fortran, dtype


def check_npz(archive: zipfile.ZipFile) -> None:
    """Check that an ``.npz`` is not a decompression bomb and that its arrays match their members.

    Raises:
        RefusedError: It is a bomb, a member holds objects, or an array's size is not its member's.
    """
    check_zip(archive)
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            continue
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as stream:
            shape, _, dtype = npy_header(stream, name)
            begins = stream.tell()
        if dtype.hasobject:
            raise RefusedError(f"'{name}' holds Python objects (a pickle), which could run code")
        size = begins + math.prod(shape) * dtype.itemsize
        if size != member.file_size:
            raise RefusedError(
                f"'{name}' is damaged: {member.file_size} bytes, expected {size} for {dtype} of "
                f"shape {shape}"
            )


def check_npy(path: Path) -> None:
    """Check that a ``.npy`` file holds no objects and all values that its header states.

    Raises:
        RefusedError: It holds objects or too few bytes.
    """
    with path.open("rb") as stream:
        shape, _, dtype = npy_header(stream, path.name)
        begins = stream.tell()
    if dtype.hasobject:
        raise RefusedError("it holds Python objects (a pickle), which could run code")
    size, held = begins + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if size > held:
        raise RefusedError(f"{held} bytes, expected {size} for {dtype} of shape {shape}")


def check_hdf5(file: Any, *, whole: bool = True) -> None:
    """Check that an HDF5 file holds its own data and does not expand without bound.

    Args:
        file: An open ``h5py.File``.
        whole: True if everything in it may be read at once, False if single samples are read.

    Raises:
        RefusedError: It links to other files, stores values in other files, needs a filter that is
            not part of HDF5, claims more than it stores, or would be read forever.
    """
    _check_heaps(file)
    total = 0
    for name, dataset in _datasets(file):
        check_dataset(name, dataset)
        rows = 1 if whole or not dataset.shape else max(dataset.shape[0], 1)
        total += _claimed(dataset) // rows
    check_size("its datasets", total)


def _check_heaps(file: Any) -> None:
    """Check that no heap holds free space of size 0, which sends HDF5 into an endless loop.

    A heap holds the texts of attributes.  "Global Heap" in the HDF5 File Format Specification
    describes its layout.
    """
    if file.driver == "fileobj" or file.id.get_create_plist().get_sizes() != (8, 8):
        return
    with open(file.filename, "rb") as stored:  # noqa: PTH123  (h5py may give bytes)
        if not 0 < os.fstat(stored.fileno()).st_size <= _MOST_SEARCHED:
            return
        with mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.find(_HEAP)
            while start >= 0:
                _check_heap(content, start)
                start = content.find(_HEAP, start + len(_HEAP))


def _check_heap(content: mmap.mmap, start: int) -> None:
    if content[start + 4 : start + 8] != _HEAP_VERSION or start + 16 > len(content):
        return  # not a heap: values that contain the same bytes
    (size,) = struct.unpack_from("<Q", content, start + 8)
    at, end = start + 16, min(start + size, len(content))
    for _ in range(_MOST_IN_HEAP):
        if at + 16 > end:
            return
        index, size = struct.unpack_from("<H6xQ", content, at)
        if index == size == 0:
            raise RefusedError("a heap of it holds free space of size 0, which HDF5 never leaves")
        at += size if index == 0 else 16 + size + -size % 8


def check_dataset(name: str, dataset: Any) -> None:
    """Check one HDF5 dataset as `check_hdf5` does.

    Raises:
        RefusedError: As for `check_hdf5`.
    """
    if dataset.is_virtual or dataset.external:
        raise RefusedError(
            f"the values of '{name}' lie in other files; only what the file itself holds is read"
        )
    creation = dataset.id.get_create_plist()
    for number in range(creation.get_nfilters()):
        code = int(creation.get_filter(number)[0])
        if code not in _OWN_FILTERS:
            raise RefusedError(
                f"'{name}' is compressed with filter {code}, which is a library that HDF5 would "
                "load; save it with compression='gzip', or with none"
            )
    claimed, stored = _claimed(dataset), int(dataset.id.get_storage_size())
    if claimed > _MOST_EXPANSION * max(stored, 1 << 16):
        raise RefusedError(
            f"'{name}' claims {claimed:,} bytes and stores {stored:,}: no compression does that"
        )
    check_size(f"one piece of '{name}'", math.prod(dataset.chunks or ()) * dataset.dtype.itemsize)


def check_attributes(name: str, attributes: Any, size: int) -> None:
    """Check that no HDF5 attribute claims more bytes than the file has.

    Args:
        name: The name of the object that has the attributes.
        attributes: An ``h5py.AttributeManager``.
        size: The size of the file, bytes.

    Raises:
        RefusedError: An attribute claims more.
    """
    for key in attributes:
        attribute = attributes.get_id(key)
        elements = int(attribute.get_space().get_simple_extent_npoints())
        claimed = elements * int(attribute.get_type().get_size())
        if claimed > size:
            raise RefusedError(f"the attribute '{key}' of '{name}' claims {claimed:,} bytes")


def _claimed(dataset: Any) -> int:
    return math.prod(dataset.shape or ()) * int(dataset.dtype.itemsize)


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield every dataset once, even if groups contain each other, with its name."""
    import h5py

    size = int(file.id.get_filesize())
    seen = set()
    stack = [("/", file["/"])]
    while stack:
        name, item = stack.pop()
        place = h5py.h5o.get_info(item.id).addr
        if place in seen:
            continue
        seen.add(place)
        check_attributes(name, item.attrs, size)
        if isinstance(item, h5py.Dataset):
            yield name, item
        elif isinstance(item, h5py.Group):
            for key in item:
                below = f"{name.rstrip('/')}/{key}"
                link = item.get(key, getlink=True)
                if isinstance(link, h5py.HardLink):
                    stack.append((below, item[key]))
                elif not isinstance(link, h5py.SoftLink):
                    raise RefusedError(
                        f"'{below}' is a link; only what the file itself holds is read"
                    )


def parse_json(text: str | bytes) -> Any:
    """Parse the JSON text of a file.

    Raises:
        ValueError: It is not JSON, or it is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise RefusedError("its JSON is nested too deeply") from error
