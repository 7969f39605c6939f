"""QAT pairs of many architectures, built without training: ranges and batch norms see data only.

A fast decay makes the range observers real after a few dozen batches instead of thousands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CALIBRATION_STEPS = 24
BATCH = 16


@dataclass(frozen=True)
class Pair:
    """A QAT Keras model and the .tflite converted from it."""

    name: str
    keras: Path
    tflite: Path
    data: dict[str, np.ndarray]


def _layers() -> Any:
    import tf_keras

    return tf_keras.layers


def dense(use_bias: bool) -> Any:
    import tf_keras as k

    sizes = (12, 11, 10)
    body = [k.layers.Dense(n, use_bias=use_bias, activation="relu") for n in sizes]
    return k.Sequential([k.Input((16,)), *body, k.layers.Dense(5, use_bias=use_bias)])


def conv() -> Any:
    import tf_keras as k

    n = k.layers
    x = image = k.Input((16, 16, 3), name="image")
    x = n.ReLU(6.0)(n.BatchNormalization()(n.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    x = n.ReLU(6.0)(n.BatchNormalization()(n.DepthwiseConv2D(3, strides=2, padding="same")(x)))
    x = n.BatchNormalization()(n.Conv2D(12, 1)(x))
    x = n.ReLU()(x)
    return k.Model(image, n.Dense(4, activation="softmax")(n.Flatten()(x)), name="conv")


def residual() -> Any:
    import tf_keras as k

    n = k.layers
    x = image = k.Input((12, 12, 3), name="image")
    x = n.ReLU()(n.BatchNormalization()(n.Conv2D(8, 3, padding="same")(x)))
    for _ in range(2):
        y = n.ReLU()(n.BatchNormalization()(n.Conv2D(8, 3, padding="same")(x)))
        y = n.BatchNormalization()(n.Conv2D(8, 3, padding="same")(y))
        x = n.ReLU()(n.Add()([x, y]))
    return k.Model(image, n.Dense(4)(n.GlobalAveragePooling2D()(x)), name="residual")


def inception() -> Any:
    import tf_keras as k

    n = k.layers
    image = k.Input((12, 12, 3), name="image")
    x = n.Conv2D(8, 3, padding="same", activation="relu")(image)
    a = n.Conv2D(6, 1, padding="same", activation="relu")(x)
    b = n.Conv2D(6, 3, padding="same", activation="relu")(x)
    c = n.Conv2D(6, 1, padding="same", activation="relu")(n.MaxPooling2D(3, 1, padding="same")(x))
    d = n.BatchNormalization()(n.Conv2D(4, 5, padding="same")(x))
    x = n.Concatenate()([a, b, c, d])
    x = n.AveragePooling2D()(n.Conv2D(8, 1, activation="relu")(x))
    return k.Model(image, n.Dense(4)(n.Flatten()(x)), name="inception")


def ports() -> Any:
    """Two inputs, two outputs."""
    import tf_keras as k

    n = k.layers
    left, right = k.Input((10, 10, 2), name="left"), k.Input((6,), name="right")
    x = n.Flatten()(n.Conv2D(4, 3, activation="relu")(left))
    y = n.Dense(8, activation="relu")(right)
    both = n.Concatenate()([n.Dense(8, activation="relu")(x), y])
    one = n.Dense(3, name="one")(both)
    two = n.Dense(5, activation="softmax", name="two")(both)
    return k.Model([left, right], [one, two], name="ports")


def shared() -> Any:
    """One convolution and one Dense, each called twice."""
    import tf_keras as k

    n = k.layers
    a, b = k.Input((8, 8, 3), name="a"), k.Input((8, 8, 3), name="b")
    conv_layer, dense_layer = n.Conv2D(6, 3, activation="relu"), n.Dense(7)
    x = dense_layer(n.Flatten()(conv_layer(a)))
    y = dense_layer(n.Flatten()(conv_layer(b)))
    return k.Model([a, b], n.Dense(4)(n.Add()([x, y])), name="shared")


def unet() -> Any:
    import tf_keras as k

    n = k.layers
    image = k.Input((16, 16, 3), name="image")
    one = n.Conv2D(6, 3, padding="same", activation="relu")(image)
    two = n.Conv2D(8, 3, padding="same", activation="relu")(n.MaxPooling2D()(one))
    deep = n.Conv2D(12, 3, padding="same", activation="relu")(n.MaxPooling2D()(two))
    up = n.Conv2DTranspose(8, 3, strides=2, padding="same")(deep)
    x = n.Conv2D(8, 3, padding="same", activation="relu")(n.Concatenate()([up, two]))
    up = n.UpSampling2D(2, interpolation="bilinear")(x)
    x = n.Conv2D(6, 3, padding="same", activation="relu")(n.Concatenate()([up, one]))
    return k.Model(image, n.Conv2D(2, 1)(x), name="unet")


def reuse() -> Any:
    """A tensor added to itself, read three times, and joined with what is made of it."""
    import tf_keras as k

    n = k.layers
    image = k.Input((8, 8, 3), name="image")
    x = n.Conv2D(6, 3, padding="same", activation="relu")(image)
    a = n.Add()([x, n.Conv2D(6, 1)(x)])
    joined = n.Concatenate()([a, n.Add()([x, x]), x])
    return k.Model(image, n.Dense(3)(n.Flatten()(joined)), name="reuse")


def dilated() -> Any:
    import tf_keras as k

    n = k.layers
    image = k.Input((12, 12, 3), name="image")
    x = n.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = n.Conv2D(8, 3, dilation_rate=2, padding="same")(x)
    x = n.DepthwiseConv2D(3, dilation_rate=2, padding="same")(n.ReLU()(x))
    return k.Model(image, n.Dense(3)(n.GlobalAveragePooling2D()(x)), name="dilated")


def sequence() -> Any:
    """Dense layers on three-dimensional input."""
    import tf_keras as k

    n = k.layers
    steps = k.Input((6, 5), name="steps")
    x = n.Dense(7)(n.Dense(8, activation="relu")(steps))
    return k.Model(steps, n.Dense(3)(n.Flatten()(x)), name="sequence")


def leaky() -> Any:
    import tf_keras as k

    n = k.layers
    image = k.Input((10, 10, 3), name="image")
    x = n.LeakyReLU(0.2)(n.Conv2D(8, 3, padding="same")(image))
    x = n.UpSampling2D()(n.MaxPooling2D()(n.Conv2D(6, 3, activation="relu")(x)))
    return k.Model(image, n.Dense(3, activation="softmax")(n.GlobalMaxPooling2D()(x)), name="leaky")


def application(name: str, size: int, **options: Any) -> Any:
    import tf_keras as k

    return getattr(k.applications, name)(
        input_shape=(size, size, 3), weights=None, classes=10, **options
    )


ZOO: dict[str, Callable[[], Any]] = {
    "dense": functools.partial(dense, True),
    "dense_nobias": functools.partial(dense, False),
    "conv": conv,
    "residual": residual,
    "inception": inception,
    "ports": ports,
    "shared": shared,
    "unet": unet,
    "reuse": reuse,
    "dilated": dilated,
    "sequence": sequence,
    "leaky": leaky,
    "mobilenet_v1": functools.partial(application, "MobileNet", 96, alpha=0.25),
    "mobilenet_v2": functools.partial(application, "MobileNetV2", 96, alpha=0.35),
    "resnet50": functools.partial(application, "ResNet50", 64),
}


def _randomize(model: Any) -> None:
    """Give biases and batch norms values, which training would have done."""
    generator = np.random.default_rng(3)
    for variable in model.weights:
        kind = variable.name.rpartition("/")[2].split(":")[0]
        if kind in ("bias", "beta"):
            variable.assign(generator.normal(0, 0.2, variable.shape))
        elif kind == "gamma":
            variable.assign(generator.uniform(0.6, 1.4, variable.shape))


@contextmanager
def _fast_observers() -> Iterator[None]:
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    own = quant_ops.MovingAvgQuantize

    def fast(*given: Any, **options: Any) -> Any:
        return own(*given, **{**options, "ema_decay": 0.7})

    quant_ops.MovingAvgQuantize = fast
    try:
        yield
    finally:
        quant_ops.MovingAvgQuantize = own


def _noise(model: Any, seed: int, count: int) -> list[np.ndarray]:
    """Smooth random images or vectors in 0..1, one array an input."""
    generator = np.random.default_rng(seed)
    return [
        generator.uniform(0, 1, (count, *given.shape[1:])).astype(np.float32)
        for given in model.inputs
    ]


def build(name: str, folder: Path) -> Pair:
    """Build, calibrate and convert one architecture."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(7)
    model = ZOO[name]()
    _randomize(model)
    with _fast_observers():
        qat = tfmot.quantization.keras.quantize_model(model)
        step = tf.function(lambda given: qat(given, training=True))
        for seed in range(CALIBRATION_STEPS):
            given = [tf.constant(x) for x in _noise(qat, seed, BATCH)]
            step(given if len(given) > 1 else given[0])
    keras, tflite = folder / f"{name}.h5", folder / f"{name}.tflite"
    qat.save(keras, include_optimizer=False)
    tflite.write_bytes(convert(qat))
    data = _noise(qat, 1000, 4)
    return Pair(name, keras, tflite, dict(zip(qat.input_names, data, strict=True)))


def convert(qat: Any) -> bytes:
    """Convert a QAT model to int8."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(qat)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return bytes(converter.convert())
