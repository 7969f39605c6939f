"""Which ranges the parameters of a file follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tfldbg.compare.ranges.calibrate import FAKE_QUANT_PASS, FLOAT_PASS
from tfldbg.compare.ranges.following import (
    KERAS_PASS,
    TRAINED,
    Likeness,
    as_share,
    follow,
    liken,
    proximity,
)
from tfldbg.graph.model import QuantParams, Tensor


def _likeness(source: str, share: float, *, equal: int = 0, close: int = 0) -> Likeness:
    octaves = float(np.log2(1 + share))
    return Likeness(source, 10, equal, close, equal, octaves, 2 * octaves, 0)


def _tensor(index: int, scale: float, zero_point: int) -> Tensor:
    params = QuantParams(np.array([scale], np.float32), np.array([zero_point], np.int64))
    return Tensor(index, f"t{index}", "INT8", (1,), (1,), params, 0, False, False)


def test_scales_are_compared_as_ratios_in_either_direction() -> None:
    tensors = [_tensor(0, 0.1, 0), _tensor(1, 0.2, 5), _tensor(2, 0.3, 7), _tensor(3, 1.0, 0)]
    candidate = {0: (0.1, 0), 1: (0.1, 5), 2: (0.303, 6)}
    found = liken(FLOAT_PASS, tensors, candidate)
    assert found is not None
    assert (found.compared, found.equal, found.close, found.zero_points) == (3, 1, 2, 2)
    assert as_share(found.median) == pytest.approx(0.01, rel=1e-4)
    assert found.largest == pytest.approx(1.0) and found.farthest == 1
    assert "at most 100% at 'b'" in proximity(found, "b")
    assert liken(FLOAT_PASS, tensors, {}) is None


def test_equal_trained_ranges_are_followed_however_close_the_passes_are() -> None:
    trained = _likeness(TRAINED, 0.0, equal=10, close=10)
    exact = _likeness(FAKE_QUANT_PASS, 0.0, equal=10, close=10)
    found = follow([trained, exact])
    assert found.source == TRAINED and "(10 of 10 equal)" in found.sentence
    # Half of them equal could be the input and what only copies it.
    assert follow([replace(trained, equal=5), exact]).source == FAKE_QUANT_PASS


@pytest.mark.parametrize(
    ("which", "far"), [(KERAS_PASS, FAKE_QUANT_PASS), (FAKE_QUANT_PASS, FLOAT_PASS)]
)
def test_the_pass_that_yields_the_parameters_is_followed(which: str, far: str) -> None:
    other = _likeness(far, 0.001, equal=2, close=10)
    found = follow([other, _likeness(which, 1e-7, equal=10, close=10)])
    assert found.source == which
    assert f"a {which} over this data" in found.sentence
    assert "gives 2 of 10, median 0.1% away" in found.sentence


def test_merely_closer_is_not_enough() -> None:
    """A file of post-training quantization was once seen three times closer to the wrong pass."""
    near = [
        _likeness(FLOAT_PASS, 0.00088, equal=1, close=10),
        _likeness(FAKE_QUANT_PASS, 0.00028, equal=1, close=10),
    ]
    found = follow(near)
    assert found.source is None and "no pass gives them exactly" in found.sentence
    assert "float pass 0.088%" in found.sentence and "--keras FLOAT.h5" in found.sentence


def test_two_passes_that_both_yield_the_parameters_leave_it_open() -> None:
    both = [_likeness(s, 1e-8, equal=10, close=10) for s in (FLOAT_PASS, FAKE_QUANT_PASS)]
    found = follow(both)
    assert found.source is None and "both passes give them" in found.sentence


def test_other_data_is_told_from_this() -> None:
    found = follow(
        [_likeness(FLOAT_PASS, 0.06, close=4), _likeness(FAKE_QUANT_PASS, 0.01, close=5)]
    )
    assert found.source is None and "follow none of these ranges" in found.sentence


def test_without_parameters_there_is_nothing_to_follow() -> None:
    assert follow([]).sentence == "no parameters depend on data"
