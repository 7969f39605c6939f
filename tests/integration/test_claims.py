"""A match accuses an operator only where values bear it out, and silence is no cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tfldbg
from benchmarks import shapes, zoo
from sample_models.plant import File
from tfldbg.errors import MatchError

Model = tuple[Any, bytes, NDArray[np.float32]]


def _jittered(model: Any) -> Any:
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def build() -> Callable[..., Model]:
    """Make a float file of a functional model: its Keras model, the file, data."""
    import tf_keras as k

    def made(shape: tuple[int | None, ...], layers: Callable[[Any, Any], Any], *size: int) -> Model:
        k.backend.clear_session()
        given = k.Input(shape)
        model = _jittered(k.Model(given, layers(k.layers, given)))
        data = np.random.default_rng(1).normal(size=(8, *size)).astype(np.float32)
        return model, zoo.convert(model, "float32"), data

    return made


def _split(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    one, two = tf.split(layers.Dense(8, name="wide")(given), 2, axis=1)
    return layers.Dense(3, name="last")(tf.sigmoid(one) + 2.0 * tf.tanh(two))


def test_an_operator_that_reads_another_tensor_is_an_origin(build: Callable[..., Model]) -> None:
    model, file, data = build((6,), _split, 6)
    sound = tfldbg.trace(file, keras=model, data=data)
    assert sound.verdict == "clean", sound.diagnosis.sentence
    swapped = File(file)
    split = next(i for i in range(swapped.count) if swapped.kind(i) == "SPLIT")
    swapped.op(split).outputs = list(swapped.op(split).outputs)[::-1]
    result = tfldbg.trace(swapped.save(), keras=model, data=data)
    readers = {o.op for o in sound.evidence.ops if o.kind in ("LOGISTIC", "TANH")}
    assert set(result.origins) & {split, *readers}


def _free_image(layers: Any, given: Any) -> Any:
    seen = layers.Conv2D(4, 5, 2, activation="relu", name="seen")(given)
    return layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(seen))


def test_a_free_height_and_width(build: Callable[..., Model]) -> None:
    model, file, data = build((None, None, 2), _free_image, 20, 24, 2)
    result = tfldbg.trace(file, keras=model, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert "unchecked" not in result.diagnosis.statuses


def _moved_bias(layers: Any, given: Any) -> Any:
    wide = layers.Dense(8, name="wide")(given)
    return layers.Dense(4, name="narrow")(layers.Dropout(0.1)(wide))


def test_a_moved_bias_accuses_nobody_and_hides_no_other(build: Callable[..., Model]) -> None:
    model, file, data = build((6,), _moved_bias, 6)
    assert tfldbg.trace(file, keras=model, data=data).verdict == "clean"
    for op in (0, 1):
        wrong = File(file)
        weights = wrong.values(op, 1).copy()
        weights[2] *= -1
        wrong.set_values(op, 1, weights)
        assert tfldbg.trace(wrong.save(), keras=model, data=data).origins[:1] == (op,)


def _clipped(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    return tf.clip_by_value(layers.Dense(5, activation="relu", name="bare")(given), 0.0, 3.0)


def test_an_activation_that_is_missing_before_a_clip_is_told_as_hidden(
    build: Callable[..., Model],
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model, file, data = build((6,), _clipped, 6)
    assert tfldbg.trace(file, keras=model, data=data).verdict == "clean"
    bare = File(file)
    bare.op(0).builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    result = tfldbg.trace(bare.save(), keras=model, data=data)
    assert result.origins == (0,)
    assert "later operators hide it on this data" in result.diagnosis.sentence


def _two_cells(layers: Any, given: Any) -> Any:
    """Two branches, each of which applies a ReLU of its own to one tensor, as NASNet's do."""
    seen = layers.Conv2D(4, 3, padding="same", name="seen")(given)
    ends = []
    for branch in ("left", "right"):
        x = layers.ReLU(name=f"{branch}_relu")(seen)
        ends.append(layers.SeparableConv2D(4, 3, padding="same", name=branch)(x))
    pooled = layers.AveragePooling2D(2, name="pool")(seen)
    return layers.Concatenate()([layers.AveragePooling2D(2)(layers.Add()(ends)), pooled])


def test_branches_that_begin_with_the_same_activation(build: Callable[..., Model]) -> None:
    model, file, data = build((8, 8, 3), _two_cells, 8, 8, 3)
    sound = tfldbg.trace(file, keras=model, data=data)
    assert sound.verdict == "clean", sound.diagnosis.sentence
    convolutions = [o for o in sound.evidence.ops if "CONV_2D" in o.kind]
    assert {o.match_rule for o in convolutions} == {"name"}  # no values were needed
    for op in (o.op for o in convolutions):
        wrong = File(file)
        wrong.set_values(op, 1, -wrong.values(op, 1))
        assert tfldbg.trace(wrong.save(), keras=model, data=data).origins[:1] == (op,)


def _small_image(layers: Any, given: Any) -> Any:
    """A squeeze and excitation on an image that is as small as the filter."""
    seen = layers.Conv2D(4, 3, padding="same", activation="sigmoid", name="seen")(given)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(seen)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="gate")(gate)
    return layers.GlobalAveragePooling2D()(layers.Multiply()([seen, gate]))


def test_a_smaller_image_is_no_counterpart(build: Callable[..., Model]) -> None:
    """One value stands where nine should; those that read it can still be computed from it."""
    model, file, data = build((3, 3, 2), _small_image, 3, 3, 2)
    data = np.concatenate([data] * 2)  # more than the few that matches are tried on
    assert tfldbg.trace(file, keras=model, data=data).verdict == "clean"
    wrong = File(file)
    exchanged = shapes.exchange_padding(wrong, 0)
    assert exchanged is not None
    exchanged[1](wrong, 0)
    result = tfldbg.trace(wrong.save(), keras=model, data=data)
    assert result.origins[:1] == (0,), result.diagnosis.sentence
    assert "its output has shape [1, 1, 1, 4]" in result.diagnosis.sentence


@pytest.fixture(scope="module")
def normed() -> Model:
    """An int8 file with a batch norm that no convolution takes in, calibrated on smaller data."""
    import tensorflow as tf
    import tf_keras as k

    k.backend.clear_session()
    given = k.Input((6, 6, 3))
    seen = k.layers.Concatenate()([given, k.layers.Conv2D(4, 3, padding="same")(given)])
    seen = k.layers.ReLU()(k.layers.BatchNormalization(name="norm")(seen))
    model = k.Model(given, k.layers.Conv2D(2, 3, name="last")(seen))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        spread = (0.5, 2.0) if "variance" in variable.name or "gamma" in variable.name else (-1, 1)
        variable.assign(rng.uniform(*spread, variable.shape))
    data = rng.normal(size=(8, 6, 6, 3)).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([0.6 * data[i : i + 1]] for i in range(8))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return model, converter.convert(), data


def test_what_clips_between_operators_that_are_checked_together(normed: Model) -> None:
    model, file, data = normed
    sound = tfldbg.trace(file, keras=model, data=data)
    assert sound.verdict == "clean", sound.diagnosis.sentence
    scaled, added = (o for o in sound.evidence.ops if o.kind in ("MUL", "ADD"))
    assert added.joint == (scaled.op, added.op) and scaled.usage is not None
    assert scaled.usage.highest == 127  # it clips
    for op, change in ((scaled.op, 1.5), (added.op, -1.0)):
        wrong = File(file)
        wrong.set_values(op, 1, np.clip(wrong.values(op, 1) * change, -127, 127))
        result = tfldbg.trace(wrong.save(), keras=model, data=data)
        assert result.origins[:1] == (op,), result.diagnosis.sentence


def _image(layers: Any, given: Any) -> Any:
    seen = layers.Conv2D(3, 3, name="seen")(layers.Reshape((6, 6, 1))(given))
    return layers.Dense(4, name="last")(layers.Flatten()(seen))


def test_the_file_of_another_model_is_never_clean(build: Callable[..., Model]) -> None:
    model, _, _ = build((36,), _image, 36)
    _, file, data = build((36,), _moved_bias, 36)
    try:
        result = tfldbg.trace(file, keras=model, data=data)
    except MatchError:
        return
    assert result.verdict == "diverged"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_channel_of_zeros_has_no_scale() -> None:
    """The converter of 16x8 files gives it 0, and every rounding of the others is still known."""
    import tf_keras as k

    k.backend.clear_session()
    given = k.Input((12, 3))
    model = k.Model(given, k.layers.Conv1D(5, 3, use_bias=False, name="filters")(given))
    model = _jittered(model)
    kernel = model.get_layer("filters").get_weights()[0]
    kernel[..., 2] = 0.0
    model.get_layer("filters").set_weights([kernel])
    data = np.random.default_rng(1).normal(size=(8, 12, 3)).astype(np.float32)
    file = File(zoo.convert(model, "ptq"))
    op = next(i for i in range(file.count) if file.kind(i) == "CONV_2D")
    weights = file.holder(op, 1)
    weights.quantization.scale = np.where([1, 1, 0, 1, 1], weights.quantization.scale, 0.0)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
    (check,) = (o.weights for o in result.evidence.ops if o.weights)
    assert 0 < check.max_steps < 0.51


def test_a_model_without_weights_of_any_size_of_the_file_is_another_model() -> None:
    """Two Dense layers, and a convolution before one: as many activations, inputs and outputs."""
    import tf_keras as k

    def made(*layers: Any) -> Any:
        return _jittered(k.Sequential([k.Input((14, 14)), *layers, k.layers.Dense(10, "sigmoid")]))

    file = zoo.convert(made(k.layers.Flatten(), k.layers.Dense(50, "relu")), "ptq")
    other = made(
        k.layers.Reshape((14, 14, 1)),
        k.layers.Conv2D(6, 3, activation="relu"),
        k.layers.MaxPooling2D(),
        k.layers.Flatten(),
    )
    data = np.random.default_rng(1).normal(size=(4, 14, 14)).astype(np.float32)
    with pytest.raises(MatchError, match=r"no constant of the size of .* weights \(9800, 500\)"):
        tfldbg.trace(file, keras=other, data=data)


def test_a_model_of_the_same_inputs_and_outputs_is_another_model() -> None:
    """Its first convolution has another number of filters, and no padding gives it that."""
    import tf_keras as k

    def made(filters: int, size: int) -> Any:
        k.backend.clear_session()
        given = k.Input((16, 16, 3))
        seen = k.layers.Conv2D(filters, size, 2, activation="relu", name="stem")(given)
        for depth in range(3):
            seen = k.layers.Conv2D(filters, 3, padding="same", name=f"conv{depth}")(seen)
            seen = k.layers.ReLU()(seen)
        seen = k.layers.GlobalAveragePooling2D()(seen)
        return _jittered(k.Model(given, k.layers.Dense(5, name="head")(seen)))

    file = zoo.convert(made(8, 3), "ptq")
    data = np.random.default_rng(1).normal(size=(4, 16, 16, 3)).astype(np.float32)
    with pytest.raises(MatchError, match="this is not the file's Keras model: only"):
        tfldbg.trace(file, keras=made(12, 5), data=data)
