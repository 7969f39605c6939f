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
        _array(dtype="strings"),
        _array(dtype="strings", lengths=[1, 2]),
        _array(dtype="strings", lengths=[-1]),
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


def test_nobody_waits_for_more_than_a_process_may_hold() -> None:
    message = _array(shape=[1 << 40])
    with pytest.raises(GarbledError, match=f"announces {1 << 42} bytes, where 1024 are"):
        receive(_message(message, b"1234"), 1024)
    header, (received,) = receive(_message(_array(shape=[2]), bytes(8)), 8)
    assert header == {"ok": True} and received.tolist() == [0, 0]


def _sent(*arrays: np.ndarray) -> list[np.ndarray]:
    stream = io.BytesIO()
    send(stream, {"command": "run"}, arrays)
    stream.seek(0)
    header, received = receive(stream)
    assert header == {"command": "run"}
    assert not stream.read()
    return received


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int8).reshape(2, 3)[:, ::2],
        np.array(2.5, np.float32),
        np.empty((0, 3), np.int64),
        np.array([1 + 2j], np.complex64),
    ],
)
def test_numbers(array: np.ndarray) -> None:
    (received,) = _sent(array)
    assert received.dtype == array.dtype
    assert np.array_equal(received, array)


@pytest.mark.parametrize(
    "values", [[b"ab\0", b"", b"\xff words"], [], [b"x" * 100_000]], ids=["some", "none", "long"]
)
def test_strings(values: list[bytes]) -> None:
    array = np.array([*values, None], object)[:-1]
    received, behind = _sent(array, np.array([7], np.int8))
    assert received.tolist() == values
    assert behind.tolist() == [7]


def test_a_lone_string() -> None:
    array = np.empty((), object)
    array[()] = b"alone"
    (received,) = _sent(array)
    assert received.shape == ()
    assert received[()] == b"alone"


def test_half_a_message_is_the_end() -> None:
    stream = io.BytesIO()
    send(stream, {}, [np.array([b"words"], object)])
    with pytest.raises(EOFError):
        receive(io.BytesIO(stream.getvalue()[:-1]))
