"""Files that TensorFlow's converter breaks: the finding says why, and the remedy it names helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tfldbg
from tests.planted import plants

DEPTH, COUNT = 10, 16


def converted(live: Any, data: np.ndarray, *, wide: bool = False) -> bytes:
    """Convert to int8, or to 16x8."""
    import tensorflow as tf

    sets = tf.lite.OpsSet
    converter = tf.lite.TFLiteConverter.from_keras_model(live)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([d[None]] for d in data)
    converter.target_spec.supported_ops = [
        sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        if wide
        else sets.TFLITE_BUILTINS_INT8
    ]
    return bytes(converter.convert())


def one_hot(*, looked_up: bool) -> tuple[Any, np.ndarray]:
    """Build a one-hot input and a Dense layer; or look rows of the identity matrix up."""
    import tensorflow as tf
    import tf_keras as k

    k.utils.set_random_seed(0)
    given = k.Input((5,), dtype="int32", batch_size=1)
    x = tf.gather(tf.eye(DEPTH), given) if looked_up else tf.one_hot(given, DEPTH)
    data = np.random.default_rng(0).integers(0, DEPTH, (COUNT, 5)).astype(np.int32)
    return k.Model(given, k.layers.Dense(3)(k.layers.Flatten()(x))), data


def diagonal(*, product: bool) -> tuple[Any, np.ndarray]:
    """Build a diagonal matrix; or multiply by the identity matrix."""
    import tensorflow as tf
    import tf_keras as k

    k.utils.set_random_seed(0)
    given = k.Input((6,), batch_size=1)
    x = k.layers.Dense(4)(given)
    x = x[..., None] * tf.eye(4) if product else tf.linalg.diag(x)
    data = np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)
    return k.Model(given, k.layers.Dense(3)(k.layers.Flatten()(x))), data


def shared_layer(heads: int) -> tuple[Any, np.ndarray]:
    """Build a Dense layer that reads values of different ranges."""
    import tf_keras as k

    k.utils.set_random_seed(0)
    given = k.Input((5,), batch_size=1)
    dense = k.layers.Dense(4, bias_initializer="random_normal")
    kinds = ("tanh", "relu", "linear")[:heads]
    read = [k.layers.Dense(5, activation=kind)(given) for kind in kinds]
    data = np.random.default_rng(0).normal(size=(COUNT, 5)).astype(np.float32)
    return k.Model(given, [dense(x) for x in read]), data


def told(result: tfldbg.Trace) -> tuple[str | None, str | None]:
    first = result.first_divergence
    return first and first.kind, result.cause and result.cause.code


@plants("TFL058")
@pytest.mark.parametrize("keras", [True, False])
@pytest.mark.parametrize(("make", "kind"), [(one_hot, "ONE_HOT"), (diagonal, "MATRIX_DIAG")])
def test_codes_that_are_copied(make: Any, kind: str, keras: bool) -> None:
    live, data = make(**{"looked_up" if make is one_hot else "product": False})
    result = tfldbg.trace(converted(live, data), keras=live if keras else None, data=data)
    assert told(result) == (kind, "TFL058"), result.diagnosis.sentence
    remedies = {f.suggestion for f in result.diagnosis.findings if f.severity == "error"}
    assert not any("onvert" in remedy for remedy in remedies)  # that changes nothing


@pytest.mark.parametrize("make", [one_hot, diagonal])
def test_what_is_to_be_written_in_their_place(make: Any) -> None:
    live, data = make(**{"looked_up" if make is one_hot else "product": True})
    result = tfldbg.trace(converted(live, data), keras=live, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence


@plants("TFL064")
@pytest.mark.parametrize("heads", [2, 3])
def test_a_bias_for_inputs_of_different_scales(heads: int) -> None:
    live, data = shared_layer(heads)
    result = tfldbg.trace(converted(live, data, wide=True), keras=live, data=data)
    assert told(result) == ("FULLY_CONNECTED", "TFL064"), result.diagnosis.sentence
    by_op = {o.op: o for o in result.evidence.ops}
    first = by_op[result.first_divergence.op] if result.first_divergence else None
    assert first is not None and first.local is not None and (first.local.max_lsb or 0) > 100
    sound = tfldbg.trace(converted(live, data), keras=live, data=data)
    assert sound.verdict == "clean", sound.diagnosis.sentence
