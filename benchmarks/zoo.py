"""Pairs of a Keras model and its .tflite, of many architectures and every way to quantize.

Nothing is trained: biases and batch norms get random values, ranges and statistics come from random
data.  A fast decay makes QAT's range observers real after a few dozen batches instead of thousands.

    python -m benchmarks.zoo FOLDER [NAME...]    # build pairs into FOLDER
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import networks

CALIBRATION_STEPS = 24
BATCH = 16
ROOT = Path(__file__).resolve().parents[1]
SAMPLE_MODELS = ROOT / "sample_models"

Scheme = Literal["qat", "ptq", "float32", "float16", "dynamic"]
Half = Literal["development", "held_out"]
HALVES: tuple[Half, ...] = ("development", "held_out")


@dataclass(frozen=True)
class Pair:
    """A Keras model, the .tflite converted from it, and data for both."""

    name: str
    keras: Path
    tflite: Path
    data: dict[str, np.ndarray]
    """By input name (4, ...) float32 in real units."""
    good: Path
    """A sound .tflite to compare with: for QAT the same file, otherwise the float conversion."""


@dataclass(frozen=True)
class Entry:
    """One pair of the zoo and how to make it."""

    name: str
    network: str
    """The architecture; it belongs to one half with all its schemes."""
    scheme: Scheme
    half: Half
    make: Callable[[], Any] | None
    """Builds the float Keras model; None for the pairs that lie in ``sample_models``."""
    isolate: bool = False
    """Build in a child process, because the converter may take its process with it."""


def _networks() -> dict[str, tuple[Half, Callable[[], Any], tuple[Scheme, ...]]]:
    app = functools.partial
    dev, out = "development", "held_out"
    return {
        "dense": (dev, app(networks.dense, True), ("qat",)),
        "dense_nobias": (out, app(networks.dense, False), ("qat",)),
        "conv": (dev, networks.conv, ("qat", "ptq", "float32", "float16")),
        "residual": (dev, networks.residual, ("qat", "ptq", "float32", "float16")),
        "inception": (dev, networks.inception, ("qat", "ptq")),
        "ports": (dev, networks.ports, ("qat", "ptq")),
        "shared": (out, networks.shared, ("qat", "ptq")),
        "unet": (out, networks.unet, ("qat", "ptq", "float32", "float16")),
        "reuse": (dev, networks.reuse, ("qat",)),
        "dilated": (out, networks.dilated, ("qat",)),
        "sequence": (dev, networks.sequence, ("qat",)),
        "leaky": (dev, networks.leaky, ("qat", "ptq")),
        "strided": (dev, networks.strided, ("qat",)),
        "resized": (dev, networks.resized, ("qat", "ptq")),
        "mobilenet_v1": (
            dev,
            app(networks.application, "MobileNet", 96, alpha=0.25),
            ("qat",),
        ),
        "mobilenet_v2": (
            out,
            app(networks.application, "MobileNetV2", 96, alpha=0.35),
            ("qat", "ptq"),
        ),
        "resnet50": (out, app(networks.application, "ResNet50", 64), ("qat",)),
        "conv1d": (dev, networks.conv1d, ("ptq",)),
        "lstm": (dev, app(networks.lstm, False), ("ptq",)),
        "arithmetic": (dev, networks.arithmetic, ("ptq",)),
        "constants": (dev, networks.constants, ("ptq", "float32")),
        "lstm_unrolled": (dev, app(networks.lstm, True), ("ptq",)),
        "lmu": (dev, networks.lmu, ("qat", "ptq")),
        "gru_unrolled": (out, app(networks.gru, True), ("ptq",)),
        "gru": (dev, app(networks.gru, False), ("float32", "dynamic")),
        "elman": (out, networks.elman, ("float32", "dynamic")),
        "lstm_sequences": (out, app(networks.lstm, False, sequences=True), ("ptq",)),
        "attention": (out, networks.attention, ("ptq",)),
        "gated": (out, networks.gated, ("ptq",)),
        "segmenter": (out, networks.segmenter, ("ptq",)),
    }


_CRASHING = ("elman", "gru", "lstm")
"""Networks whose conversion has been seen to take the process with it."""

_PREBUILT: tuple[tuple[str, Scheme, Half], ...] = (
    ("cnn", "qat", "development"),
    ("dense4", "qat", "development"),
    ("dense5_nobias", "qat", "held_out"),
    ("dense5_nobias_ptq", "ptq", "held_out"),
)


def _entries() -> Iterator[Entry]:
    for network, (half, make, schemes) in _networks().items():
        for scheme in schemes:
            name = network if scheme == "qat" else f"{network}_{scheme}"
            yield Entry(name, network, scheme, half, make, network.startswith(_CRASHING))
    for name, scheme, half in _PREBUILT:
        yield Entry(name, name.removesuffix("_ptq"), scheme, half, None)


ZOO: dict[str, Entry] = {entry.name: entry for entry in _entries()}


def names(scheme: Scheme | None = None, half: Half | None = None) -> list[str]:
    """Names of the pairs that can be built, of one scheme or half if asked; no sample models."""
    return [
        e.name
        for e in ZOO.values()
        if e.make is not None and scheme in (None, e.scheme) and half in (None, e.half)
    ]


def build(name: str, folder: Path) -> Pair:
    """Build, calibrate and convert one pair, unless the folder holds it already."""
    return _prebuilt(name) if ZOO[name].make is None else build_entry(ZOO[name], folder)


def build_entry(entry: Entry, folder: Path) -> Pair:
    """Build what an entry describes, unless the folder holds it already."""
    paths = _paths(entry, folder)
    if not all(p.exists() for p in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        if entry.isolate:
            command = [sys.executable, "-m", "benchmarks.zoo", str(folder.resolve()), entry.name]
            subprocess.run([*command, "--here"], check=True, cwd=ROOT)  # noqa: S603
        else:
            _build_here(entry, paths)
    with np.load(paths["data"]) as archive:
        data = {key: archive[key] for key in archive.files}
    return Pair(entry.name, paths["keras"], paths["tflite"], data, paths["good"])


def _prebuilt(name: str) -> Pair:
    with np.load(SAMPLE_MODELS / "digits.npz") as archive:
        data = {"x": archive["x"][:4]}
    keras, tflite = SAMPLE_MODELS / f"{name}.h5", SAMPLE_MODELS / f"{name}.tflite"
    return Pair(name, keras, tflite, data, tflite)


def _paths(entry: Entry, folder: Path) -> dict[str, Path]:
    tflite = folder / f"{entry.name}.tflite"
    quantized_later = entry.scheme in ("ptq", "float16", "dynamic")
    return {
        "keras": folder / f"{entry.name}.h5",
        "tflite": tflite,
        "good": folder / f"{entry.name}.float.tflite" if quantized_later else tflite,
        "data": folder / f"{entry.name}.npz",
    }


def _build_here(entry: Entry, paths: dict[str, Path]) -> None:
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(7)
    assert entry.make is not None  # noqa: S101
    model = entry.make()
    _randomize(model)
    model = _quantized_model(model) if entry.scheme == "qat" else _settled(model)
    model.save(paths["keras"], include_optimizer=False)
    paths["tflite"].write_bytes(convert(model, entry.scheme))
    if paths["good"] != paths["tflite"]:
        paths["good"].write_bytes(convert(model, "float32"))
    data = dict(zip(model.input_names, _noise(model, 1000, 4), strict=True))
    np.savez(paths["data"], **data)


def _randomize(model: Any) -> None:
    """Give biases and batch norms values, which training would have done."""
    generator = np.random.default_rng(3)
    for variable in model.weights:
        kind = variable.name.rpartition("/")[2].split(":")[0]
        if kind in ("bias", "beta"):
            variable.assign(generator.normal(0, 0.2, variable.shape))
        elif kind == "gamma":
            variable.assign(generator.uniform(0.6, 1.4, variable.shape))


def _quantized_model(model: Any) -> Any:
    """Make the QAT model and let its observers see data."""
    import tensorflow_model_optimization as tfmot

    with fast_observers():
        qat = tfmot.quantization.keras.quantize_model(model)
        _see_data(qat)
    return qat


def _settled(model: Any) -> Any:
    """Let the batch norms of a float model see data, faster than training would."""
    norms = [layer for layer in model.layers if hasattr(layer, "moving_mean")]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.7
    if norms:
        _see_data(model)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum
    return model


def _see_data(model: Any) -> None:
    import tensorflow as tf

    step = tf.function(lambda given: model(given, training=True))
    for seed in range(CALIBRATION_STEPS):
        given = [tf.constant(x) for x in _noise(model, seed, BATCH)]
        step(given if len(given) > 1 else given[0])


@contextmanager
def fast_observers() -> Iterator[None]:
    """Make the ranges of what is quantized inside real after a few dozen batches."""
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
    """Random images or vectors in 0..1, one array (count, ...) float32 an input."""
    generator = np.random.default_rng(seed)
    return [
        generator.uniform(0, 1, (count, *given.shape[1:])).astype(np.float32)
        for given in model.inputs
    ]


def convert(model: Any, scheme: Scheme) -> bytes:
    """Convert a Keras model: to int8 with int8 inputs and outputs, or to a float file.

    What is exported is the inference function alone.  `from_keras_model` would trace every layer
    once more, which for networks of a hundred layers is most of the time, for the same operators.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        model.export(folder)
        return _convert(tf.lite.TFLiteConverter.from_saved_model(folder), model, scheme)


def _convert(converter: Any, model: Any, scheme: Scheme) -> bytes:
    import tensorflow as tf

    if scheme != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if scheme == "ptq":
        converter.representative_dataset = functools.partial(_examples, model)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if scheme in ("qat", "ptq"):
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _examples(model: Any) -> Iterator[dict[str, np.ndarray]]:
    for seed in range(4):
        batch = dict(zip(model.input_names, _noise(model, seed, BATCH), strict=True))
        for i in range(BATCH):
            yield {name: array[i : i + 1] for name, array in batch.items()}


def main() -> None:
    """Build pairs into a folder."""
    parser = argparse.ArgumentParser(description="Build pairs of the zoo into a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all when none is given")
    parser.add_argument("--here", action="store_true", help="start no child process")
    options = parser.parse_args()
    for name in options.names or ZOO:
        if options.here:
            _build_here(ZOO[name], _paths(ZOO[name], options.folder))
        else:
            build(name, options.folder)
        print(name, flush=True)


if __name__ == "__main__":
    main()
