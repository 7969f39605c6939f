"""The conversion gap during training: what it tells, and that the training is as without it."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tfldbg
from tfldbg import callbacks

X = np.random.default_rng(0).normal(size=(48, 6, 6, 2)).astype(np.float32)
Y = (X.mean((1, 2, 3)) > 0).astype(np.float32)


def _model(keras: Any) -> Any:
    """A small model with random layers and layers that behave otherwise in training."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    return model


def _trained(keras: Any, *watching: Any, epochs: int = 3) -> tuple[Any, dict[str, list[float]]]:
    model = _model(keras)
    done = model.fit(X, Y, epochs=epochs, batch_size=8, verbose=0, callbacks=list(watching))
    return model, done.history


def _state(model: Any) -> list[np.ndarray]:
    variables = model.optimizer.variables
    of_optimizer = variables() if callable(variables) else variables
    return [*model.get_weights(), *(np.asarray(v) for v in of_optimizer)]


def test_the_gap_is_told_and_the_training_is_as_without_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import tf_keras

    alone, history = _trained(tf_keras)
    gap = callbacks.ConversionGap(X, every=2, samples=8)
    capsys.readouterr()
    watched, told = _trained(tf_keras, gap)
    assert capsys.readouterr().out == ""
    assert told["loss"] == history["loss"]
    for one, other in zip(_state(alone), _state(watched), strict=True):
        assert np.array_equal(one, other)
    assert [layer.trainable for layer in watched.layers] == [
        layer.trainable for layer in alone.layers
    ]
    (measured,) = gap.history
    assert measured.epoch == 1 and measured.error is None and measured.result is not None
    assert measured.result.evidence.run.samples == 8
    assert told["gap_diverged"][1] == 0.0
    assert 0 < told["gap_local_max_lsb"][1] < 0.75
    assert 0 < told["gap_output_rmse_lsb"][1] < 20
    output = measured.result.op(measured.result.evidence.ops[-1].op)
    assert output.accumulated is not None
    assert told["gap_output_rmse"][1] == output.accumulated.rmse
    for name in callbacks.FIGURES:
        assert [math.isnan(value) for value in told[name]] == [True, False, True]


def test_a_keras_3_model_is_watched_too(capsys: pytest.CaptureFixture[str]) -> None:
    import keras

    gap = callbacks.Keras3ConversionGap(X, target="float16", samples=4, verbose=1)
    _, told = _trained(keras, gap, epochs=1)
    assert gap.history[0].error is None
    assert told["gap_diverged"] == [0.0] and told["gap_output_rmse"][0] < 0.01
    assert math.isnan(told["gap_output_rmse_lsb"][0])
    assert "epoch 1: conversion gap: clean, output RMSE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (tfldbg.KerasError("the converter refuses it"), "the converter refuses it"),
        (OSError("no space left"), "OSError: no space left"),
        (ZeroDivisionError("0"), "a bug in tfldbg: ZeroDivisionError: 0"),
    ],
)
def test_a_failure_is_told_and_the_training_goes_on(
    failure: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tf_keras

    def refuse(*given: Any, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(callbacks, "convert", refuse)
    gap = callbacks.ConversionGap(X)
    with pytest.warns(RuntimeWarning, match=f"epoch 2: conversion gap: not measured: .*{said}"):
        _, told = _trained(tf_keras, gap, epochs=2)
    assert len(told["loss"]) == 2 and all(map(math.isnan, told["gap_diverged"]))
    assert [g.error is not None and said in g.error.message for g in gap.history] == [True, True]


def test_wrong_use_is_told_before_the_training() -> None:
    with pytest.raises(tfldbg.UsageError, match="invalid value 0 for every"):
        callbacks.ConversionGap(X, every=0)
    with pytest.raises(tfldbg.UsageError, match="no type 'int7'"):
        callbacks.ConversionGap(X, target="int7")
    for wrong, said in (
        ({"every": "x"}, "every is 'x'"),
        ({"every": 1.5}, "every is 1.5"),
        ({"samples": 0}, "invalid value 0 for --samples"),
        ({"samples": "8"}, "samples is '8'"),
        ({"runtime": "nope"}, "no runtime 'nope'"),
    ):
        with pytest.raises(tfldbg.UsageError, match=said):
            callbacks.ConversionGap(X, **wrong)
    with pytest.raises(AttributeError, match="no attribute 'Gaps'"):
        _ = callbacks.Gaps


def test_the_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, tfldbg.callbacks, tfldbg.testing\n"
        "assert not {'tensorflow', 'keras', 'tf_keras', 'pandas'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
