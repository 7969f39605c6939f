"""A batch norm that a converter folded into the weights of the operator that reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tfldbg
from benchmarks import shapes, zoo
from sample_models import plant
from sample_models.plant import Change, File
from tests.integration.test_claims import _jittered

Values = NDArray[np.float32]
Layers = Callable[[Any, Any], Any]


class Folded:
    """A model that normalizes its input, and the files of the same model with that folded away.

    TensorFlow's converter of today leaves such a batch norm alone; those of 2020 to 2023, and
    others, fold it. So what is converted is a second model, whose weights are the folded ones.
    """

    def __init__(self, name: str, make: Layers) -> None:
        self.model = self._built(make, normalized=True)
        gamma, beta, mean, variance = self.model.layers[1].get_weights()
        normal = (gamma, beta + 2.0, mean - 1.0, variance + 0.5)
        self.model.layers[1].set_weights(normal)
        factor = normal[0] / np.sqrt(normal[3] + self.model.layers[1].epsilon)
        shift = normal[1] - normal[2] * factor
        folded = self._built(make, normalized=False)
        folded.set_weights(self.model.get_weights()[4:])
        first = next(layer for layer in folded.layers if layer.get_weights())
        kernel, bias = first.get_weights()
        if name == "depthwise":
            axes, scaled = "hwim,i->im", kernel * factor[:, None]
        elif name == "dense":
            factor, shift = (np.tile(v, len(kernel) // 4) for v in (factor, shift))
            axes, scaled = "io,i->o", kernel * factor[:, None]
        else:
            axes, scaled = "hwio,i->o", kernel * factor[:, None]
        self.shift = np.einsum(axes, kernel, shift).reshape(-1)
        first.set_weights([scaled, bias + self.shift])
        self.data = np.random.default_rng(1).normal(size=(8, 12, 8, 4)).astype(np.float32)
        self.files = {form: zoo.convert(folded, form) for form in ("float32", "ptq")}

    @staticmethod
    def _built(make: Layers, *, normalized: bool) -> Any:
        import tf_keras as k

        k.backend.clear_session()
        k.utils.set_random_seed(4)
        given = k.Input((12, 8, 4))
        read = k.layers.BatchNormalization(name="norm")(given) if normalized else given
        return _jittered(k.Model(given, k.layers.Dense(3, name="last")(make(k.layers, read))))

    def trace(self, form: str, change: Change | None = None) -> tfldbg.Trace:
        """Trace a file, with a change of the operator into which the batch norm is folded."""
        file = File(self.files[form])
        if change is not None:
            change(file, self.op(form))
        return tfldbg.trace(file.save(), keras=self.model, data=self.data)

    def op(self, form: str) -> int:
        """Return the operator into which the batch norm is folded."""
        file = File(self.files[form])
        kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        return next(i for i in range(file.count) if file.kind(i) in kinds)


def _convolved(layers: Any, given: Any) -> Any:
    convolved = layers.Conv2D(6, (5, 1), name="first")(given)
    return layers.GlobalMaxPooling2D()(layers.BatchNormalization(name="behind")(convolved))


def _depthwise(layers: Any, given: Any) -> Any:
    convolved = layers.DepthwiseConv2D((5, 1), depth_multiplier=2, name="first")(given)
    return layers.GlobalMaxPooling2D()(convolved)


def _dense(layers: Any, given: Any) -> Any:
    return layers.Dense(5, "relu", name="first")(layers.Flatten()(given))


_MADE = {"convolved": _convolved, "depthwise": _depthwise, "dense": _dense}
FORMS = ("float32", "ptq")


@pytest.fixture(scope="module", params=sorted(_MADE))
def folded(request: pytest.FixtureRequest) -> Folded:
    """One of the models."""
    return Folded(request.param, _MADE[request.param])


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_unexplained(folded: Folded, form: str) -> None:
    result = folded.trace(form)
    assert result.verdict == "clean", result.diagnosis.sentence
    if form == "ptq":
        assert all(o.local.max_lsb <= 0.52 for o in result.evidence.ops if o.local and o.scale)
    found = next(o for o in result.evidence.ops if o.op == folded.op(form))
    assert found.weights is not None
    assert found.weights.bias is not None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "change",
    [plant.zero_bias_channel, plant.clip_weights, plant.negate_strongest_channel],
)
def test_a_constant_that_is_off_is_named(folded: Folded, form: str, change: Change) -> None:
    first = folded.trace(form, change).first_divergence
    assert first is not None
    assert (first.op, first.signal) == (folded.op(form), "weights")


@pytest.fixture(scope="module")
def convolved() -> Folded:
    """The convolution, which has a second batch norm behind it."""
    return Folded("convolved", _convolved)


@pytest.mark.parametrize("form", FORMS)
def test_a_shift_that_was_left_out_is_told(convolved: Folded, form: str) -> None:
    gamma, _, _, variance = convolved.model.get_layer("behind").get_weights()
    gain = gamma / np.sqrt(variance + convolved.model.get_layer("behind").epsilon)
    result = convolved.trace(form, plant.drop_beta(gain * convolved.shift))
    assert result.cause is not None
    assert (result.cause.op, result.cause.code) == (convolved.op(form), "TFL044")
    assert "the shift before it was left out" in result.cause.message


@pytest.mark.parametrize("form", FORMS)
def test_another_padding_is_a_divergence_of_the_shape(convolved: Folded, form: str) -> None:
    """The greatest value of an image may be the same with the rows that padding adds."""

    def padded(file: File, op: int) -> None:
        exchanged = shapes.exchange_padding(file, op)
        assert exchanged is not None
        exchanged[1](file, op)

    first = convolved.trace(form, padded).first_divergence
    assert first is not None
    assert (first.op, first.signal) == (convolved.op(form), "shape")


@pytest.mark.parametrize("form", ["float32", "float16", "ptq"])
def test_the_one_that_expm1_takes_away_is_in_the_bias(form: zoo.Scheme) -> None:
    import tensorflow as tf
    import tf_keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(4)
    given = k.Input((12,))
    made = k.layers.Dense(3)(tf.math.expm1(k.layers.Dense(10)(given)))
    model = _jittered(k.Model(given, made))
    data = np.random.default_rng(1).normal(size=(8, 12)).astype(np.float32)
    file = File(zoo.convert(model, form))
    kinds = [file.kind(i) for i in range(file.count)]
    op, last = kinds.index("EXP"), len(kinds) - 1 - kinds[::-1].index("FULLY_CONNECTED")
    assert last == op + 1  # no SUB between them
    sound = tfldbg.trace(file.save(), keras=model, data=data)
    assert sound.verdict == "clean", sound.diagnosis.sentence
    plant.zero_bias(file, last)
    assert tfldbg.trace(file.save(), keras=model, data=data).origins == (last,)
