"""Ordinary models that once ended in a false alarm: sound files are clean, and faults are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tfldbg
from benchmarks import zoo
from sample_models import plant
from sample_models.plant import Change, File
from tests.integration.test_claims import _jittered

Values = NDArray[np.float32]


def _data(shape: tuple[int, ...]) -> Values:
    return np.random.default_rng(1).normal(size=(8, *shape)).astype(np.float32)


def _assert_clean(result: tfldbg.Trace) -> None:
    assert result.verdict == "clean", result.diagnosis.sentence
    covered = result.evidence.covered
    assert not [o.op for o in result.evidence.ops if o.activation and o.op not in covered]


def _first(content: bytes, kind: str, change: Change, **trace: Any) -> tuple[int | None, int]:
    """Return the operator that is named and the one that was changed: the first of a kind."""
    file = File(content)
    op = next(i for i in range(file.count) if file.kind(i) == kind)
    change(file, op)
    first = tfldbg.trace(file.save(), **trace).first_divergence
    return (first.op if first else None), op


def _dense_mish(k: Any, given: Any) -> Any:
    made = k.layers.Dense(6, bias_initializer=k.initializers.Constant(-2.0))(given)
    return k.layers.Dense(3)(k.layers.Activation("mish")(made))


def _conv_mish(k: Any, given: Any) -> Any:
    made = k.layers.Conv2D(8, 3, activation="mish")(given)
    return k.layers.Dense(3)(k.layers.GlobalAveragePooling2D()(made))


@pytest.mark.parametrize(("make", "shape"), [(_dense_mish, (12,)), (_conv_mish, (8, 8, 3))])
def test_mish_in_int8_is_three_operators_of_one_node_and_their_neighbours(
    make: Callable[[Any, Any], Any], shape: tuple[int, ...]
) -> None:
    """For values below zero exp(x) is nearly log(1 + exp(x)), and no operator computes both."""
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input(shape)
    model, data = _jittered(k.Model(given, make(k, given))), _data(shape)
    content = zoo.convert(model, "ptq")
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    named, planted = _first(content, "TANH", plant.set_kind("LOGISTIC"), keras=model, data=data)
    assert named == planted


@pytest.mark.parametrize("scheme", ["float32", "float16"])
def test_an_initial_state_that_adds_nothing(scheme: zoo.Scheme) -> None:
    """The file computes the product with it, which is a constant in the reference."""
    import keras as k

    k.backend.clear_session()
    given = k.Input((5, 4), batch_size=1)
    made = k.layers.Dense(2)(k.layers.LSTM(5, unroll=True)(given))
    model, data = _jittered(k.Model(given, made)), _data((5, 4))
    content = zoo.convert(model, scheme)
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    trace = {"keras": model, "data": data}
    named, planted = _first(content, "TANH", plant.set_kind("LOGISTIC"), **trace)
    assert named == planted


def test_a_dilated_convolution_with_a_batch_norm_in_qat() -> None:
    import tensorflow_model_optimization as tfmot
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(3)
    given = k.Input((20, 1, 3), batch_size=1)
    made = k.layers.Conv2D(6, (3, 1), padding="same", activation="relu")(given)
    made = k.layers.Conv2D(8, (3, 1), dilation_rate=(2, 1), padding="same")(made)
    made = k.layers.ReLU()(k.layers.BatchNormalization()(made))
    made = k.layers.Dense(2)(k.layers.Flatten()(made))
    model = tfmot.quantization.keras.quantize_model(_jittered(k.Model(given, made)))
    model.compile("sgd", "mse")
    data = _data((20, 1, 3))
    for sample in data:
        model.train_on_batch(sample[None], np.zeros((1, 2)))
    content = zoo.convert(model, "qat")
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    file = File(content)
    op = [i for i in range(file.count) if file.kind(i) == "CONV_2D"][1]
    plant.zero_bias_channel(file, op)
    first = tfldbg.trace(file.save(), keras=model, data=data).first_divergence
    assert first is not None
    assert first.op == op


@pytest.mark.parametrize("others", [0, 1])
def test_the_mask_of_a_causal_attention_layer_in_float16(others: int, tmp_path: Path) -> None:
    """It is -1e9 in the model, and the least float16 in the file.

    In a process that has made ``others`` before, a model that is loaded has other names for the
    layers that MultiHeadAttention makes.
    """
    import tf_keras as k

    k.backend.clear_session()
    given = k.Input((6, 8))
    made = k.layers.MultiHeadAttention(2, 4)(given, given, use_causal_mask=True)
    made = k.layers.Dense(3)(k.layers.Flatten()(made))
    model, data = _jittered(k.Model(given, made)), _data((6, 8))
    content = zoo.convert(model, "float16")
    model.save(tmp_path / "model.h5")
    k.backend.clear_session()
    assert [k.layers.Softmax().name for _ in range(others)] == ["softmax"] * others
    trace = {"keras": tmp_path / "model.h5", "data": data}
    _assert_clean(tfldbg.trace(content, **trace))
    named, planted = _first(content, "SOFTMAX", plant.set_option("beta", 2.0), **trace)
    assert named == planted


def test_the_end_of_an_int16_table_of_gelu() -> None:
    """The last entry is cut off at the last code, and the line towards it is too flat."""
    from tfldbg.diagnose.tables import table_error
    from tfldbg.graph.model import QuantParams, Tensor

    def tensor(largest: float) -> Tensor:
        params = QuantParams(np.array([largest / 32767], np.float32), np.array([0], np.int64))
        return Tensor(0, "", "INT16", (1,), (1,), params, 0, is_variable=False, has_data=False)

    within, beyond = tensor(3.8), tensor(4.0)
    assert table_error("GELU", within, tensor(3.8), (-32768, 32000)) < 2
    assert table_error("GELU", beyond, tensor(3.8), (-32768, 32767)) > 10


def test_a_bias_that_is_missing_before_a_function_is_not_the_functions() -> None:
    """The convolution's output holds the node before the bias, and no function adds one."""
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input((6, 6, 3), batch_size=1)
    first = k.layers.Conv2D(4, 3, activation="exponential")(given)
    bias = k.initializers.Constant(0.25)
    layer = k.layers.Conv2D(4, 3, kernel_initializer="ones", bias_initializer=bias)
    made = k.layers.Activation("exponential")(layer(first))
    model, data = k.Model(given, k.layers.GlobalAveragePooling2D()(made)), _data((6, 6, 3))
    content = zoo.convert(model, "ptq")
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    file = File(content)
    op = [i for i in range(file.count) if file.kind(i) == "CONV_2D"][1]
    plant.zero_bias(file, op)
    assert tfldbg.trace(file.save(), keras=model, data=data).origins == (op,)


def test_a_constant_that_makes_a_logarithm_nan_is_named() -> None:
    """log(1 + exp(x)) with -1 has no value below zero, and LOG does nothing wrong."""
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input((12,))
    made = k.layers.Activation("softplus")(k.layers.Dense(6)(given))
    model, data = _jittered(k.Model(given, k.layers.Dense(3)(made))), _data((12,))
    content = zoo.convert(model, "float32")
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    file = File(content)
    op = next(i for i in range(file.count) if file.kind(i) == "ADD")
    plant.negate_constant(file, op)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.origins == (op,)
    assert result.diagnosis.statuses[-1] == "inherited"
    assert "hides it" not in result.diagnosis.sentence


def test_the_branches_of_selu_between_float_operators() -> None:
    """Each holds SELU's values on one side of zero, and the last chooses between them in float."""
    import tf_keras as k

    from benchmarks.matrix.build import convert

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input((9, 8, 3))
    made = k.layers.Flatten()(k.layers.Activation("selu")(k.layers.Conv2D(4, 3)(given)))
    model, data = _jittered(k.Model(given, k.layers.Dense(3)(made))), _data((9, 8, 3))
    content = convert(model, "int16x8", data, at_one=False)
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    named, planted = _first(content, "SUB", plant.negate_constant, keras=model, data=data)
    assert named == planted


@pytest.mark.parametrize("planted", ["bias", "parts"])
def test_the_last_operator_before_a_conversion_to_float_is_the_models_output(planted: str) -> None:
    """In int16 files it has a name of its own, which no node has; it is an output all the same."""
    import tensorflow as tf
    import tf_keras as k

    from benchmarks.matrix.build import convert

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input((12,), batch_size=1)
    one, other = tf.split(k.layers.Dense(8)(given), 2, axis=1)
    last = k.layers.Dense(3, bias_initializer=k.initializers.Constant(0.2))
    model, data = k.Model(given, last(one - 0.5 * other)), _data((12,))
    content = convert(model, "int16x8", data, at_one=True)
    _assert_clean(tfldbg.trace(content, keras=model, data=data))
    file = File(content)
    kinds = [file.kind(i) for i in range(file.count)]
    op = kinds.index("SPLIT") if planted == "parts" else file.count - 2
    assert planted == "parts" or kinds[op] == "FULLY_CONNECTED"
    if planted == "parts":
        file.op(op).outputs = file.op(op).outputs[::-1]
    else:
        plant.zero_bias(file, op)
    first = tfldbg.trace(file.save(), keras=model, data=data).first_divergence
    assert first is not None and first.op == op


def test_a_batch_norm_after_a_relu_is_the_next_operators() -> None:
    """The converter folds it forward, and the range of the ReLU hides what it is in int8."""
    import tf_keras as k

    k.backend.clear_session()
    given = seen = k.Input((5,))
    for units in (64, 32):
        seen = k.layers.BatchNormalization()(k.layers.Dense(units, activation="relu")(seen))
    model = k.Model(given, k.layers.Dense(4)(k.layers.Dense(16, activation="relu")(seen)))
    rng = np.random.default_rng(3)
    for variable in model.weights:
        small = "variance" in variable.name
        drawn = rng.uniform(0.001, 0.06, variable.shape) if small else variable.numpy()
        variable.assign(drawn if small else drawn + rng.normal(0, 0.1, variable.shape))
    for form in ("float32", "ptq"):
        content = zoo.convert(model, form)
        _assert_clean(tfldbg.trace(content, keras=model, data=_data((5,))))
        named = _first(content, "FULLY_CONNECTED", plant.zero_bias, keras=model, data=_data((5,)))
        assert named[0] == named[1]


def test_layers_that_share_a_constant_have_its_name_and_are_told_apart(tmp_path: Path) -> None:
    """A decoder's layer has the shapes of an encoder's, and the converter gives both both names."""
    import tensorflow as tf
    import tf_keras as k

    k.backend.clear_session()

    def convolved(filters: int) -> Any:
        return k.layers.Conv1D(filters, 3, padding="same", activation="relu")

    encoder = k.Sequential([k.Input((40, 1)), *map(convolved, (16, 8, 4, 2))])
    decoder = k.Sequential([k.Input((40, 2)), *map(convolved, (4, 8, 16))])
    given = k.Input((40, 1))
    model = _jittered(k.Model(given, k.layers.Conv1D(1, 3)(decoder(encoder(given)))))
    file = File(zoo.convert(model, "float32"))
    convolutions = [i for i in range(file.count) if file.kind(i) == "CONV_2D"]
    names = [f"{layer.name}/{part.name}" for layer in (encoder, decoder) for part in layer.layers]
    for one, other in zip(range(3), (6, 5, 4), strict=True):
        own = f"model/{names[one]}"
        shared = f"model/{names[other]}/Conv1D"
        output = file.output(convolutions[one])
        output.name = f"{own}/Relu;{own}/BiasAdd;{shared};{own}/Conv1D"
    tf.saved_model.save(model, str(tmp_path / "saved"))
    result = tfldbg.trace(file.save(), keras=tmp_path / "saved", data=_data((40, 1)))
    _assert_clean(result)


def test_a_file_of_hdf5_loads_whatever_it_is_called(tmp_path: Path) -> None:
    import tf_keras as k

    k.backend.clear_session()
    model = _jittered(k.Sequential([k.Input((6,)), k.layers.Dense(3)]))
    model.save(tmp_path / "model.h5")
    (tmp_path / "model.h5").rename(tmp_path / "model.keras")
    file = zoo.convert(model, "float32")
    _assert_clean(tfldbg.trace(file, keras=tmp_path / "model.keras", data=_data((6,))))


def test_an_embedding_that_takes_floats_gets_whole_numbers() -> None:
    """Keras casts what an Embedding is given, so that its input may be float."""
    import tf_keras as k

    k.backend.clear_session()
    model = k.Sequential([k.Input((4,)), k.layers.Embedding(7, 3), k.layers.Flatten()])
    result = tfldbg.trace(zoo.convert(_jittered(model), "float32"), keras=model)
    _assert_clean(result)
