"""Parameters from ranges, and which tensors have one range together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg import quant
from tfldbg.compare.ranges.calibrate import (
    FAKE_QUANT_PASS,
    FLOAT_PASS,
    PASSES,
    Extent,
    as_parameters,
    calibrate,
    of_range,
    share,
)
from tfldbg.graph.load import load_graph
from tfldbg.graph.model import Graph

TYPES = st.sampled_from(["INT8", "UINT8", "INT16"])
ENDS = st.floats(0, 1e4, width=32).filter(lambda x: x == 0 or x > 1e-6)


@pytest.fixture(scope="module")
def graph(samples: Path) -> Graph:
    return load_graph((samples / "cnn.tflite").read_bytes())


@given(TYPES, st.sampled_from(PASSES), ENDS, ENDS)
def test_the_codes_of_a_range_hold_zero_and_both_ends_within_half_a_step(
    type_name: str, source: str, below: float, above: float
) -> None:
    scale, zero_point = of_range(type_name, -below, above, source)
    low_code, high_code = quant.code_range(type_name)
    assert scale > 0 and low_code <= zero_point <= high_code
    low, high = quant.Affine(scale, zero_point).real_range(type_name)
    room = 0.5001 * scale  # the scale is float32
    assert low <= 0 <= high
    assert low - room <= -below and above <= high + room


@given(st.lists(st.floats(-1e3, 1e3), min_size=1), st.integers(1, 9))
def test_an_extent_does_not_depend_on_how_values_are_split(values: list[float], cut: int) -> None:
    whole, parts = Extent(), Extent()
    whole.see(np.array(values))
    for part in (values[:cut], values[cut:], [np.nan, np.inf]):
        parts.see(np.array(part))
    assert (whole.minimum, whole.maximum) == (parts.minimum, parts.maximum)
    assert whole.minimum == min(*values, 0.0) and whole.maximum == max(*values, 0.0)


def test_tensors_around_a_concatenation_have_one_range(graph: Graph) -> None:
    sharing = share(graph, graph.main)
    left, right, join, pool = (graph.main.operators[i].outputs[0] for i in (4, 5, 6, 7))
    assert {sharing.group[i] for i in (left, right, join, pool)} == {left}
    assert {left, right} <= sharing.sources.keys()
    assert not {join, pool} & sharing.sources.keys()  # they only hold the others' values
    seen = {i: Extent() for i in sharing.sources}
    seen[left].see(np.array([-1.0, 2.0]))
    seen[right].see(np.array([-3.0, 1.0]))
    found = calibrate(graph.main, sharing, seen, FLOAT_PASS)
    assert found[left] == found[right] == found[join] == found[pool]
    assert (found[pool].minimum, found[pool].maximum) == (-3.0, 2.0)
    assert found[pool].scale == pytest.approx(5 / 255)


def test_a_softmax_keeps_its_range_whatever_is_seen(graph: Graph) -> None:
    sharing = share(graph, graph.main)
    out = graph.main.operators[11].outputs[0]
    assert sharing.fixed[out] == (1 / 256, -128) and out not in sharing.free
    seen = {i: Extent() for i in sharing.sources}
    seen[out].see(np.array([0.0, 0.1]))
    assert calibrate(graph.main, sharing, seen, FLOAT_PASS)[out].scale == 1 / 256


def test_what_has_no_float_copy_keeps_its_parameters(graph: Graph) -> None:
    out = graph.main.operators[3].outputs[0]
    tensor = graph.main.tensors[out]
    assert share(graph, graph.main, [3]).fixed[out] == (tensor.lsb, tensor.zero_point)
    assert out not in share(graph, graph.main).fixed


def test_tensors_whose_scales_differ_do_not_share(graph: Graph) -> None:
    """As in a broken file, or where the kernel rescales."""
    right, join = (graph.main.operators[i].outputs[0] for i in (5, 6))
    tensors = list(graph.main.tensors)
    params = tensors[right].quant
    assert params is not None
    tensors[right] = replace(tensors[right], quant=replace(params, scale=params.scale * 2))
    sharing = share(graph, replace(graph.main, tensors=tuple(tensors)))
    assert sharing.group[right] != sharing.group[join]
    assert join in sharing.sources  # it holds values of another range too


def test_a_tensor_that_is_zero_throughout_still_has_a_scale() -> None:
    assert of_range("INT8", 0.0, 0.0, FLOAT_PASS) == (1.0, -128)
    assert of_range("INT16", 0.0, 0.0, FAKE_QUANT_PASS) == (1.0, 0)


def test_parameters_come_in_the_form_of_a_file(graph: Graph) -> None:
    sharing = share(graph, graph.main)
    found = calibrate(graph.main, sharing, {}, FLOAT_PASS)
    for index, params in as_parameters(found).items():
        assert params.per_tensor and params.scale.dtype == np.float32
        assert float(params.scale[0]) == pytest.approx(found[index].scale)
