"""Every operation that is lowered computes what TensorFlow computes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from tfldbg.against import keras as keras_kind
from tfldbg.compare import lowered
from tfldbg.compare.float_kernels import XNNPACK
from tfldbg.lower.lowering import NotLoweredError
from tfldbg.lower.program import Lowering
from tfldbg.reference.evaluate import evaluate_once
from tfldbg.reference.keras import load_frozen
from tfldbg.run.derived import DerivedRunner, derived_program

SAMPLE_MODELS = Path(__file__).resolve().parents[2] / "sample_models"
IMAGE, VECTOR, STEPS = (9, 8, 6), (12,), (5, 12)
Make = Callable[[Any, Any, Any], Any]


def _computed(make: Make, shape: Sequence[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the values of every operation: of the program, and of TensorFlow."""
    import tensorflow as tf
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input(tuple(shape))
    model = k.Model(given, make(k.layers, tf, given))
    for layer in model.layers:  # or a batch norm would change nothing
        weights = [
            w + 0.1 * np.random.default_rng(w.size).random(w.shape) for w in layer.get_weights()
        ]
        layer.set_weights(weights)
    frozen = load_frozen(model)
    x = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    graph = frozen.graph
    fetches = [n for n in graph.activations if n not in graph.inputs]
    operations = lowered._operations(frozen, fetches, {}, [x])
    kinds = ("float32", "int32", "bool")
    fetches = [n for n in fetches if operations.values[n].dtype.name in kinds]
    made = Lowering(operations, ())
    program = made.finish(made.free(graph.inputs, fetches))
    runner = DerivedRunner(
        derived_program("it", program.content, program.taps, XNNPACK), program.feeds
    )
    found = runner.run({-1: x}, {-1: x}, 1)
    runner.close()
    wanted, _ = evaluate_once(frozen, fetches, [x])
    return {n: (a, b) for n, a, b in zip(fetches, found, wanted, strict=True)}


def _assert_same(make: Make, shape: Sequence[int]) -> set[str]:
    values = _computed(make, shape)
    for name, (found, wanted) in values.items():
        assert found.size == wanted.size, name
        largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
        np.testing.assert_allclose(
            found.reshape(wanted.shape), wanted, rtol=0, atol=2e-5 * largest, err_msg=name
        )
    return set(values)


def _einsum(equation: str, *shape: int) -> Make:
    def make(layers: Any, tf: Any, x: Any) -> Any:
        constant = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        return tf.einsum(equation, x, constant)

    return make


def _fake_quant(**options: Any) -> Make:
    return lambda layers, tf, x: tf.quantization.fake_quant_with_min_max_args(x, **options)


def _constant(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(0.5, 2, shape).astype(np.float32)


OPERATIONS: dict[str, tuple[Make, Sequence[int]]] = {
    "conv": (lambda k, tf, x: k.Conv2D(5, 3, strides=2, padding="same")(x), IMAGE),
    "conv valid": (lambda k, tf, x: k.Conv2D(5, (2, 3), dilation_rate=2)(x), IMAGE),
    "conv without bias": (lambda k, tf, x: k.Conv2D(5, 3, use_bias=False)(x), IMAGE),
    "conv 1d": (lambda k, tf, x: k.Conv1D(5, 3, padding="causal")(x), STEPS),
    "conv explicit": (
        lambda k, tf, x: tf.nn.conv2d(
            x, _constant(3, 3, 6, 4), 1, [[0, 0], [1, 2], [0, 1], [0, 0]]
        ),
        IMAGE,
    ),
    "conv norm relu": (
        lambda k, tf, x: k.ReLU(6.0)(k.BatchNormalization()(k.Conv2D(5, 3)(x))),
        IMAGE,
    ),
    "depthwise": (lambda k, tf, x: k.DepthwiseConv2D(3, padding="same")(x), IMAGE),
    "depthwise two": (
        lambda k, tf, x: k.ReLU()(
            k.BatchNormalization()(k.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(x))
        ),
        IMAGE,
    ),
    "separable": (lambda k, tf, x: k.SeparableConv2D(4, 3)(x), IMAGE),
    "transposed": (lambda k, tf, x: k.Conv2DTranspose(4, 3, strides=2, padding="same")(x), IMAGE),
    "norm": (lambda k, tf, x: k.BatchNormalization()(x), IMAGE),
    "dense": (lambda k, tf, x: k.Dense(5, activation="relu")(x), VECTOR),
    "dense steps": (lambda k, tf, x: k.Dense(5)(x), STEPS),
    "product": (lambda k, tf, x: tf.matmul(x, x, transpose_b=True), STEPS),
    "attention": (lambda k, tf, x: k.MultiHeadAttention(2, 3)(x, x), STEPS),
    "layer norm": (lambda k, tf, x: k.LayerNormalization()(x), STEPS),
    "softmax": (lambda k, tf, x: k.Softmax()(x), STEPS),
    "log softmax": (lambda k, tf, x: tf.nn.log_softmax(x), VECTOR),
    "selu": (lambda k, tf, x: tf.nn.selu(x), VECTOR),
    "elu": (lambda k, tf, x: tf.nn.elu(x), VECTOR),
    "softsign": (lambda k, tf, x: tf.nn.softsign(x), VECTOR),
    "leaky": (lambda k, tf, x: tf.nn.leaky_relu(x, 0.3), VECTOR),
    "swish": (lambda k, tf, x: tf.nn.silu(x), VECTOR),
    "hard swish": (lambda k, tf, x: x * tf.nn.relu6(x + 3.0) / 6.0, VECTOR),
    "gelu": (lambda k, tf, x: tf.nn.gelu(x, approximate=True), VECTOR),
    "functions": (
        lambda k, tf, x: (
            tf.sqrt(tf.abs(x)) + tf.exp(x) + tf.square(x) - tf.sin(x) * tf.cos(x) + tf.floor(x)
        ),
        VECTOR,
    ),
    "of two": (
        lambda k, tf, x: (
            tf.maximum(x, _constant(12)) - tf.minimum(x, 0.1) + tf.math.squared_difference(x, 0.5)
        ),
        VECTOR,
    ),
    "quotient": (lambda k, tf, x: x / _constant(12) + tf.math.rsqrt(tf.abs(x) + 1.0), VECTOR),
    "add": (lambda k, tf, x: k.Add()([x, x * 2.0, x * 3.0]), VECTOR),
    "select": (lambda k, tf, x: tf.where(tf.logical_and(x > 0.1, x < 0.9), x, -x), VECTOR),
    "cast": (lambda k, tf, x: tf.cast(tf.not_equal(x, 0.0), tf.float32) * x, VECTOR),
    "concat": (lambda k, tf, x: k.Concatenate()([x, x * 2.0]), IMAGE),
    "max pool": (lambda k, tf, x: k.MaxPooling2D(3, strides=2, padding="same")(x), IMAGE),
    "average pool": (lambda k, tf, x: k.AveragePooling2D(2, padding="same")(x), IMAGE),
    "global pool": (lambda k, tf, x: k.GlobalAveragePooling2D()(x), IMAGE),
    "reduced": (
        lambda k, tf, x: tf.reduce_max(x, 1) + tf.reduce_min(x, 1) + tf.reduce_sum(x, 1),
        STEPS,
    ),
    "reshape": (lambda k, tf, x: k.Reshape((6, 10))(x), STEPS),
    "flatten": (lambda k, tf, x: k.Flatten()(x), IMAGE),
    "permute": (lambda k, tf, x: k.Permute((2, 1))(x), STEPS),
    "pad": (lambda k, tf, x: k.ZeroPadding2D((1, 2))(x), IMAGE),
    "mirror pad": (lambda k, tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1]], "REFLECT"), STEPS),
    "pad with": (lambda k, tf, x: tf.pad(x, [[0, 0], [1, 2]], constant_values=2.0), VECTOR),
    "crop": (lambda k, tf, x: k.Cropping2D(1)(x)[:, ::2, :, 1], IMAGE),
    "resize": (lambda k, tf, x: k.UpSampling2D(2, interpolation="bilinear")(x), IMAGE),
    "nearest": (lambda k, tf, x: k.UpSampling2D(2)(x), IMAGE),
    "align": (
        lambda k, tf, x: tf.compat.v1.image.resize_bilinear(x, (5, 4), align_corners=True),
        IMAGE,
    ),
    "split": (lambda k, tf, x: tf.concat(tf.split(x, [2, 4], 2)[::-1], 2), (4, 4, 6)[1:]),
    "split alike": (lambda k, tf, x: tf.split(x, 3, 2)[1] * 2.0, STEPS),
    "stack": (lambda k, tf, x: tf.stack(tf.unstack(x, axis=1)[::-1], 1), STEPS),
    "tile": (lambda k, tf, x: tf.tile(x, [1, 2, 1]), STEPS),
    "reverse": (lambda k, tf, x: tf.reverse(x, [1]), STEPS),
    "cumsum": (lambda k, tf, x: tf.cumsum(x, 1, exclusive=True), STEPS),
    "gather": (lambda k, tf, x: tf.gather(x, [2, 0, 1], axis=1), STEPS),
    "lstm": (lambda k, tf, x: k.LSTM(4, unroll=True)(x), STEPS),
    "gru": (lambda k, tf, x: k.GRU(4, unroll=True)(x), STEPS),
    "einsum product": (_einsum("abc,cd->abd", 12, 4), STEPS),
    "einsum heads": (_einsum("abc,cde->abde", 12, 2, 3), STEPS),
    "einsum turned": (_einsum("abc,dc->adb", 4, 12), STEPS),
    "fake quant": (_fake_quant(min=-1.0, max=2.0), VECTOR),
    "fake quant of nothing": (
        lambda k, tf, x: tf.quantization.fake_quant_with_min_max_vars(x, 0.0, 0.0),
        VECTOR,
    ),
    "fake quant one side": (_fake_quant(min=0.0, max=2.0), VECTOR),
    "fake quant of 4 bits": (_fake_quant(min=-1.0, max=2.0, num_bits=4), VECTOR),
    "fake quant of halves": (
        lambda k, tf, x: tf.quantization.fake_quant_with_min_max_args(
            tf.round(4.0 * x) * 0.5, min=0.0, max=255.0
        ),
        VECTOR,
    ),
    "fake quant of zeros": (
        lambda k, tf, x: tf.quantization.fake_quant_with_min_max_args(0.0 * x, min=0.0, max=255.0),
        VECTOR,
    ),
    "fake quant per channel": (
        lambda k, tf, x: tf.quantization.fake_quant_with_min_max_vars_per_channel(
            x, -_constant(12), 2.0 * _constant(12)
        ),
        VECTOR,
    ),
    "fake quant narrow": (_fake_quant(min=-1.0, max=1.0, narrow_range=True), VECTOR),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_computes_what_tensorflow_does(name: str) -> None:
    assert _assert_same(*OPERATIONS[name])


def test_halves_are_rounded_up_though_the_known_sample_holds_none() -> None:
    """A black image says nothing about rounding."""
    import tensorflow as tf
    import tf_keras as k

    given = k.Input((64,))
    rounded = tf.quantization.fake_quant_with_min_max_args(given, min=0.0, max=510.0)
    frozen = load_frozen(k.Model(given, rounded))
    graph, zeros = frozen.graph, np.zeros((1, 64), np.float32)
    fetches = [n for n in graph.activations if n not in graph.inputs]
    operations = lowered._operations(frozen, fetches, {}, [zeros])
    made = Lowering(operations, ())
    program = made.finish(made.free(graph.inputs, fetches))
    derived = derived_program("it", program.content, program.taps, XNNPACK)
    runner = DerivedRunner(derived, program.feeds)
    x = np.arange(64, dtype=np.float32)[None]  # every other value is half a step
    found = runner.run({-1: x}, {-1: x}, 1)
    runner.close()
    wanted, _ = evaluate_once(frozen, fetches, [x])
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)


@pytest.mark.parametrize("optimized", ["0", "1"])
def test_they_do_under_both_sets_of_tensorflow_kernels(optimized: str) -> None:
    """OneDNN fuses nodes, and adds in another order."""
    names = ["conv norm relu", "depthwise two", "leaky", "swish", "layer norm", "attention"]
    script = (
        "from tests.integration import test_lowering as t\n"
        f"for name in {names!r}:\n    assert t._assert_same(*t.OPERATIONS[name])\n"
    )
    variables = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": optimized}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[2],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (lambda k, tf, x: tf.math.erfc(x), VECTOR, "Erfc has no lowering"),
        (lambda k, tf, x: tf.math.bessel_i0(x), VECTOR, "BesselI0 has no lowering"),
        (lambda k, tf, x: tf.einsum("abc,abd->ad", x, x), STEPS, "Einsum abc,abd->ad"),
        (
            lambda k, tf, x: tf.nn.conv2d(x, x[0, :3, :3, :, None], 1, "SAME"),
            IMAGE,
            "computed input",
        ),
    ],
)
def test_what_has_no_lowering_is_said(make: Make, shape: Sequence[int], words: str) -> None:
    with pytest.raises(NotLoweredError, match=words):
        _computed(make, shape)


PAIRS = ("cnn", "dense4", "dense5_nobias_ptq", "lmu_ptq", "cnn_negated_channel")


@pytest.mark.parametrize("name", PAIRS)
def test_a_lowered_model_gives_the_same_verdict(
    name: str, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = samples / f"{name}.tflite"
    model = samples / f"{'cnn' if name.startswith('cnn') else name}.h5"
    lowers: list[bool] = []

    def seen(*given: Any) -> Any:
        made = lowered.lowered_reference(*given)
        lowers.append(made[0] is not None)
        return made

    monkeypatch.setattr(keras_kind, "lowered_reference", seen)
    theirs = tfldbg.trace(path, keras=model, samples=8)
    assert lowers == []
    monkeypatch.setattr(keras_kind, "_WORTH", 0)
    mine = tfldbg.trace(path, keras=model, samples=8)
    assert lowers == [True]
    assert (mine.verdict, mine.origins) == (theirs.verdict, theirs.origins)
    for one, other in zip(mine.evidence.ops, theirs.evidence.ops, strict=True):
        if one.local is not None and other.local is not None:
            assert one.local.max_abs == pytest.approx(
                other.local.max_abs, rel=1e-3, abs=1e-4 * max(other.local.reference_max_abs, 1e-9)
            )
