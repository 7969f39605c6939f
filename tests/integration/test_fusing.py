"""Batch norm folded into depthwise weights: the same values, and left alone where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfldbg.reference.fusing import fold_batch_norms
from tfldbg.reference.quiet import quiet

CHANNELS, MULTIPLIER = 5, 2
NORM = "norm"


@pytest.fixture(scope="module")
def given() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 6, 6, CHANNELS)).astype(np.float32)


def _graph(*, variance: float = 1.3, training: bool = False, quantized: bool = True) -> Any:
    """Return a depthwise convolution, its weights fake-quantized, a batch norm, an activation."""
    import tensorflow as tf

    rng = np.random.default_rng(2)
    wide = CHANNELS * MULTIPLIER
    with quiet(), tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 6, 6, CHANNELS), "x")
        weights = tf.constant(rng.normal(size=(3, 3, CHANNELS, MULTIPLIER)), tf.float32)
        if quantized:
            low, high = np.full(MULTIPLIER, -2.0), np.full(MULTIPLIER, 2.0)
            weights = tf.quantization.fake_quant_with_min_max_vars_per_channel(weights, low, high)
        conv = tf.nn.depthwise_conv2d(x, weights, (1, 1, 1, 1), "SAME", name="conv")
        norm = tf.compat.v1.nn.fused_batch_norm(
            conv,
            tf.identity(tf.constant(rng.uniform(0.5, 2.0, wide), tf.float32)),
            tf.constant(rng.normal(size=wide), tf.float32),
            tf.constant(rng.normal(size=wide), tf.float32),
            tf.constant(np.full(wide, variance), tf.float32),
            is_training=training,
            name=NORM,
        )
        tf.nn.relu6(norm[0], "end")
        tf.identity(norm[1], "mean")
        return graph.as_graph_def()


def _run(definition: Any, fetches: list[str], x: np.ndarray) -> list[np.ndarray]:
    import tensorflow as tf

    with quiet(), tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return list(session.run(fetches, {"x:0": x}))


def _kind(definition: Any) -> str:
    return str(next(n.op for n in definition.node if n.name == NORM))


@pytest.mark.parametrize("quantized", [True, False])
def test_the_values_stay_the_same(given: np.ndarray, quantized: bool) -> None:
    definition, fetches = _graph(quantized=quantized), ["end:0", f"{NORM}:0"]
    before = _run(definition, fetches, given)
    _without_second_outputs(definition)
    fold_batch_norms(definition, fetches)
    assert _kind(definition) == "BiasAdd"
    for wanted, found in zip(before, _run(definition, fetches, given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fetched", ["conv:0", f"{NORM}:1"])
def test_what_is_read_is_computed_as_it_stands(fetched: str) -> None:
    definition = _graph()
    _without_second_outputs(definition)
    fold_batch_norms(definition, ["end:0", fetched])
    assert _kind(definition).startswith("FusedBatchNorm")


@pytest.mark.parametrize("made", [{"variance": -2.0}, {"variance": np.nan}, {"training": True}])
def test_a_batch_norm_that_is_no_factor_is_left(made: dict[str, Any]) -> None:
    definition = _graph(**made)
    _without_second_outputs(definition)
    fold_batch_norms(definition, ["end:0"])
    assert _kind(definition).startswith("FusedBatchNorm")


def test_a_batch_norm_whose_mean_is_used_is_left() -> None:
    definition = _graph()
    fold_batch_norms(definition, ["end:0"])
    assert _kind(definition).startswith("FusedBatchNorm")


def _without_second_outputs(definition: Any) -> None:
    """Take out the reader of the batch norm's mean."""
    (place,) = (i for i, node in enumerate(definition.node) if node.name == "mean")
    del definition.node[place]
