"""Which node a tensor is, told by values: element by element, reordered, and what is the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tfldbg.match.by_values import (
    agreeing,
    candidates,
    is_moved,
    moments,
    nearest,
    reordered,
    same_values,
)
from tfldbg.reference.graphdef import Outline, RefGraph, RefNode

SHAPE = (None, 3, 4)


def _values(seed: int, shape: tuple[int, ...] = (4, 3, 4)) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def _graph(*nodes: RefNode) -> RefGraph:
    return RefGraph(nodes, ("image",), (nodes[-1].name,))


def _node(name: str, op: str, *inputs: str) -> RefNode:
    return RefNode(name, op, inputs, None, SHAPE)


def test_the_node_that_holds_the_values_is_found_through_rounding() -> None:
    test = _values(1)
    rounded = np.round(test / 0.05) * 0.05
    assert nearest(rounded, {"a": _values(2), "b": test, "c": test * 1.5}) == "b"


def test_nothing_is_found_where_no_node_agrees() -> None:
    assert nearest(_values(1), {"a": _values(2), "b": _values(3)}) is None


def test_nothing_is_found_where_two_nodes_agree_about_as_well() -> None:
    test = _values(1)
    assert nearest(test, {"a": test + 0.10 * _values(2), "b": test + 0.11 * _values(3)}) is None


def test_equal_values_tell_nothing() -> None:
    assert nearest(np.zeros((4, 3)), {"a": np.zeros((4, 3))}) is None


def test_of_nodes_that_hold_the_same_the_known_one_is_kept() -> None:
    test = _values(1)
    assert nearest(test, {"a": test, "b": test.copy()}) == "a"
    assert nearest(test, {"a": test, "b": test.copy()}, "b") == "b"


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(-100, 100, width=32)), st.randoms())
def test_moments_do_not_see_the_order(values: NDArray[np.float32], rng: object) -> None:
    order = np.random.default_rng(abs(hash(rng)) % 2**32).permutation(12)
    moved = values.reshape(2, -1)[:, order].reshape(values.shape)
    np.testing.assert_allclose(moments(moved), moments(values), rtol=1e-9, atol=1e-9)


def test_a_transpose_is_told_as_the_same_values_in_another_order() -> None:
    test = _values(1)
    others = {"einsum": test.transpose(0, 2, 1).copy(), "else": _values(2)}
    assert reordered(test, others) == "einsum"
    assert reordered(test, {"else": _values(2)}) is None


def test_one_wrong_channel_leaves_the_others_agreeing() -> None:
    test = _values(1)
    wrong = test.copy()
    wrong[..., 1] += 1.0
    assert agreeing(test, wrong, 1e-6) == pytest.approx(0.75)
    assert agreeing(test, _values(2), 1e-6) == 0.0


def test_candidates_may_have_as_many_values() -> None:
    graph = _graph(
        RefNode("image", "Placeholder", (), None, SHAPE),
        _node("relu", "Relu", "image"),
        RefNode("pool", "Mean", ("relu",), None, (None, 4)),
        RefNode(
            "top", "TopKV2", ("relu",), None, (None, 3, 2), others=(Outline((None, 3, 2), "int32"),)
        ),
    )
    assert "relu" in candidates(graph, [12])
    assert candidates(graph, [6]) == ["top"]
    read = _graph(*graph.nodes.values(), _node("sum", "Sum", "top:1"))
    assert candidates(read, [6]) == ["top", "top:1"]


def _branches() -> RefGraph:
    return _graph(
        _node("image", "Placeholder"),
        _node("scale", "Const"),
        _node("nought", "Const"),
        _node("bn", "Mul", "image", "scale"),
        _node("one", "Relu", "bn"),
        _node("two", "Relu", "bn"),
        _node("zero", "Mul", "image", "nought"),
        _node("sum", "AddV2", "two", "zero"),
        _node("again", "Relu", "one"),
    )


def test_twins_and_sums_with_zero_hold_the_same() -> None:
    positive = np.abs(_values(1)) - 0.5
    relu = np.maximum(positive, 0)
    values = {
        "bn": positive, "one": relu, "two": relu, "zero": relu * 0, "sum": relu, "again": relu,
    }  # fmt: skip
    assert set(same_values(_branches(), "two", values)) == {"one", "again", "sum"}


def test_a_relu_of_positive_values_is_another_value() -> None:
    """They are equal on this data, and on other data they are not."""
    values = {"one": np.abs(_values(1)), "again": np.abs(_values(1))}
    assert same_values(_branches(), "one", values) == []


def test_values_in_another_order_are_told_from_other_values() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=(4, 3, 5)).astype(np.float32)
    turned = np.swapaxes(value, 1, 2)
    assert is_moved(turned, value, 0.0)
    assert not is_moved(value, value, 0.0)
    assert not is_moved(rng.normal(size=value.shape), value, 0.0)
    rounded_down = np.floor(turned / 0.02) * 0.02
    assert is_moved(rounded_down, value, 0.02)
