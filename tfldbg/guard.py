"""What a file from elsewhere may claim: checked before anything is unpacked, allocated or followed.

Nothing here decides by a file's looks.  What is read whole has to fit into half of the machine's
memory, and only what lies in the file itself is read.
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
"""HDF5's own filters and h5py's LZF; any other is a library that HDF5 would load."""
_UNKNOWN_MEMORY = 8 << 30
"""What is taken for the memory of a machine that does not tell."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_HEAP, _HEAP_VERSION = b"GCOL", b"\x01\0\0\0"
"""How a global heap of HDF5 begins."""
_MOST_IN_HEAP = 1 << 16
"""Objects of one heap: HDF5 numbers them in 16 bits, so behind them nothing is looked at."""
_MOST_SEARCHED = 1 << 30
"""Bytes of a file in which damaged heaps are looked for: more of them would take seconds."""
_MOST_EXPANSION = 1100
"""Bytes that come of one stored byte: DEFLATE reaches 1,032."""
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,  # NotImplementedError and RecursionError are such
    MemoryError,
    OverflowError,
    SyntaxError,
    TypeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the libraries raise on files that are damaged, or made to harm."""
_NO_HEADER = (
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    OverflowError,
    TypeError,
)
"""What NumPy raises on a header besides ValueError, which the readers catch."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class RefusedError(ValueError):
    """A file claims or asks for what no honest file does; the text says what."""


def machine_memory() -> int | None:
    """Return the bytes of memory that this process may have; None if unknown.

    It is what the machine, or the container, has, or less where a limit was set for the process.
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
        with suppress(OSError, ValueError):  # "max" is no number
            sizes.append(int(Path(path).read_text()))
    return min((size for size in sizes if size > 0), default=None)


def memory_limit() -> int:
    """Return how many bytes one file may take when it is read whole: half of the memory."""
    return (machine_memory() or _UNKNOWN_MEMORY) // 2


def check_size(what: str, size: int) -> None:
    """Refuse what does not fit into the memory.

    Raises:
        RefusedError: ``size`` bytes are more than `memory_limit`.
    """
    limit = memory_limit()
    if size > limit:
        raise RefusedError(
            f"{what} would take {size:,} bytes, more than half of this machine's memory "
            f"({limit:,} bytes)"
        )


def check_zip(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that unpacks to more than fits into the memory.

    `zipfile` gives no more bytes of a member than its entry declares, so what is declared counts.

    Raises:
        RefusedError: It is a bomb.
    """
    check_size("what it unpacks to", sum(member.file_size for member in archive.infolist()))


def check_member_names(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that will be unpacked into a folder, and would write outside it.

    Raises:
        RefusedError: A member has such a name.
    """
    for name in archive.namelist():
        if leaves_folder(name):
            raise RefusedError(f"its member {name!r} names a place outside the archive")


def leaves_folder(name: str) -> bool:
    """Whether a relative path leads out of the folder that it is put into, on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.anchor) or ".." in windows.parts or PurePosixPath(name).is_absolute()


def npy_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a ``.npy`` stream: shape, whether in Fortran order, and type.

    Raises:
        RefusedError: There is none, or it is none that NumPy writes.
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
    """Refuse an ``.npz`` that is a bomb, or whose arrays are larger than their members.

    Raises:
        RefusedError: As said.
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
    """Refuse a ``.npy`` file that holds objects, or less than its header says.

    Raises:
        RefusedError: As said.
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
    """Refuse an HDF5 file that leads out of itself or expands without bound.

    Args:
        file: An open ``h5py.File``.
        whole: Whether all that it holds may be read at once; without it, single samples.

    Raises:
        RefusedError: It links to other files, stores values in other files, needs a filter that is
            no part of HDF5, claims more than it stores, or would be read for ever.
    """
    _check_heaps(file)
    total = 0
    for name, dataset in _datasets(file):
        check_dataset(name, dataset)
        rows = 1 if whole or not dataset.shape else max(dataset.shape[0], 1)
        total += _claimed(dataset) // rows
    check_size("its datasets", total)


def _check_heaps(file: Any) -> None:
    """Refuse free space of size 0 in a heap, behind which HDF5 looks for the next object for ever.

    A heap holds the texts of attributes.  Its layout is that of "Global Heap" in the HDF5 File
    Format Specification.
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
        return  # values that happen to spell the same
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
    """Refuse one HDF5 dataset for the reasons of `check_hdf5`.

    Raises:
        RefusedError: As said there.
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
    """Refuse an HDF5 attribute that claims more bytes than the file has.

    Args:
        name: Of the object that has them.
        attributes: ``h5py.AttributeManager``.
        size: Of the file, bytes.

    Raises:
        RefusedError: There is such an attribute.
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
    """Yield every dataset, each object once: a group can hold itself."""
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
    """Parse JSON of a file.

    Raises:
        ValueError: It is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise RefusedError("its JSON is nested too deeply") from error
