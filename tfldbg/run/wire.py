"""Messages between the session and its child process: one JSON header and raw array bytes.

Plain bytes instead of pickles: the child runs native code on a file that nobody vouches for.  Nor
is what it answers trusted: a reply that is no message is a `GarbledError`, and memory is taken as
bytes arrive, never because a number promises them.
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
"""Bytes: a header describes every array in about sixty, and no model has a million tensors."""
_PIECE = 16 << 20
_KINDS = "?biufcV"
"""Of NumPy's types those that raw bytes can fill: no objects, no text."""


class GarbledError(Exception):
    """What came through the pipe is no message."""


def send(stream: BinaryIO, header: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """Write one message.

    Args:
        stream: Where to.
        header: Anything JSON can hold; the key ``arrays`` is taken.
        arrays: Numeric arrays, written without a copy when contiguous.
    """
    described = [{"dtype": a.dtype.str, "shape": list(a.shape)} for a in arrays]
    text = json.dumps({**header, "arrays": described}).encode()
    stream.write(_START.pack(_MARK, len(text)))
    stream.write(text)
    for array in arrays:
        stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message.

    Raises:
        EOFError: The other side is gone.
        GarbledError: It sent something else.
    """
    mark, length = _START.unpack(_read(stream, _START.size))
    if mark != _MARK or length > _LONGEST_HEADER:
        raise GarbledError("a message begins with something else")
    header, described = _header(bytes(_read(stream, length)))
    arrays = []
    for dtype, shape in described:
        raw = _read(stream, prod(shape) * dtype.itemsize)
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    return header, arrays


def _header(text: bytes) -> tuple[dict[str, Any], list[tuple[np.dtype[Any], list[int]]]]:
    """Return the header, and of every array the type and shape."""
    try:
        header = json.loads(text)
        described = [(np.dtype(str(a["dtype"])), list(a["shape"])) for a in header.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GarbledError(f"a header is no JSON object with arrays: {error}") from error
    for dtype, shape in described:
        sound = all(type(n) is int and n >= 0 for n in shape)
        if not sound or dtype.kind not in _KINDS or not dtype.itemsize or dtype.hasobject:
            raise GarbledError(f"an array is of type {dtype} and shape {shape}")
    return header, described


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
