"""Which codes a tensor uses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.compare.usage import UsageCounter
from tfldbg.quant import code_range

STORED = {"INT4": np.int8, "INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}
"""The types that the runtime yields."""


@given(
    kind=st.sampled_from(["INT4", "INT8", "UINT8", "INT16"]),
    seed=st.integers(0, 99),
    batches=st.integers(1, 3),
)
def test_the_bins_count_every_value_once(kind: str, seed: int, batches: int) -> None:
    low, high = code_range(kind)
    values = np.random.default_rng(seed).integers(low, high + 1, (batches, 50))
    counter = UsageCounter(kind)
    for batch in values:
        counter.update(batch.astype(STORED[kind]))
    usage = counter.result()
    assert usage is not None
    count = len(usage.bins)
    assert count == min(64, high - low + 1)
    edges = np.linspace(low, high + 1, count + 1)
    assert usage.bins == tuple(np.histogram(values, edges)[0])
    assert sum(usage.bins) == usage.total


@pytest.mark.parametrize(("kind", "code", "place"), [("INT8", -128, 0), ("INT16", 32767, -1)])
def test_the_ends_fall_in_the_outermost_bins(kind: str, code: int, place: int) -> None:
    counter = UsageCounter(kind)
    counter.update(np.full(3, code, STORED[kind]))
    usage = counter.result()
    assert usage is not None
    assert usage.bins[place] == 3
