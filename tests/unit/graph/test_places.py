"""Which models keep their tensors where they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests import odd_files
from tests.loop_file import File, loop_file
from tfldbg.graph.load import load_graph
from tfldbg.graph.places import tensors_stay


def _stay(content: bytes) -> bool:
    return tensors_stay(load_graph(content, "model.tflite").main)


def _reshaped(*, constant: bool) -> bytes:
    file = File()
    main = file.subgraph()
    x, made = main.tensor("FLOAT32", [2, 3]), main.tensor("FLOAT32", [3, 2])
    sizes = np.array([3, 2], np.int32)
    shape = main.tensor("INT32", [2], sizes) if constant else main.tensor("INT32", [2])
    main.operator("RESHAPE", [x, shape], [made])
    main.ends([x] if constant else [x, shape], [made])
    return file.save()


@pytest.mark.parametrize(
    ("content", "stay"),
    [
        (_reshaped(constant=True), True),
        (_reshaped(constant=False), False),
        (odd_files.chain(3), True),
        (odd_files.found(), False),
        (odd_files.custom(["One"]), False),
        (odd_files.strings(), False),
        (loop_file(), False),
    ],
)
def test_shapes_that_depend_on_values_move_what_comes_after(content: bytes, stay: bool) -> None:
    assert _stay(content) is stay
