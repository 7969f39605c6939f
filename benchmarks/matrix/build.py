"""Build one model and convert it: what a child process does, since converters crash.

Everything lands in a folder, so that a run after a change of the product converts nothing again.
"""

from __future__ import annotations

import functools
import json
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.matrix import planting, third_hand
from benchmarks.matrix.cases import Case, Framework, Setting

FORMATS = ("float32", "dynamic", "float16", "int8", "int16x8", "qat")
BATCHES = ("none", "1", "converted")
"""Of the Keras model: left open; fixed; left open there and fixed when it is converted."""
REFERENCES = ("own", "h5", "keras", "saved_model")
"""``own``: .h5 for tf_keras, .keras for Keras 3."""
TRACED, CALIBRATED = 8, 48
"""Samples."""


@dataclass(frozen=True)
class Place:
    """One Keras model of the matrix and the folder that holds it and what it was converted to."""

    cache: Path
    framework: Framework
    case: str
    batch: str

    @property
    def folder(self) -> Path:
        """What holds all of it."""
        return self.cache / self.framework / self.case / f"batch-{self.batch}"

    def keras(self, reference: str, form: str) -> Path:
        """The Keras file that a format is traced with."""
        if reference == "own":
            reference = "h5" if self.framework == "tf_keras" else "keras"
        stem = "qat" if form == "qat" else "model"
        return self.folder / (f"{stem}.{reference}" if reference != "saved_model" else stem)

    def tflite(self, form: str) -> Path:
        """The converted file."""
        return self.folder / f"{form}.tflite"

    def refusal(self, form: str) -> Path:
        """Where it stands why there is no such file."""
        return self.folder / f"{form}.refused.txt"

    @property
    def data(self) -> Path:
        """What is fed: by input name (8, ...), in real units."""
        return self.folder / "data.npz"

    def about(self, form: str) -> Path:
        """What was measured of the .tflite without the product, and the fault, as JSON."""
        return self.folder / f"{form}.json"

    def planted(self, form: str) -> Path:
        """The .tflite with a fault."""
        return self.folder / f"{form}.planted.tflite"

    def outputs(self, form: str) -> Path:
        """What the live Keras model yields for it: 0, 1, ... (8, ...) float32."""
        return self.folder / f"outputs{'-qat' if form == 'qat' else ''}.npz"


class NotBuiltError(Exception):
    """The framework itself does not build, save or quantize the model."""


def build(place: Place, form: str) -> None:
    """Build, save and convert; what is refused leaves a text that says why."""
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        model = _model(place, form == "qat")
        content = convert(model, form, _calibration(place), at_one=place.batch == "converted")
    except Exception as error:  # builders and converters raise whatever they like
        stage = "built" if isinstance(error, NotBuiltError) else "converted"
        said = str(error) or type(error).__name__
        place.refusal(form).write_text(f"not {stage}: {said}")
    else:
        place.tflite(form).write_bytes(content)


def measure(place: Place, form: str) -> None:
    """Run the sound file by itself, plant a fault that changes a value, and write both down."""
    good = place.tflite(form).read_bytes()
    with np.load(place.data) as archive:
        data = {key: archive[key] for key in archive.files}
    with np.load(place.outputs(form)) as archive:
        expected = [archive[key][: third_hand.SAMPLES] for key in archive.files]
    sound = third_hand.run(good, data)
    sqnr = third_hand.least_sqnr(sound.final, expected)
    seed = seed_of(place) + zlib.crc32(f"{form} {place.batch}".encode())
    found = planting.plant_one(good, form, seed, data, sound)
    about: dict[str, Any] = {"sqnr": sqnr, "fault": None}
    if found is not None:
        fault, kind, broken = found
        place.planted(form).write_bytes(broken)
        what = {"kind": fault.name, "op": fault.op, "op_kind": kind, "detail": fault.detail}
        about["fault"] = what
    place.about(form).write_text(json.dumps(about))


@functools.lru_cache(maxsize=1)
def _model(place: Place, quantized: bool) -> Any:
    """Return the live model; it is saved with its data and outputs when it is new."""
    try:
        model = _built(place)
        if quantized:
            model = _quantized(model, place)
    except Exception as error:
        raise NotBuiltError(f"{type(error).__name__}: {error}") from error
    form = "qat" if quantized else "float32"
    _save(model, place, form)
    given = samples(setting_of(place), TRACED, seed_of(place) + 1)
    names = [tensor.name.split(":")[0] for tensor in model.inputs]
    np.savez(place.data, **dict.fromkeys(names, given))
    found = _run(model, given, place.batch == "1")
    _keep_outputs(place.outputs(form), found)
    return model


def _keep_outputs(path: Path, found: list[np.ndarray]) -> None:
    """Save what the model yields, or hold what was saved earlier against it."""
    if not path.exists():
        np.savez(path, **{str(i): array for i, array in enumerate(found)})
        return
    with np.load(path) as archive:
        same = all(np.allclose(archive[str(i)], a, atol=1e-4) for i, a in enumerate(found))
    if not same:
        raise NotBuiltError(f"not the model that '{path.parent}' was converted from")


def case_of(place: Place) -> Case:
    """Return the case that a place holds."""
    from benchmarks.matrix.coverage import all_cases

    return all_cases()[place.case]


def setting_of(place: Place) -> Setting:
    """Return where what is tested stands."""
    return case_of(place).setting


def seed_of(place: Place) -> int:
    """Return a seed of its own for every model."""
    return zlib.crc32(f"{place.framework} {place.case}".encode()) % 100_000


def framework(name: Framework) -> Any:
    """Return the module of a framework."""
    import keras
    import tf_keras

    return tf_keras if name == "tf_keras" else keras


def _built(place: Place) -> Any:
    k = framework(place.framework)
    k.backend.clear_session()
    k.utils.set_random_seed(seed_of(place))
    case = case_of(place)
    model = whole(k, case, 1 if place.batch == "1" else None)
    if case.group == "layer" and not holds(k, model, case.layer):
        raise ValueError(f"the network of {case.name} holds no {case.layer}")
    randomize(model, np.random.default_rng(seed_of(place)))
    if case.group == "application":
        settle(model, samples(case.setting, 1 if place.batch == "1" else 16, seed_of(place) + 3))
    return model


def holds(k: Any, model: Any, layer: str) -> bool:
    """Whether a model holds a layer of a class, however deep."""
    return any(isinstance(held, getattr(k.layers, layer)) for held in model._flatten_layers())


def whole(k: Any, case: Case, batch: int | None) -> Any:
    """Return the network of a case: an input, a layer before, what is tested, and a Dense."""
    if case.group == "application":
        return case.make(k, batch)
    setting = case.setting
    dtype = "int32" if setting.values == "tokens" else "float32"
    given = k.Input(setting.shape, batch_size=batch, name="given", dtype=dtype)
    x = _before(k.layers, setting)(given)
    x = case.make(k.layers if case.group == "layer" else k, x)
    if isinstance(x, (list, tuple)):
        return k.Model(given, [_after(k.layers, f"after_{i}")(y) for i, y in enumerate(x)])
    return k.Model(given, _after(k.layers, "after")(x) if setting.after else x)


def _before(n: Any, setting: Setting) -> Any:
    if setting.before is None:
        return lambda x: x
    if setting.before == "Dense":
        return n.Dense(10, name="before")
    units = {"Conv1D": 6, "Conv2D": 4, "Conv3D": 4}[setting.before]
    return getattr(n, setting.before)(units, 3, padding="same", name="before")


def _after(n: Any, name: str) -> Any:
    return lambda x: n.Dense(3, name=name)(n.Flatten()(x) if len(x.shape) != 2 else x)


def randomize(model: Any, generator: np.random.Generator) -> None:
    """Give values to what is all zero or all one before training: biases, norms, statistics."""
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind != "f" or values.size == 0 or values.min() != values.max():
            continue
        path = getattr(variable, "path", variable.name)
        if "variance" in path:
            new = generator.uniform(0.5, 2.0, values.shape)
        elif values.flat[0] == 1:
            new = generator.uniform(0.6, 1.4, values.shape)
        else:
            new = generator.normal(0, 0.2, values.shape)
        variable.assign(new.astype(values.dtype))
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):  # what it derived from its weights when it was built
            layer.finalize_state()


def settle(model: Any, given: np.ndarray) -> None:
    """Make the statistics of batch norms those of data: without, deep networks blow up."""
    norms = [layer for layer in model.layers if hasattr(layer, "moving_mean")]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(given, training=True)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum


def samples(setting: Setting, count: int, seed: int) -> np.ndarray:
    """Return data (count, *shape): smooth where it is an image, as images are."""
    generator = np.random.default_rng(seed)
    shape = (count, *setting.shape)
    if setting.values == "tokens":
        return generator.integers(0, 10, shape, dtype=np.int32)
    if setting.values == "positive":
        return generator.uniform(0.2, 2.0, shape).astype(np.float32)
    if setting.values == "normal":
        return generator.normal(0, 1, shape).astype(np.float32)
    rough = generator.uniform(0, 1, shape)
    for axis in range(1, len(shape) - 1):
        rough = (rough + np.roll(rough, 1, axis)) / 2
    low, high = rough.min(), rough.max()
    unit = (rough - low) / (high - low)
    return (np.round(unit * 255) if setting.values == "pixels" else unit).astype(np.float32)


def _calibration(place: Place) -> np.ndarray:
    return samples(setting_of(place), CALIBRATED, seed_of(place) + 2)


def _run(model: Any, given: np.ndarray, one_by_one: bool) -> list[np.ndarray]:
    step = 1 if one_by_one else len(given)
    parts = []
    for i in range(0, len(given), step):
        _reset(model)
        found = model(given[i : i + step], training=False)
        parts.append(found if isinstance(found, (list, tuple)) else [found])
    _reset(model)  # what is converted next would begin with the state that is left
    return [np.concatenate([np.asarray(p[j]) for p in parts]) for j in range(len(parts[0]))]


def _reset(model: Any) -> None:
    for layer in model.layers:
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
            layer.reset_states()
        elif getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()


def _save(model: Any, place: Place, form: str) -> None:
    """Save in every format that the framework offers; only its own must work."""
    own = place.keras("own", form)
    for reference in ("h5", "keras", "saved_model"):
        path = place.keras(reference, form)
        if path.exists():
            continue
        try:
            if reference != "saved_model":
                model.save(path)
            elif place.framework == "keras":
                model.export(path)
            else:
                model.save(path, save_format="tf")
        except Exception as error:
            if path == own:
                raise NotBuiltError(f"cannot be saved: {error}") from error
            path.with_name(f"{path.name}.refused.txt").write_text(str(error))


def _quantized(model: Any, place: Place) -> Any:
    """Make the quantization-aware model, and let its observers see data."""
    if place.framework != "tf_keras":
        raise NotBuiltError("tfmot quantizes tf_keras models alone")
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

    from benchmarks.zoo import fast_observers

    with fast_observers():
        qat = tfmot.quantization.keras.quantize_model(model)
        size = 1 if place.batch == "1" else 16
        step = tf.function(lambda given: qat(given, training=True))
        for seed in range(24):
            step(tf.constant(samples(setting_of(place), size, seed_of(place) + 10 + seed)))
    return qat


def convert(model: Any, form: str, calibration: np.ndarray, *, at_one: bool) -> bytes:
    """Convert as TensorFlow's guide does; what has no integer form stays float where it may."""
    if form != "int8":
        return _converted(model, form, calibration, at_one)
    try:
        return _converted(model, "int8", calibration, at_one)
    except Exception:
        return _converted(model, "int8 where possible", calibration, at_one)


@contextmanager
def _converter(model: Any, at_one: bool) -> Iterator[Any]:
    """Give the converter of a model, or of its function for one sample."""
    import tensorflow as tf

    if not at_one:
        yield tf.lite.TFLiteConverter.from_keras_model(model)
        return
    given = model.inputs[0]
    taken = tf.TensorSpec([1, *given.shape[1:]], given.dtype, given.name.split(":")[0])
    if isinstance(model, tf.Module):
        call = tf.function(lambda x: model(x, training=False)).get_concrete_function(taken)
        yield tf.lite.TFLiteConverter.from_concrete_functions([call], model)
        return
    # The converter does not find the weights of a Keras 3 model behind a function.
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, input_signature=[taken], verbose=False)
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def _converted(model: Any, form: str, calibration: np.ndarray, at_one: bool) -> bytes:
    with _converter(model, at_one) as converter:
        _configure(converter, form, calibration)
        return bytes(converter.convert())


def _configure(converter: Any, form: str, calibration: np.ndarray) -> None:
    import tensorflow as tf

    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form.startswith("int"):
        converter.representative_dataset = functools.partial(_examples, calibration)
    if form == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if form in ("int8", "qat") and calibration.dtype == np.float32:
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    if form == "int16x8":
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            sets.TFLITE_BUILTINS,
        ]


def _examples(calibration: np.ndarray) -> Iterator[list[np.ndarray]]:
    for i in range(len(calibration)):
        yield [calibration[i : i + 1]]
