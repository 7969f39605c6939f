"""The architectures of the benchmarks, as small untrained tf_keras models."""

from __future__ import annotations

from typing import Any

import numpy as np


def dense(use_bias: bool) -> Any:
    """Four Dense layers."""
    import tf_keras as k

    sizes = (12, 11, 10)
    body = [k.layers.Dense(n, use_bias=use_bias, activation="relu") for n in sizes]
    return k.Sequential([k.Input((16,)), *body, k.layers.Dense(5, use_bias=use_bias)])


def conv() -> Any:
    """Convolution, depthwise convolution, batch norm, Flatten, softmax."""
    import tf_keras as k

    n = k.layers
    x = image = k.Input((16, 16, 3), name="image")
    x = n.ReLU(6.0)(n.BatchNormalization()(n.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    x = n.ReLU(6.0)(n.BatchNormalization()(n.DepthwiseConv2D(3, strides=2, padding="same")(x)))
    x = n.BatchNormalization()(n.Conv2D(12, 1)(x))
    x = n.ReLU()(x)
    return k.Model(image, n.Dense(4, activation="softmax")(n.Flatten()(x)), name="conv")


def residual() -> Any:
    """Two residual blocks."""
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
    """Four branches with a pool, joined."""
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
    """Two levels down and up again, transposed and resized, with skips."""
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
    """Dilated convolutions."""
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
    """LeakyReLU, pooling and a nearest resize."""
    import tf_keras as k

    n = k.layers
    image = k.Input((10, 10, 3), name="image")
    x = n.LeakyReLU(0.2)(n.Conv2D(8, 3, padding="same")(image))
    x = n.UpSampling2D()(n.MaxPooling2D()(n.Conv2D(6, 3, activation="relu")(x)))
    return k.Model(image, n.Dense(3, activation="softmax")(n.GlobalMaxPooling2D()(x)), name="leaky")


def strided() -> Any:
    """Explicit padding before convolutions of stride two, where SAME would pad the other side."""
    import tf_keras as k

    n = k.layers
    x = image = k.Input((16, 16, 3), name="image")
    for filters, padding in ((8, 1), (12, ((1, 0), (1, 0)))):
        x = n.ZeroPadding2D(padding)(x)
        x = n.Conv2D(filters, 3, strides=2, use_bias=False)(x)
        x = n.ReLU(6.0)(n.BatchNormalization()(x))
    return k.Model(image, n.Dense(4)(n.GlobalAveragePooling2D()(x)), name="strided")


def resized() -> Any:
    """A bilinear resize and a transposed convolution."""
    import tf_keras as k

    n = k.layers
    image = k.Input((10, 10, 3), name="image")
    x = n.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = n.UpSampling2D(2, interpolation="bilinear")(x)
    x = n.Conv2DTranspose(6, 3, strides=2, padding="same")(n.Conv2D(6, 3, activation="relu")(x))
    return k.Model(image, n.Conv2D(3, 1, activation="softmax")(x), name="resized")


def conv1d() -> Any:
    """Convolutions and pools of one dimension."""
    import tf_keras as k

    n = k.layers
    signal = k.Input((24, 4), name="signal")
    x = n.MaxPooling1D(2)(n.Conv1D(8, 3, padding="same", activation="relu")(signal))
    x = n.ReLU()(n.BatchNormalization()(n.Conv1D(10, 3, padding="same")(x)))
    x = n.GlobalAveragePooling1D()(n.AveragePooling1D(2)(x))
    return k.Model(signal, n.Dense(4, activation="softmax")(x), name="conv1d")


def attention() -> Any:
    """One head of self-attention with a residual, then a classifier."""
    import tf_keras as k

    n = k.layers
    steps = k.Input((8, 12), name="steps")
    query, key, value = (n.Dense(12, name=name)(steps) for name in ("query", "key", "value"))
    x = n.Add()([steps, n.Attention()([query, value, key])])
    x = n.GlobalAveragePooling1D()(n.Dense(16, activation="relu")(x))
    return k.Model(steps, n.Dense(4, activation="softmax")(x), name="attention")


def lstm(unroll: bool, *, sequences: bool = False) -> Any:
    """An LSTM, which the converter fuses into one operator unless it is unrolled."""
    import tf_keras as k

    n = k.layers
    steps = k.Input((6, 5), name="steps", batch_size=None if unroll else 1)
    x = n.LSTM(8, unroll=unroll, return_sequences=sequences)(steps)
    return k.Model(steps, n.Dense(4)(n.Dense(6, activation="relu")(x)), name="lstm")


def gru(unroll: bool) -> Any:
    """A GRU, which the converter makes a WHILE unless it is unrolled.

    A loop's weights are large enough (1024 elements) for dynamic-range quantization to take them.
    """
    import tf_keras as k

    n = k.layers
    shape, units = ((6, 5), 8) if unroll else ((6, 16), 24)
    steps = k.Input(shape, name="steps", batch_size=None if unroll else 1)
    x = n.GRU(units, unroll=unroll)(steps)
    return k.Model(steps, n.Dense(4)(x), name="gru")


def elman() -> Any:
    """The simplest recurrent layer, as a loop that returns every state."""
    import tf_keras as k

    n = k.layers
    steps = k.Input((7, 28), name="steps", batch_size=1)
    return k.Model(steps, n.Dense(3)(n.SimpleRNN(40, return_sequences=True)(steps)), name="elman")


def lmu() -> Any:
    """A linear memory unit, unrolled: m' = A m + B u, where u is made of input, state and memory.

    Layers and sizes are those of ``keras_lmu.LMUCell`` (order 4, theta 5, a hidden SimpleRNN cell
    of 10 units, every connection on); each layer with weights is called once in a step.
    """
    import tf_keras as k

    n = k.layers
    order, theta, units, inputs, count = 4, 5.0, 10, 4, 6
    kernels = [k.initializers.Constant(m.T.tolist()) for m in lmu_matrices(order, theta)]
    keep, write = (
        n.Dense(order, use_bias=False, kernel_initializer=kernel, name=name)
        for kernel, name in zip(kernels, ("a", "b"), strict=True)
    )
    encoders = [n.Dense(1, use_bias=False, name=f"encode_{what}") for what in ("x", "h", "m")]
    readers = [
        n.Dense(units, use_bias=what == "x", name=f"read_{what}") for what in ("x", "m", "h")
    ]
    steps = k.Input((count, inputs), name="steps")
    memory = hidden = None
    for t in range(count):
        x = n.Flatten(name=f"x_{t}")(n.Cropping1D((t, count - 1 - t))(steps))
        u = encoders[0](x)
        if memory is None:
            memory = write(u)
            h = n.Add()([readers[0](x), readers[1](memory)])
        else:
            u = n.Add()([u, n.Add()([encoders[1](hidden), encoders[2](memory)])])
            memory = n.Add(name=f"memory_{t}")([keep(memory), write(u)])
            h = n.Add()([readers[0](x), n.Add()([readers[1](memory), readers[2](hidden)])])
        hidden = n.ReLU(name=f"hidden_{t}")(h)
    return k.Model(steps, n.Dense(10, use_bias=False, name="logits")(hidden), name="lmu")


def lmu_matrices(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return A (order, order) and B (order, 1) of a memory of ``theta`` steps, float32.

    Voelker, Kajic and Eliasmith 2019, "Legendre Memory Units", equations 1 and 2, discretized with
    a zero-order hold of one step: ``exp([[A, B], [0, 0]] / theta)`` holds both.
    """
    q = np.arange(order)
    row, column = np.meshgrid(q, q, indexing="ij")
    sign = np.where(row < column, -1.0, (-1.0) ** (row - column + 1))
    whole = np.zeros((order + 1, order + 1))
    whole[:order, :order] = (2 * row + 1) * sign / theta
    whole[:order, order] = (2 * q + 1) * (-1.0) ** q / theta
    power = held = np.eye(order + 1)
    for i in range(1, 40):  # the series of the exponential; the norm is a few units
        power = power @ whole / i
        held = held + power
    return held[:order, :order].astype(np.float32), held[:order, order:].astype(np.float32)


def arithmetic() -> Any:
    """Differences, products and constants."""
    import tf_keras as k

    n = k.layers
    image = k.Input((10, 10, 3), name="image")
    a = n.Conv2D(8, 3, activation="relu")(image)
    b = n.Conv2D(8, 3)(image)
    x = n.Multiply()([n.Subtract()([a, b]), n.Conv2D(8, 3, activation="relu6")(image)])
    x = (x + 0.3) * 0.7
    x = n.Conv2D(6, 1)(x)
    return k.Model(image, n.Dense(4)(n.GlobalAveragePooling2D()(x)), name="arithmetic")


def constants() -> Any:
    """Products, sums and differences with constants that no neighbour can absorb."""
    import tf_keras as k

    n = k.layers
    image = k.Input((10, 10, 3), name="image")
    a = n.Conv2D(6, 3, activation="relu")(image)
    x = n.Add()([a, n.Conv2D(6, 3)(image)])
    x = n.ReLU()(x * np.linspace(0.5, 0.9, 6).astype(np.float32) - 0.1)
    x = n.GlobalAveragePooling2D()(n.MaxPooling2D()(x))
    return k.Model(image, n.Softmax()(n.Dense(4)(x) + 0.3), name="constants")


def gated() -> Any:
    """A squeeze-and-excitation gate and a difference of two branches."""
    import tf_keras as k

    n = k.layers
    image = k.Input((12, 12, 3), name="image")
    x = n.ReLU()(n.BatchNormalization()(n.Conv2D(8, 3, padding="same", use_bias=False)(image)))
    gate = n.Dense(4, activation="relu")(n.GlobalAveragePooling2D()(x))
    gate = n.Reshape((1, 1, 8))(n.Dense(8, activation="sigmoid")(gate))
    x = n.Subtract()([n.Multiply()([x, gate]), n.Conv2D(8, 1)(x)])
    x = n.LeakyReLU(0.1)(n.DepthwiseConv2D(3, padding="same")(x))
    return k.Model(image, n.Dense(3)(n.Flatten()(x)), name="gated")


def segmenter() -> Any:
    """A softmax for each pixel."""
    import tf_keras as k

    n = k.layers
    image = k.Input((16, 16, 3), name="image")
    x = n.MaxPooling2D()(n.Conv2D(8, 3, padding="same", activation="relu")(image))
    x = n.Conv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(x)
    x = n.UpSampling2D(2, interpolation="bilinear")(x)
    return k.Model(image, n.Softmax()(n.Conv2D(5, 1)(x)), name="segmenter")


def application(name: str, size: int, **options: Any) -> Any:
    """An untrained network of tf_keras.applications with ten classes."""
    import tf_keras as k

    return getattr(k.applications, name)(
        input_shape=(size, size, 3), weights=None, classes=10, **options
    )


def wide() -> Any:
    """Dense layers wide enough for weights in blocks of 32 and 64."""
    import tf_keras as k

    n = k.layers
    given = k.Input((64,), name="x")
    x = n.Dense(128)(n.Dense(128, activation="relu")(given))
    return k.Model(given, n.Dense(64)(n.ReLU()(x)), name="wide")


def transformer() -> Any:
    """Attention, layer norms and a feed-forward pair, for one sequence at a time."""
    import tf_keras as k

    n = k.layers
    steps = k.Input((8, 64), name="steps", batch_size=1)
    query, key, value = (n.Dense(64, name=name)(steps) for name in ("query", "key", "value"))
    x = n.LayerNormalization()(n.Add()([steps, n.Attention()([query, value, key])]))
    y = n.Dense(64)(n.Dense(128, activation="gelu")(x))
    return k.Model(steps, n.LayerNormalization()(n.Add()([x, y])), name="transformer")
