"""Messages between the session and its child process: one JSON header and raw array bytes.

Plain bytes instead of pickles: the child runs native code on a file that nobody vouches for.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<Q")
_STRINGS = "strings"


def send(stream: BinaryIO, header: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """Write one message.

    Args:
        stream: Where to.
        header: Anything JSON can hold; the key ``arrays`` is taken.
        arrays: Numeric arrays, written without a copy when contiguous; and object arrays of bytes,
            which hold strings.
    """
    text = json.dumps({**header, "arrays": [_described(a) for a in arrays]}).encode()
    stream.write(_LENGTH.pack(len(text)))
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


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message.

    Raises:
        EOFError: The other side is gone.
    """
    header: dict[str, Any] = json.loads(_read(stream, _LENGTH.unpack(_read(stream, 8))[0]))
    arrays = []
    for described in header.pop("arrays"):
        if described["dtype"] == _STRINGS:
            arrays.append(_strings(stream, described))
            continue
        dtype, shape = np.dtype(described["dtype"]), described["shape"]
        raw = _read(stream, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        arrays.append(np.frombuffer(raw, dtype).reshape(shape))
    return header, arrays


def _strings(stream: BinaryIO, described: dict[str, Any]) -> NDArray[Any]:
    array = np.empty(len(described["lengths"]), object)
    for number, length in enumerate(described["lengths"]):
        array[number] = _read(stream, length)
    return array.reshape(described["shape"])


def _read(stream: BinaryIO, count: int) -> bytes:
    raw = stream.read(count)
    if len(raw) != count:
        raise EOFError("the other side closed the pipe")
    return raw
