"""How a constant is made of another: every hypothesis on rounded values, and silence otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.compare.constants.arrangement import bias_arrangement, weights_arrangement

STEP = np.array(0.01)


def _weights(seed: int = 0, shape: tuple[int, ...] = (6, 3, 3, 4)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values / STEP) * STEP


def _said(changed: np.ndarray, wanted: np.ndarray, axis: int = 0) -> str | None:
    return weights_arrangement(_rounded(changed), wanted, STEP, axis)


@given(st.integers(0, 1000))
def test_rounded_weights_are_the_reference_s(seed: int) -> None:
    assert _said(_weights(seed), _weights(seed)) is None


def test_each_slip_is_named() -> None:
    wanted = _weights()
    negated, scaled, zero = wanted.copy(), wanted.copy(), wanted.copy()
    negated[2] *= -1
    scaled[1:3] *= 1.5
    zero[4] = 0
    assert _said(negated, wanted) == "channel 2 is negated"
    assert _said(-wanted, wanted) == "all channels are negated"
    assert _said(scaled, wanted) == "channels 1, 2 are multiplied by 1.5"
    assert _said(zero, wanted) == "channel 4 is zero"
    assert _said(wanted[[1, 0, 2, 3, 5, 4]], wanted) == "the channels are in another order"
    assert _said(wanted.swapaxes(1, 2), wanted) == "height and width are exchanged"
    limit = float(np.abs(wanted).max()) / 2
    assert _said(np.clip(wanted, -limit, limit), wanted) == f"values beyond {limit:.3g} are cut off"


@given(st.integers(0, 1000))
def test_other_weights_are_no_arrangement(seed: int) -> None:
    assert _said(_weights(seed + 1), _weights(seed)) is None


def test_codes_that_were_moved_while_the_scales_stayed() -> None:
    wanted = _weights()
    steps = np.abs(wanted).max((1, 2, 3), keepdims=True) / 127
    codes = np.round(wanted / steps)
    moved = weights_arrangement(np.roll(codes, 1, 0) * steps, wanted, steps, 0)
    assert moved == "the channels are in another order, while the scales stayed"
    cut = weights_arrangement(np.clip(codes, -60, 60) * steps, wanted, steps, 0)
    assert cut == "values beyond 60 are cut off, while the scales stayed"


def test_a_square_matrix_that_was_transposed() -> None:
    wanted = _weights(shape=(6, 6))
    assert _said(wanted.T, wanted) == "it is transposed"


def test_the_inputs_of_a_dense_layer_in_another_order() -> None:
    wanted = _weights(shape=(5, 12))
    order = np.random.default_rng(0).permutation(12)
    assert _said(wanted[:, order], wanted) == "the inputs are in another order"


@pytest.mark.parametrize("shape", [(3, 4), (16, 121), (121, 16)])
def test_a_flatten_that_takes_channels_first(shape: tuple[int, int]) -> None:
    wanted = _weights(shape=(5, shape[0] * shape[1]))
    order = np.arange(wanted.shape[1]).reshape(shape).T.reshape(-1)
    said = _said(wanted[:, order], wanted)
    assert said == "the inputs are in another order, as of a Flatten that takes channels first"


def test_the_inputs_of_a_convolution_in_another_order() -> None:
    wanted = _weights()
    reverse = "the input channels are in reverse order, as RGB and BGR are"
    assert _said(wanted[..., ::-1], wanted) == reverse
    assert _said(wanted[..., [2, 0, 3, 1]], wanted) == "the inputs are in another order"
    assert _said(wanted[:, ::-1], wanted) == "mirrored along its height"
    assert _said(wanted[:, :, ::-1], wanted) == "mirrored along its width"


def test_the_channels_of_a_depthwise_convolution_are_last() -> None:
    wanted = _weights(shape=(1, 3, 3, 8))
    negated = wanted.copy()
    negated[..., 7] *= -1
    assert _said(negated, wanted, axis=3) == "channel 7 is negated"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda b: np.zeros_like(b), "it is missing"),
        (lambda b: -b, "all channels are negated"),
        (lambda b: b[::-1], "the channels are in another order"),
        (lambda b: b, None),
        (lambda b: b + 1.0, "all channels are shifted by 1"),
        (lambda b: b + np.array([0, 0.5, 0.7, 0]), None),
    ],
)
def test_biases(made: object, said: str | None) -> None:
    wanted = np.array([0.5, -1.0, 2.0, 0.25])
    assert bias_arrangement(made(wanted), wanted, np.full(4, 0.01)) == said  # type: ignore[operator]


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((5, 8), (1, 0)),
        ((1, 1, 12, 8), (0, 1, 3, 2)),
        ((3, 1, 4, 5), (2, 1, 3, 0)),
        ((6, 3, 3, 4), (1, 2, 3, 0)),  # height, width, inputs, outputs in place of outputs first
        ((4, 3, 2, 5, 6), (4, 3, 2, 1, 0)),
    ],
)
@pytest.mark.parametrize("step", [0.01, 1e-7])
def test_a_constant_in_the_memory_order_of_its_transpose(
    shape: tuple[int, ...], order: tuple[int, ...], step: float
) -> None:
    wanted = _weights(shape=shape)
    moved = np.round(wanted.transpose(order).reshape(shape) / step) * step
    said = weights_arrangement(moved, wanted, np.array(step), len(shape) - 1)
    assert said == f"stored in the memory order of the transpose {order}"


def test_steps_that_shrink_with_the_value_move_with_it() -> None:
    wanted = _weights(shape=(5, 8)) * np.logspace(-6, 3, 8)
    step = 1e-6 * np.abs(wanted)
    moved = wanted.T.reshape(5, 8)
    said = weights_arrangement(moved, wanted, step, 0)
    assert said == "stored in the memory order of the transpose (1, 0)"


def test_values_in_no_order_are_no_transpose() -> None:
    wanted = _weights(shape=(5, 8))
    shuffled = np.random.default_rng(1).permutation(wanted.reshape(-1)).reshape(5, 8)
    assert _said(shuffled, wanted) is None


def test_codes_next_to_the_nearest_are_multiplied_by_nothing() -> None:
    wanted = _weights(shape=(6, 64))
    step = np.abs(wanted).max(1, keepdims=True) / 7
    codes = np.round(wanted / step)
    codes[:, ::9] += np.where(codes[:, ::9] * step > wanted[:, ::9], -1, 1)
    assert weights_arrangement(codes * step, wanted, step, 0) is None
