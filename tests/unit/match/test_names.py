"""Which output of an operator a tensor is."""

from __future__ import annotations

import pytest

from tfldbg.match.names import numbered


@pytest.mark.parametrize(
    ("names", "ports"),
    [
        (["split", "split1", "split2"], [0, 1, 2]),
        (["split1", "split", "split2"], [1, 0, 2]),
        (["one", "two"], [0, 1]),
        (["part 1", "part 0"], [0, 1]),
        (["only"], [0]),
    ],
)
def test_the_exporter_numbers_outputs(names: list[str], ports: list[int]) -> None:
    assert numbered(names) == ports
