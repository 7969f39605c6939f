"""Bounds that follow from the file and need no run."""

from __future__ import annotations

import numpy as np
import pytest

from tfldbg.diagnose.bounds import bound
from tfldbg.graph.model import QuantParams
from tfldbg.rewrite.draft import Draft
from tfldbg.run.job import load


def test_a_constant_that_fill_repeats_is_rounded_like_any_other() -> None:
    """Of a Keras model's 1 the file has the nearest code, 90 x 0.011172 = 1.0055."""
    params = [
        QuantParams(np.array([s], np.float32), np.array([0], np.int64)) for s in (0.05, 0.011172)
    ]
    draft = Draft()
    given = draft.tensor("INT8", (1, 64), quant=params[0])
    value = draft.tensor("INT8", (), quant=params[1], values=np.array(90, np.int8))
    ones = draft.tensor("INT8", (1, 64), quant=params[1])
    made = draft.tensor("INT8", (1, 64), quant=params[0])
    draft.operator("FILL", [draft.constant(np.array([1, 64], np.int32)), value], [ones])
    draft.operator("MUL", [given, ones], [made])
    loaded = load(bytes(draft.build([given], [made])))
    mul = loaded.subgraph.operators[1]
    found = bound(loaded, mul, ("builtin",), {}, rounded=True, unknown_weights=False)
    half_a_step, largest = 0.5 * 0.011172, 128 * 0.05
    assert found.extra_lsb == pytest.approx((half_a_step * largest / 0.05,), rel=1e-5)
