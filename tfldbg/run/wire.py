"""Messages between the session and its child process: one JSON header and raw array bytes.

The format is plain bytes instead of pickles, because the child runs native code on an untrusted
file.  Its answers are not trusted either: an invalid reply raises a `GarbledError`, and memory is
allocated as bytes arrive, never because a number announces them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

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
) -> None:
    """Write one message.

    Args:
        stream: The stream to write to.
        header: Any JSON object without the key ``arrays``.
        arrays: Numeric arrays, written without a copy if contiguous, and object arrays of bytes,
            which hold strings.
    """
    described = [_described(a) for a in arrays]
    text = json.dumps({**header, "arrays": described}).encode()
    stream.write(_START.pack(_MARK, len(text)))
    stream.write(text)
    for array in arrays:
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


def receive(stream: BinaryIO, most: int | None = None) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message.

    Args:
        stream: The stream to read from.
        most: The memory that the other side may have, bytes; it cannot send larger arrays.

    Raises:
        EOFError: The other side has closed the pipe.
        GarbledError: It sent something else.
    """
    mark, length = _START.unpack(_read(stream, _START.size))
    if mark != _MARK or length > _LONGEST_HEADER:
        raise GarbledError("a message begins with something else")
    header, described = _header(bytes(_read(stream, length)))
    claimed = sum(prod(shape) * dtype.itemsize for dtype, shape, _ in described)
    if most is not None and claimed > most:
        raise GarbledError(f"a message announces {claimed} bytes, where {most} are possible")
    arrays = []
    for dtype, shape, lengths in described:
        if lengths is not None:
            arrays.append(_strings(stream, shape, lengths))
            continue
        raw = _read(stream, prod(shape) * dtype.itemsize)
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    return header, arrays


_ArrayHeader = tuple[np.dtype[Any], list[int], list[int] | None]
"""The description of an array: its type, its shape, and the length of each string if it holds
strings."""


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
    if not all(type(n) is int and n >= 0 for n in (*shape, *(lengths or ()))):
        raise ValueError(f"an array has the shape {shape} and strings of {lengths} bytes")
    if lengths is not None and len(lengths) != prod(shape):
        raise ValueError(f"{len(lengths)} strings do not have the shape {shape}")
    if lengths is None and (dtype.kind not in _KINDS or not dtype.itemsize or dtype.hasobject):
        raise ValueError(f"an array is of type {dtype}")
    return dtype, shape, lengths


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
