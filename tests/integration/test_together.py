"""Operators that are checked together: which of them is named, and that none is without a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tfldbg
from benchmarks import zoo
from benchmarks.zoo import Scheme
from sample_models import plant
from sample_models.plant import Change, File
from tests.integration.test_claims import _jittered

Built = tuple[Any, dict[str, bytes], NDArray[np.float32]]


def _layers(make: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Built:
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input(shape)
    model = _jittered(k.Model(given, make(k.layers, given)))
    data = np.random.default_rng(1).normal(size=(8, *shape)).astype(np.float32)
    files = {"float32": zoo.convert(model, "float32"), "int8": zoo.convert(model, "ptq")}
    return model, files, data


def _normalized(layers: Any, given: Any) -> Any:
    return layers.Dense(3)(layers.LayerNormalization()(layers.Dense(10)(given)))


def _selu(layers: Any, given: Any) -> Any:
    return layers.Dense(3)(layers.Dense(10, activation="selu")(given))


@pytest.fixture(scope="module")
def normalized() -> Built:
    """A layer norm, which is a dozen operators in the file and one or two nodes in Keras."""
    return _layers(_normalized, (12,))


@pytest.fixture(scope="module")
def selu() -> Built:
    """A SELU, which is six operators in the file and one node in Keras."""
    return _layers(_selu, (12,))


FORMS = ("float32", "int8")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["normalized", "selu"])
def test_none_is_named_without_a_fault(
    name: str, form: str, request: pytest.FixtureRequest
) -> None:
    model, files, data = request.getfixturevalue(name)
    result = tfldbg.trace(files[form], keras=model, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert not [
        o for o in result.evidence.ops if o.activation and o.op not in result.evidence.covered
    ]


def _named(built: Built, form: str, kind: str, change: Change) -> tuple[int | None, int]:
    """Return the operator that is named and the one that was changed: the last of a kind."""
    model, files, data = built
    file = File(files[form])
    op = max(i for i in range(file.count) if file.kind(i) == kind)
    change(file, op)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    first = result.first_divergence
    return (first.op if first else None), op


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("RSQRT", plant.set_kind("SQRT")),
        ("MEAN", plant.set_kind("REDUCE_MAX")),
        ("SQUARED_DIFFERENCE", plant.set_kind("SUB")),
    ],
)
def test_the_exchanged_function_of_a_layer_norm_is_named(
    normalized: Built, form: str, kind: str, change: Change
) -> None:
    named, planted = _named(normalized, form, kind, change)
    assert named == planted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("EXP", plant.set_kind("ABS")),
        ("SUB", plant.negate_constant_input(1)),
        ("SELECT_V2", plant.swap_inputs_at(1, 2)),
        ("SUB", plant.set_activation("RELU")),
    ],
)
def test_what_is_changed_in_a_selu_is_named(
    selu: Built, form: str, kind: str, change: Change
) -> None:
    if kind == "SELECT_V2":
        kind = next(k for k in map(File(selu[1][form]).kind, range(9)) if k.startswith("SELECT"))
    named, planted = _named(selu, form, kind, change)
    assert named == planted


def test_the_finding_says_what_would_be_right(selu: Built) -> None:
    model, files, data = selu
    file = File(files["int8"])
    op = next(i for i in range(file.count) if file.kind(i) == "EXP")
    plant.set_kind("ABS")(file, op)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.cause is not None
    assert result.cause.code == "TFL049"
    assert "EXP instead of ABS" in result.cause.message


def test_operators_of_a_layer_norm_have_an_error_of_their_own(normalized: Built) -> None:
    model, files, data = normalized
    result = tfldbg.trace(files["int8"], keras=model, data=data)
    own = [o for o in result.evidence.ops if o.own]
    assert {"MEAN", "RSQRT"} <= {o.kind for o in own}
    assert all(o.local is not None and o.local.max_lsb is not None for o in own)


def _parts(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    one, two = tf.split(layers.Dense(8)(given), 2, axis=1)
    return layers.Dense(3)(tf.sigmoid(one) + 2.0 * tf.tanh(two))


@pytest.mark.parametrize("named", [True, False])
def test_a_split_whose_outputs_are_swapped_is_named(named: bool) -> None:
    model, files, data = _layers(_parts, (6,))
    file = File(files["float32"])
    split = next(i for i in range(file.count) if file.kind(i) == "SPLIT")
    file.op(split).outputs = list(file.op(split).outputs)[::-1]
    for number in () if named else range(2):
        file.tensor(file.op(split).outputs[number]).name = f"part {number}"
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.origins == (split,)


def _selected(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    one, two, three = (layers.Dense(4)(given) for _ in range(3))
    first = tf.where(one > 0.0, one, two)
    return layers.Dense(3)(tf.where(given[:, :1] > -100.0, three, first))


def test_a_swapped_selection_that_another_hides_is_named() -> None:
    model, files, data = _layers(_selected, (6,))
    assert tfldbg.trace(files["float32"], keras=model, data=data).verdict == "clean"
    file = File(files["float32"])
    op = min(i for i in range(file.count) if file.kind(i).startswith("SELECT"))
    plant.swap_inputs_at(1, 2)(file, op)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.origins == (op,)


def _counted(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    seen = layers.Conv2D(4, 3, name="seen")(layers.Reshape((6, 6, 1))(given))
    return layers.Dense(3)(tf.reduce_sum(tf.cast(tf.not_equal(seen, 0.0), tf.float32), (1, 2)))


def test_a_missing_bias_that_what_follows_hides_is_named() -> None:
    model, files, data = _layers(_counted, (36,))
    assert tfldbg.trace(files["float32"], keras=model, data=data).verdict == "clean"
    file = File(files["float32"])
    op = next(i for i in range(file.count) if file.kind(i) == "CONV_2D")
    plant.zero_bias(file, op)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.first_divergence is not None
    assert (result.first_divergence.op, result.first_divergence.signal) == (op, "weights")


def _seen_by_selu(layers: Any, given: Any) -> Any:
    seen = layers.Conv2D(4, 3)(layers.Reshape((6, 6, 1))(given))
    return layers.Dense(3)(layers.Flatten()(layers.Activation("selu")(seen)))


def _seen_by_einsum(layers: Any, given: Any) -> Any:
    seen = layers.Conv1D(6, 3, padding="same")(layers.Reshape((9, 4))(given))
    mixed = layers.EinsumDense("abc,bd->adc", (4, 6), bias_axes="c")(seen)
    return layers.Dense(3)(layers.Flatten()(mixed))


@pytest.mark.parametrize("make", [_seen_by_selu, _seen_by_einsum])
@pytest.mark.parametrize("form", ["float32", "float16"])
def test_a_missing_bias_is_not_taken_for_one_that_was_moved(
    make: Callable[[Any, Any], Any], form: Scheme
) -> None:
    """The operators after it are matched wrongly at first, and agree no better without it."""
    model, _, data = _layers(make, (36,))
    file = File(zoo.convert(model, form))
    op = next(i for i in range(file.count) if file.kind(i) == "CONV_2D")
    plant.zero_bias(file, op)
    result = tfldbg.trace(file.save(), keras=model, data=data)
    assert result.origins == (op,)
    assert result.cause is not None
    assert "bias" in result.cause.message


def _behind_dropout(layers: Any, given: Any) -> Any:
    return layers.Dense(3)(layers.Dropout(0.3)(layers.Dense(8)(given)))


@pytest.mark.parametrize("form", FORMS)
def test_a_bias_that_was_moved_and_then_lost_is_missing_where_it_was_moved_to(form: str) -> None:
    """The converter moves the first bias through the second product in float."""
    model, files, data = _layers(_behind_dropout, (6,))
    assert tfldbg.trace(files[form], keras=model, data=data).verdict == "clean"
    file = File(files[form])
    op = max(i for i in range(file.count) if file.kind(i) == "FULLY_CONNECTED")
    plant.zero_bias(file, op)
    assert tfldbg.trace(file.save(), keras=model, data=data).origins == (op,)


def _celu(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    wide = layers.Dense(10)(given)
    return layers.Dense(3)(tf.maximum(wide, 0.0) + tf.math.expm1(tf.minimum(wide, 0.0)))


def test_two_halves_of_one_product_are_right() -> None:
    """The converter computes it once for each half, and each fits only its half of the range."""
    model, files, data = _layers(_celu, (6,))
    for content in files.values():
        result = tfldbg.trace(content, keras=model, data=data)
        assert result.verdict == "clean", result.diagnosis.sentence


def test_a_gate_that_is_multiplied_by_zeros_is_named() -> None:
    """An LSTM forgets nothing in its first step, whatever the function of the gate."""

    def made(layers: Any, given: Any) -> Any:
        steps = layers.Reshape((3, 4))(given)
        return layers.Dense(3)(layers.LSTM(5, unroll=True)(steps))

    model, files, data = _layers(made, (12,))
    assert tfldbg.trace(files["float32"], keras=model, data=data).verdict == "clean"
    file = File(files["float32"])
    gates = [i for i in range(file.count) if file.kind(i) == "LOGISTIC"][:3]
    for op in gates:
        file = File(files["float32"])
        plant.set_kind("TANH")(file, op)
        result = tfldbg.trace(file.save(), keras=model, data=data)
        assert result.origins[0] == op


def _rounded(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    wide = layers.Dense(5)(given)
    return layers.Dense(3)(tf.where(wide < 0.0, tf.math.ceil(wide), tf.floor(wide)))


def test_a_function_that_became_its_neighbour_is_named() -> None:
    model, files, data = _layers(_rounded, (6,))
    assert tfldbg.trace(files["float32"], keras=model, data=data).verdict == "clean"
    file = File(files["float32"])
    op = next(i for i in range(file.count) if file.kind(i) == "CEIL")
    plant.set_kind("FLOOR")(file, op)
    assert tfldbg.trace(file.save(), keras=model, data=data).origins == (op,)


def _numbered(layers: Any, given: Any) -> Any:
    import tensorflow as tf

    wide = layers.Dense(5)(given)
    rows = tf.range(tf.shape(wide)[0]) * 5
    return layers.Dense(3)(wide + tf.cast(rows, tf.float32)[:, None] + tf.reduce_max(wide))


def test_a_model_in_which_samples_meet_is_computed_one_at_a_time() -> None:
    model, files, data = _layers(_numbered, (6,))
    result = tfldbg.trace(files["float32"], keras=model, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert "unchecked" not in {
        s
        for o, s in zip(result.evidence.ops, result.diagnosis.statuses, strict=True)
        if o.activation
    }


def _attention(layers: Any, given: Any) -> Any:
    attended = layers.MultiHeadAttention(2, 3, use_bias=False)(given, given)
    return layers.Dense(3)(layers.Flatten()(attended))


@pytest.fixture(scope="module")
def attention() -> Built:
    """An attention layer of two heads."""
    return _layers(_attention, (10, 6))


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_of_an_attention_layer_are_compared(attention: Built, form: str) -> None:
    model, files, data = attention
    result = tfldbg.trace(files[form], keras=model, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
    weighted = [o for o in result.evidence.ops if o.kind == "FULLY_CONNECTED"]
    assert len(weighted) == 5
    assert all(o.weights is not None and not o.weights.differ for o in weighted)
    for op in (o.op for o in weighted[:4]):
        broken = File(files[form])
        plant.clip_weights(broken, op)
        first = tfldbg.trace(broken.save(), keras=model, data=data).first_divergence
        assert first is not None
        assert (first.op, first.signal) == (op, "weights")


@pytest.mark.parametrize("form", FORMS)
def test_another_order_of_axes_of_the_scores_of_an_attention_layer_is_named(
    attention: Built, form: str
) -> None:
    """The product before it is named for the same node of the reference."""
    model, files, data = attention
    file = File(files[form])
    transposes = (i for i in range(file.count) if file.kind(i) == "TRANSPOSE")
    op = next(i for i in transposes if list(file.output(i).shape[-2:]) == [10, 10])
    plant.swap_permutation(2, 3)(file, op)
    first = tfldbg.trace(file.save(), keras=model, data=data).first_divergence
    assert first is not None
    assert first.op == op
