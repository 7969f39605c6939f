"""What the session makes of what comes through the pipe of a process that it does not trust."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.run.wire import GarbledError, receive, send


def _message(header: object, body: bytes = b"") -> io.BytesIO:
    text = json.dumps(header).encode()
    return io.BytesIO(struct.pack("<4sI", b"tfdb", len(text)) + text + body)


def _array(**changes: Any) -> dict[str, Any]:
    return {"ok": True, "arrays": [{"dtype": "<f4", "shape": [1], **changes}]}


def test_arrays_arrive_as_they_were_sent() -> None:
    stream = io.BytesIO()
    sent = [np.float32([[1, 2]]), np.zeros((0, 3), np.int8), np.array(5, np.int64)]
    send(stream, {"ok": True}, sent)
    stream.seek(0)
    header, arrays = receive(stream)
    assert header == {"ok": True}
    for a, b in zip(sent, arrays, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_message(content: bytes) -> None:
    with pytest.raises((EOFError, GarbledError)):
        receive(io.BytesIO(content))
    with pytest.raises((EOFError, GarbledError)):
        receive(io.BytesIO(struct.pack("<4sI", b"tfdb", len(content)) + content))


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"ok": True},
        {"arrays": 3},
        {"arrays": [[]]},
        _array(dtype="O"),
        _array(dtype="no type"),
        _array(dtype="U4"),
        _array(shape=[-1]),
        _array(shape=[1.5]),
        _array(shape=[True]),
    ],
)
def test_headers_that_describe_no_arrays_are_refused(header: object) -> None:
    with pytest.raises(GarbledError):
        receive(_message(header, b"1234"))


def test_memory_is_taken_for_what_arrives_and_not_for_what_is_claimed() -> None:
    with pytest.raises(EOFError):
        receive(_message(_array(shape=[1 << 60]), b"1234"))
    with pytest.raises(EOFError):
        receive(_message(_array(shape=[1 << 40, 1 << 40]), b"1234"))
    with pytest.raises(GarbledError):
        receive(io.BytesIO(struct.pack("<4sI", b"tfdb", 0xFFFFFFFF)))
    nested = b"[" * 100_000
    with pytest.raises(GarbledError):
        receive(io.BytesIO(struct.pack("<4sI", b"tfdb", len(nested)) + nested))
