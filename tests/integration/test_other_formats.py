"""Float, float16, dynamic range and 16x8 files of a Keras 3 model; inputs that need a mapping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from benchmarks import zoo
from sample_models import plant


@pytest.fixture(scope="module")
def keras3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A float Keras 3 model and its conversions."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = image = keras.Input((12, 12, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x)))
    x = layers.SeparableConv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, layers.Conv2D(8, 1)(x)]))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(x))
    path = tmp_path_factory.mktemp("keras3") / "model.keras"
    model.save(path)

    def examples() -> Any:
        generator = np.random.default_rng(0)
        for _ in range(16):
            yield [generator.uniform(0, 1, (1, 12, 12, 3)).astype(np.float32)]

    def convert(change: Callable[[Any], None]) -> bytes:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        change(converter)
        return bytes(converter.convert())

    def dynamic(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    def half(converter: Any) -> None:
        dynamic(converter)
        converter.target_spec.supported_types = [tf.float16]

    def integer(converter: Any) -> None:
        dynamic(converter)
        converter.representative_dataset = examples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]

    def per_tensor(converter: Any) -> None:
        integer(converter)
        converter._experimental_disable_per_channel = True

    def wide(converter: Any) -> None:
        integer(converter)
        name = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
        converter.target_spec.supported_ops = [getattr(tf.lite.OpsSet, name)]

    changes: dict[str, Callable[[Any], None]] = {
        "float32": lambda converter: None,
        "dynamic": dynamic,
        "float16": half,
        "int8": integer,
        "int8_per_tensor": per_tensor,
        "int16x8": wide,
    }
    return path, {name: convert(change) for name, change in changes.items()}


@pytest.fixture(scope="module", params=["reuse", "constant", "grouped"])
def after_training(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes]:
    """Post-training pairs of shapes that once raised false alarms."""
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(3)
    image = tf_keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(8, 3, padding="same", bias_initializer="random_normal")(image)
    if request.param == "reuse":
        x = layers.Multiply()([x, x])
    elif request.param == "constant":
        x = layers.Concatenate()([layers.ReLU()(x + 3.0), layers.Conv2D(4, 1)(x)])
    else:
        x = layers.Conv2D(8, 1)(layers.Conv2D(8, 3, groups=2)(x))
    model = tf_keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    path = tmp_path_factory.mktemp("ptq") / "model.h5"
    model.save(path)
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (16, 1, 8, 8, 4)).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([given] for given in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return path, bytes(converter.convert())


def test_a_pair_quantized_after_training_is_clean(after_training: tuple[Path, bytes]) -> None:
    path, model = after_training
    result = tfldbg.trace(model, keras=path, samples=8)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.to_dict()["coverage"]["unmatched"] == 0


def test_its_zeroed_biases_are_named(after_training: tuple[Path, bytes]) -> None:
    path, model = after_training
    file = plant.File(model)
    op = next(i for i in range(9) if file.kind(i) == "CONV_2D")
    plant.zero_bias(file, op)
    result = tfldbg.trace(file.save(), keras=path, samples=8)
    assert result.origins[:1] == (op,)


FORMATS = ["int8_per_tensor", "float32", "dynamic", "float16", "int8", "int16x8"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_conversion_is_clean(keras3: tuple[Path, dict[str, bytes]], name: str) -> None:
    path, files = keras3
    result = tfldbg.trace(files[name], keras=path, samples=8)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.to_dict()["coverage"]["unmatched"] == 0


@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_conversion_is_clean_by_itself(
    keras3: tuple[Path, dict[str, bytes]], name: str
) -> None:
    result = tfldbg.trace(keras3[1][name], samples=4)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert any(o.local is not None for o in result.evidence.ops)


AGAINST = [
    ("int8", "float32"),
    ("dynamic", "float32"),
    ("float16", "float32"),
    ("int8_per_tensor", "int8"),
    ("int8", "int8_per_tensor"),
    ("int16x8", "float32"),
]


@pytest.mark.parametrize(("name", "good"), AGAINST)
def test_one_conversion_is_clean_against_another(
    keras3: tuple[Path, dict[str, bytes]], name: str, good: str
) -> None:
    files = keras3[1]
    result = tfldbg.trace(files[name], against=files[good], samples=4)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.to_dict()["coverage"]["unmatched"] == 0


@pytest.mark.parametrize(("name", "good"), AGAINST)
def test_an_added_activation_is_named_against_another_conversion(
    keras3: tuple[Path, dict[str, bytes]], name: str, good: str
) -> None:
    files = keras3[1]
    file = plant.File(files[name])
    kinds = [file.kind(i) for i in range(len(file.subgraph.operators))]
    op = kinds.index("DEPTHWISE_CONV_2D")
    file.op(op).builtinOptions.fusedActivationFunction = 1  # RELU, where there is none
    result = tfldbg.trace(file.save(), against=files[good], samples=4)
    assert result.origins[:1] == (op,), result.diagnosis.sentence


@pytest.mark.parametrize("name", ["float32", "int8", "int16x8"])
def test_a_dropped_activation_is_named(keras3: tuple[Path, dict[str, bytes]], name: str) -> None:
    path, files = keras3
    file = plant.File(files[name])
    op = next(i for i in range(9) if file.kind(i) == "DEPTHWISE_CONV_2D")
    file.op(op).builtinOptions.fusedActivationFunction = 1  # RELU, where there is none
    result = tfldbg.trace(file.save(), keras=path, samples=8)
    assert result.origins[0] == op


def test_float_inputs_of_integer_data_are_real_units(
    keras3: tuple[Path, dict[str, bytes]],
) -> None:
    path, files = keras3
    pixels = np.arange(2 * 12 * 12 * 3, dtype=np.uint8).reshape(2, 12, 12, 3)
    result = tfldbg.trace(files["float32"], keras=path, data=pixels)
    assert result.verdict == "clean"
    assert result.evidence.run.samples == 2


def test_nameless_inputs_of_one_shape_need_a_mapping(pair: Callable[[str], zoo.Pair]) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    made = pair("shared")
    file = plant.File(made.tflite.read_bytes())
    flatbuffer_utils.strip_strings(file.model)
    stripped = file.save()
    with pytest.raises(tfldbg.MatchError, match="could be any of 'a', 'b'") as caught:
        tfldbg.trace(stripped, keras=made.keras, samples=2)
    assert caught.value.hint is not None and "--input 'input" in caught.value.hint
    first, second = file.subgraph.inputs
    mapping = {f"input {first}": "a", f"input {second}": "b"}
    result = tfldbg.trace(stripped, keras=made.keras, samples=2, inputs=mapping)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.to_dict()["coverage"]["unmatched"] == 0
