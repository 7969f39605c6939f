"""Messages between the session and its child process: one JSON header and raw array bytes.

Large arrays go through shared memory, if there is any.

The format is plain bytes instead of pickles, because the child runs native code on an untrusted
file.  Its answers are not trusted either: an invalid reply raises a `GarbledError`, and memory is
allocated as bytes arrive, never because a number announces them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tfldbg.run.block import Block

_START = struct.Struct("<4sI")
_MARK = b"tfdb"
_LONGEST_HEADER = 64 << 20
"""The limit in bytes: the description of an array takes about sixty, for up to a million arrays."""
_PIECE = 16 << 20
_STRINGS = "strings"
_KINDS = "?biufcV"
"""The kinds of NumPy types that raw bytes can fill: no objects, no text."""


class GarbledError(Exception):
    """The bytes in the pipe are not a message."""


def send(
    stream: BinaryIO,
    header: dict[str, Any],
    arrays: Sequence[NDArray[Any]] = (),
    block: Block | None = None,
) -> None:
    """Write one message.

    Args:
        stream: The stream to write to.
        header: Any JSON object without the key ``arrays``.
        arrays: Numeric arrays, written without a copy if contiguous, and object arrays of bytes,
            which hold strings.
        block: The shared memory for large arrays, used while there is room.
    """
    described = [_described(a) for a in arrays]
    if block is not None:
        block.clear()
        for words, array in zip(described, arrays, strict=True):
            start = block.put(array) if array.dtype != object else None
            if start is not None:
                words["start"] = start
    text = json.dumps({**header, "arrays": described}).encode()
    stream.write(_START.pack(_MARK, len(text)))
    stream.write(text)
    for words, array in zip(described, arrays, strict=True):
        if "start" in words:
            continue
        if array.dtype == object:
            stream.write(b"".join(array.reshape(-1)))
        else:
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    stream.flush()


def _described(array: NDArray[Any]) -> dict[str, Any]:
    if array.dtype == object:
        lengths = [len(value) for value in array.reshape(-1)]
        return {"dtype": _STRINGS, "shape": list(array.shape), "lengths": lengths}
    return {"dtype": array.dtype.str, "shape": list(array.shape)}


def receive(
    stream: BinaryIO, block: Block | None = None, *, lend: bool = False
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message.

    Args:
        stream: The stream to read from.
        block: The shared memory with large arrays.
        lend: True if arrays may stay in shared memory, where the next message overwrites them.

    Raises:
        EOFError: The other side has closed the pipe.
        GarbledError: It sent something else.
    """
    mark, length = _START.unpack(_read(stream, _START.size))
    if mark != _MARK or length > _LONGEST_HEADER:
        raise GarbledError("a message begins with something else")
    header, described = _header(bytes(_read(stream, length)))
    arrays = []
    for dtype, shape, lengths, start in described:
        if lengths is not None:
            arrays.append(_strings(stream, shape, lengths))
            continue
        if start is not None:
            shared = _shared(block, dtype, shape, start)
            arrays.append(shared if lend else shared.copy())
            continue
        raw = _read(stream, prod(shape) * dtype.itemsize)
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    return header, arrays


_ArrayHeader = tuple[np.dtype[Any], list[int], list[int] | None, int | None]
"""The description of an array: its type, its shape, the length of each string if it holds strings,
and its start if it is in shared memory."""


def _shared(
    block: Block | None, dtype: np.dtype[Any], shape: list[int], start: int
) -> NDArray[Any]:
    try:
        if block is None:
            raise ValueError("no memory is shared")
        return block.get(dtype, tuple(shape), start)
    except (ValueError, TypeError) as error:
        raise GarbledError(f"an array is not in the shared memory: {error}") from error


def _header(text: bytes) -> tuple[dict[str, Any], list[_ArrayHeader]]:
    """Return the header, and the description of every array."""
    try:
        header = json.loads(text)
        described = [_read_description(a) for a in header.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GarbledError(f"a header is not a JSON object with arrays: {error}") from error
    return header, described


def _read_description(described: dict[str, Any]) -> _ArrayHeader:
    """Return the description that `_described` wrote.

    Raises:
        ValueError, TypeError, KeyError: It is not such a description.
    """
    shape, strings = list(described["shape"]), described["dtype"] == _STRINGS
    lengths = list(described["lengths"]) if strings else None
    dtype = np.dtype(object if strings else str(described["dtype"]))
    start = described.get("start")
    if start is not None and (type(start) is not int or start < 0):
        raise ValueError(f"an array begins at {start!r}")
    if not all(type(n) is int and n >= 0 for n in (*shape, *(lengths or ()))):
        raise ValueError(f"an array has the shape {shape} and strings of {lengths} bytes")
    if lengths is not None and len(lengths) != prod(shape):
        raise ValueError(f"{len(lengths)} strings do not have the shape {shape}")
    if lengths is None and (dtype.kind not in _KINDS or not dtype.itemsize or dtype.hasobject):
        raise ValueError(f"an array is of type {dtype}")
    return dtype, shape, lengths, start


def _strings(stream: BinaryIO, shape: list[int], lengths: list[int]) -> NDArray[Any]:
    array = np.empty(len(lengths), object)
    for number, length in enumerate(lengths):
        array[number] = bytes(_read(stream, length))
    return array.reshape(shape)


def _read(stream: BinaryIO, count: int) -> bytes | bytearray:
    if count <= _PIECE:
        raw: bytes | bytearray = stream.read(count)
    else:
        raw = bytearray()
        while len(raw) < count and (piece := stream.read(min(_PIECE, count - len(raw)))):
            raw += piece
    if len(raw) != count:
        raise EOFError("the other side closed the pipe")
    return raw
