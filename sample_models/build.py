"""Rebuild every model in this folder: train, fine-tune with QAT, convert, break.

    python sample_models/build.py --digits mnist_10k.npz

``--digits`` takes an ``.npz`` with ``images`` (N, 28, 28) uint8 and ``labels`` (N,).  Without it
the few hundred digits beside this script are used: enough to see that the script works, too few to
reach the accuracy of the committed models, which were trained on 9,000 digits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import h5py
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import plant  # noqa: E402  (beside this script)

SEED = 20261123
HELD_OUT = 1000
COMMITTED_DIGITS = 300
# The range observers are moving averages with decay 0.999 that start at +-6: after 8,000 steps the
# start weighs 0.03 %.
QAT_STEPS = 8000
layers = keras.layers


@dataclass(frozen=True)
class Digits:
    """Images (N, 28, 28) float32 in 0..1 and labels (N,) uint8, split into seen and unseen."""

    seen: np.ndarray
    seen_labels: np.ndarray
    unseen: np.ndarray
    unseen_labels: np.ndarray


def load_digits(path: Path) -> Digits:
    """Read the digits and hold the last tenth (at most 1,000) out of the training."""
    with np.load(path) as archive:
        images = archive["images" if "images" in archive else "x"].astype(np.float32)
        labels = archive["labels"]
    images = images / 255.0 if images.max() > 1 else images
    images = images.reshape(-1, 28, 28)
    held = min(HELD_OUT, len(images) // 10)
    return Digits(images[:-held], labels[:-held], images[-held:], labels[-held:])


def dense(count: int, use_bias: bool) -> keras.Model:
    """The origin's network: ``count`` linear Dense layers of ten units after a Flatten."""
    return keras.Sequential(
        [keras.Input((28, 28)), layers.Flatten()]
        + [layers.Dense(10, use_bias=use_bias) for _ in range(count)]
    )


def memory(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A (order, order) and B (order, 1) of a linear memory of the last ``theta`` steps.

    Voelker, Kajic and Eliasmith 2019, "Legendre Memory Units", equations 1 and 2, held over a step:
    ``exp([[A, B], [0, 0]] / theta)``.
    """
    row, column = np.meshgrid(np.arange(order), np.arange(order), indexing="ij")
    sign = np.where(row < column, -1.0, (-1.0) ** (row - column + 1))
    both = np.zeros((order + 1, order + 1))
    both[:order, :order] = (2 * row + 1) * sign / theta
    both[:order, order] = (2 * np.arange(order) + 1) * (-1.0) ** np.arange(order) / theta
    held = np.asarray(tf.linalg.expm(both))
    return held[:order, :order], held[:order, order:]


def lmu() -> keras.Model:
    """A linear memory unit that reads a digit in 14 steps of two rows, unrolled."""
    steps, order, units = 14, 6, 20
    kernels = [keras.initializers.Constant(m.T.tolist()) for m in memory(order, float(steps))]
    keep, write = (
        layers.Dense(order, use_bias=False, kernel_initializer=k, trainable=False, name=name)
        for k, name in zip(kernels, ("keep", "write"), strict=True)
    )
    encode_x, encode_h = (layers.Dense(1, use_bias=False, name=f"encode_{n}") for n in "xh")
    read_x, read_m, read_h = (layers.Dense(units, name=f"read_{n}") for n in "xmh")
    image = keras.Input((28, 28), name="image")
    rows = layers.Reshape((steps, 56), name="rows")(image)
    held = hidden = None
    for t in range(steps):
        x = layers.Flatten(name=f"x_{t}")(layers.Cropping1D((t, steps - 1 - t))(rows))
        u = encode_x(x)
        if held is None:
            held = write(u)
            h = layers.Add()([read_x(x), read_m(held)])
        else:
            u = layers.Add()([u, encode_h(hidden)])
            held = layers.Add(name=f"memory_{t}")([keep(held), write(u)])
            h = layers.Add()([read_x(x), layers.Add()([read_m(held), read_h(hidden)])])
        hidden = layers.ReLU(name=f"hidden_{t}")(h)
    return keras.Model(image, layers.Dense(10, name="logits")(hidden), name="lmu")


def conv_bn(x, filters: int, kernel: int, name: str, relu: bool = True, strides: int = 1):
    """Convolution without bias, batch norm and, unless told otherwise, ReLU6."""
    x = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def cnn() -> keras.Model:
    """Convolution, batch norm, ReLU6, depthwise, residual add, concat, pooling, softmax."""
    image = keras.Input((28, 28, 1), name="image")
    stem = conv_bn(image, 24, 3, "stem", strides=2)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="block_depthwise")(stem)
    x = layers.BatchNormalization(momentum=0.9, name="block_depthwise_bn")(x)
    x = layers.ReLU(6.0, name="block_depthwise_relu")(x)
    x = conv_bn(x, 24, 1, "block_project", relu=False)
    x = layers.Add(name="residual")([stem, x])
    left = conv_bn(x, 24, 1, "left")
    right = conv_bn(x, 24, 3, "right", relu=False)
    x = layers.Concatenate(name="join")([left, right])
    x = layers.MaxPooling2D(name="pool")(x)
    x = conv_bn(x, 48, 3, "head")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(image, layers.Softmax(name="probabilities")(x), name="cnn")


def batches(digits: Digits, shape: tuple[int, ...], steps: int, reach: int):
    """Yield ``steps`` batches of 64 digits, each moved by up to ``reach`` pixels each way."""
    generator = np.random.default_rng(SEED)
    padded = np.pad(digits.seen, ((0, 0), (reach, reach), (reach, reach)))
    for _ in range(steps):
        chosen = generator.integers(0, len(padded), 64)
        down, right = generator.integers(0, 2 * reach + 1, (2, 64))
        corners = zip(chosen, down, right, strict=True)
        images = [padded[i, d : d + 28, r : r + 28] for i, d, r in corners]
        yield np.stack(images).reshape(shape), digits.seen_labels[chosen]


def fit(model: keras.Model, digits: Digits, *, rate: float, steps: int) -> float:
    """Train for ``steps`` steps of 64 digits; return the accuracy on unseen digits."""
    shape = (-1, *model.input_shape[1:])
    model.compile(
        optimizer=keras.optimizers.legacy.Adam(
            keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits="cnn" not in model.name),
        metrics=["accuracy"],
    )
    # A linear network has no use for shifted digits; a convolutional one generalizes from them.
    reach = 2 if "cnn" in model.name else 0
    model.fit(batches(digits, shape, steps, reach), steps_per_epoch=steps, verbose=0)
    _, accuracy = model.evaluate(digits.unseen.reshape(shape), digits.unseen_labels, verbose=0)
    return float(accuracy)


def convert(model: keras.Model, examples: np.ndarray | None = None) -> bytes:
    """Convert to an int8 .tflite with int8 input and output.

    Args:
        model: A QAT model, or a float model that is quantized after training.
        examples: What to calibrate a float model on; a QAT model knows its ranges.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if examples is not None:
        converter.representative_dataset = lambda: ([image[None]] for image in examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return converter.convert()


def accuracy_of(model_bytes: bytes, images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of an int8 .tflite, its input quantized with correct rounding."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model_bytes)
    interpreter.allocate_tensors()
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    codes = np.clip(np.round(images / scale + zero_point), -128, 127).astype(np.int8)
    right = 0
    for image, label in zip(codes, labels, strict=True):
        interpreter.set_tensor(given["index"], image.reshape(given["shape"]))
        interpreter.invoke()
        right += int(interpreter.get_tensor(returned["index"]).argmax() == label)
    return right / len(labels)


def trained(
    make: Callable[[], keras.Model], digits: Digits, steps: int
) -> tuple[keras.Model, float]:
    """Build and train a float model from the one seed; return it with its accuracy."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    model = make()
    return model, fit(model, digits, rate=1e-3, steps=steps)


def build(name: str, make: Callable[[], keras.Model], digits: Digits, steps: int) -> bytes:
    """Train, quantize, fine-tune, save as .h5 and .keras, convert; return the .tflite."""
    model, before = trained(make, digits, steps)
    qat = tfmot.quantization.keras.quantize_model(model)
    tuned = fit(qat, digits, rate=5e-4, steps=QAT_STEPS)
    return save(name, qat, convert(qat), digits, f"float {before:.2%}, QAT {tuned:.2%}")


def build_ptq(name: str, make: Callable[[], keras.Model], digits: Digits, steps: int) -> bytes:
    """The same without QAT: train, quantize after training, as the origin's experiment did."""
    model, before = trained(make, digits, steps)
    model_bytes = convert(model, digits.seen[:200])
    return save(name, model, model_bytes, digits, f"float {before:.2%}")


def let_older_releases_read(path: Path) -> None:
    """Leave out what tf-keras 2.21 says of every input, and what older ones do not know.

    They refuse a file for it, although no input is optional.
    """
    words = ', "optional": false'
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = file.attrs["model_config"].replace(words, "")
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(words.encode(), b"")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def save(name: str, model: keras.Model, model_bytes: bytes, digits: Digits, said: str) -> bytes:
    """Write the three files of a pair and say how accurate they are."""
    model.save(HERE / f"{name}.h5", include_optimizer=False)
    model.save(HERE / f"{name}.keras")
    for suffix in (".h5", ".keras"):
        let_older_releases_read(HERE / f"{name}{suffix}")
    (HERE / f"{name}.tflite").write_bytes(model_bytes)
    lite = accuracy_of(model_bytes, digits.unseen, digits.unseen_labels)
    print(f"{name}: {said}, int8 {lite:.2%} on unseen digits")
    return model_bytes


def break_cnn(good: bytes) -> None:
    """Write one broken file a fault, and what was broken to faults.json."""
    truth = {}
    for fault in plant.CNN_FAULTS:
        path = HERE / f"cnn_{fault.name}.tflite"
        path.write_bytes(plant.apply(good, fault))
        truth[path.name] = {"good": "cnn.tflite", "op": fault.op, "fault": fault.detail}
    (HERE / "faults.json").write_text(json.dumps(truth, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=Path, help="a larger .npz with images and labels")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="build only these models")
    options = parser.parse_args()
    tf.config.experimental.enable_op_determinism()
    digits = load_digits(options.digits or HERE / "digits.npz")
    if options.digits:
        np.savez_compressed(
            HERE / "digits.npz",
            x=digits.unseen[:COMMITTED_DIGITS],
            labels=digits.unseen_labels[:COMMITTED_DIGITS],
        )
    makers = {
        "dense4": lambda n: build(n, lambda: dense(4, use_bias=True), digits, 1500),
        "dense4_nobias": lambda n: build(n, lambda: dense(4, use_bias=False), digits, 1500),
        "dense5_nobias": lambda n: build(n, lambda: dense(5, use_bias=False), digits, 1500),
        "dense5_nobias_ptq": lambda n: build_ptq(n, lambda: dense(5, use_bias=False), digits, 1500),
        "lmu_ptq": lambda n: build_ptq(n, lmu, digits, 3000),
        "cnn": lambda n: break_cnn(build(n, cnn, digits, 4000)),
    }
    for name in options.only or makers:
        makers[name](name)


if __name__ == "__main__":
    main()
