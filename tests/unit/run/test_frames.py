"""Arrays of single samples become one array for each tensor."""

from __future__ import annotations

import numpy as np
import pytest

from tfldbg.run.frames import Frames, numeric


def test_the_rows_are_copies_in_the_order_of_the_samples() -> None:
    lent = np.zeros((2, 3), np.int8)
    frames = Frames[int](3)
    for number in range(3):
        lent[:] = number  # as memory that every run writes to
        frames.add({7: lent, 8: np.float32(number)[None]})
    stacked = frames.stacked()
    assert stacked[7].dtype == np.int8 and stacked[7].shape == (3, 2, 3)
    assert [row.tolist() for row in stacked[7][:, 0]] == [[n] * 3 for n in range(3)]
    assert stacked[8].tolist() == [[0.0], [1.0], [2.0]]
    assert frames.shapes[7] == [(2, 3)] * 3


@pytest.mark.parametrize("shapes", [[(2,), (3,)], [(2,)]])
def test_samples_that_make_no_array_are_refused(shapes: list[tuple[int, ...]]) -> None:
    frames = Frames[str](2)
    for shape in shapes:
        frames.add({"x": np.zeros(shape)})
    assert frames.shapes["x"] == shapes
    with pytest.raises(ValueError, match="x: 2 samples"):
        frames.stacked()


def test_strings_are_left_out() -> None:
    assert list(numeric({1: np.array([b"text"], object), 2: np.zeros(1)})) == [2]
