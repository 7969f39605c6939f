"""Messages between the session and its child process."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tfldbg.run import wire


def _sent(*arrays: np.ndarray) -> list[np.ndarray]:
    stream = io.BytesIO()
    wire.send(stream, {"command": "run"}, arrays)
    stream.seek(0)
    header, received = wire.receive(stream)
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
    wire.send(stream, {}, [np.array([b"words"], object)])
    with pytest.raises(EOFError):
        wire.receive(io.BytesIO(stream.getvalue()[:-1]))
