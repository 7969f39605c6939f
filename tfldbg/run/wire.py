"""Messages between the session and its child process: one JSON header and raw array bytes.

Large arrays go through memory that both share, where there is some.

Plain bytes instead of pickles: the child runs native code on a file that nobody vouches for.  Nor
is what it answers trusted: a reply that is no message is a `GarbledError`, and memory is taken as
bytes arrive, never because a number promises them.
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
"""Bytes: a header describes every array in about sixty, and no model has a million tensors."""
_PIECE = 16 << 20
_STRINGS = "strings"
_KINDS = "?biufcV"
"""Of NumPy's types those that raw bytes can fill: no objects, no text."""


class GarbledError(Exception):
    """What came through the pipe is no message."""


def send(
    stream: BinaryIO,
    header: dict[str, Any],
    arrays: Sequence[NDArray[Any]] = (),
    block: Block | None = None,
) -> None:
    """Write one message.

    Args:
        stream: Where to.
        header: Anything JSON can hold; the key ``arrays`` is taken.
        arrays: Numeric arrays, written without a copy when contiguous; and object arrays of bytes,
            which hold strings.
        block: Where to put large arrays, as far as there is room.
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
        stream: Where from.
        block: Where the other side puts large arrays.
        lend: Whether arrays may stay there, where the next message takes their place.

    Raises:
        EOFError: The other side is gone.
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


_Described = tuple[np.dtype[Any], list[int], list[int] | None, int | None]
"""Of an array the type, the shape, if it holds strings how long each is, and where it begins if it
is in shared memory."""


def _shared(
    block: Block | None, dtype: np.dtype[Any], shape: list[int], start: int
) -> NDArray[Any]:
    try:
        if block is None:
            raise ValueError("no memory is shared")
        return block.get(dtype, tuple(shape), start)
    except (ValueError, TypeError) as error:
        raise GarbledError(f"an array is not in the shared memory: {error}") from error


def _header(text: bytes) -> tuple[dict[str, Any], list[_Described]]:
    """Return the header, and what it says of every array."""
    try:
        header = json.loads(text)
        described = [_read_description(a) for a in header.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GarbledError(f"a header is no JSON object with arrays: {error}") from error
    return header, described


def _read_description(described: dict[str, Any]) -> _Described:
    """Read what `_described` wrote.

    Raises:
        ValueError, TypeError, KeyError: It is something else.
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
