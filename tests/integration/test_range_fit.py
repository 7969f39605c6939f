"""Real conversions whose ranges do not fit: a padding, a mask; and sound ones beside them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from benchmarks.matrix.build import convert
from tfldbg import session
from tfldbg.options.against import Against
from tfldbg.options.convert import Target
from tfldbg.options.run_on import RunOn
from tfldbg.session.parameters import compare_parameters


@dataclass(frozen=True)
class Made:
    """A float Keras model, and what the converter makes of it."""

    live: Any
    int8: bytes
    float32: bytes
    data: Any


def _made(live: Any, data: dict[str, np.ndarray]) -> Made:
    """Convert a model after calibration on all its data."""
    import tensorflow as tf

    plain = tf.lite.TFLiteConverter.from_keras_model(live)
    float32 = plain.convert()
    converter = tf.lite.TFLiteConverter.from_keras_model(live)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    count = len(next(iter(data.values())))
    converter.representative_dataset = lambda: (
        {name: array[n : n + 1] for name, array in data.items()} for n in range(count)
    )
    return Made(live, converter.convert(), float32, data)


def _padded(sentinel: float) -> Made:
    import tensorflow as tf
    import tf_keras as k

    class Pad(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=sentinel)

    k.utils.set_random_seed(0)
    image = k.Input((8, 8, 2), batch_size=1, name="image")
    x = Pad()(k.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(image))
    x = k.layers.Conv2D(3, 3, name="second")(k.layers.MaxPool2D(3, 2)(x))
    data = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype(np.float32)
    return _made(k.Model(image, k.layers.Flatten()(x)), {"image": data})


@pytest.fixture(scope="module")
def swallowed() -> Made:
    return _padded(-1000.0)


def _first(result: tfldbg.Trace) -> str | None:
    first = result.first_divergence
    return first.kind if first is not None else None


def test_a_padding_that_takes_the_range_differs_from_the_float_model(swallowed: Made) -> None:
    result = tfldbg.trace(swallowed.int8, keras=swallowed.live, data=swallowed.data)
    assert (_first(result), result.cause and result.cause.code) == ("CONV_2D", "TFL054")
    assert "PADV2" in result.diagnosis.sentence
    again = tfldbg.trace(swallowed.int8, against=swallowed.float32, data=swallowed.data)
    assert (_first(again), again.cause and again.cause.code) == ("CONV_2D", "TFL054")


def test_alone_it_is_a_warning_and_random_data_says_nothing(swallowed: Made) -> None:
    alone = tfldbg.trace(swallowed.int8, data=swallowed.data)
    assert alone.verdict == "clean"
    assert "TFL054" in {f.code for f in alone.diagnosis.findings if f.severity == "warning"}
    random = tfldbg.trace(swallowed.int8, keras=swallowed.live, samples=16)
    assert random.verdict == "clean", random.diagnosis.sentence


def test_params_says_the_same(swallowed: Made) -> None:
    ranges = compare_parameters(swallowed.int8, run_on=RunOn(data=swallowed.data)).ranges
    assert ranges is not None
    (found,) = ranges.misfits.values()
    assert found.sentinel == pytest.approx(-1000, rel=0.01) and found.factor > 100


@pytest.mark.parametrize(("sentinel", "warned"), [(-1000.0, True), (-1.0, False)])
def test_convert_warns_of_the_file_that_it_writes(
    sentinel: float, warned: bool, tmp_path: Path
) -> None:
    made = _padded(sentinel)
    saved, data = tmp_path / "saved", tmp_path / "data.npz"
    made.live.export(saved)
    np.savez(data, **made.data)
    arguments = [str(saved), "--data", str(data), "-o", str(tmp_path / "m.tflite")]
    done = subprocess.run(
        [sys.executable, "-m", "tfldbg", "convert", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout
    assert not done.returncode and "calibrated on 16 samples" in said, done.stderr
    assert ("TFL054 warning: operator" in said and "sentinel -99" in said) is warned, said
    assert ("warning" in said) is warned, said


def test_convert_says_nothing_of_ranges_where_there_are_none(
    swallowed: Made, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    swallowed.live.export(saved)
    made = tfldbg.convert(saved, tmp_path / "m.tflite", target=Target("dynamic"))
    assert session.range_findings(made, RunOn(data=swallowed.data)) == ()
    made = tfldbg.convert(saved, tmp_path / "m.tflite", data="random")
    assert session.range_findings(made, RunOn(data="random")) == ()


def test_a_padding_among_the_values_is_sound() -> None:
    made = _padded(-1.0)
    result = tfldbg.trace(made.int8, keras=made.live, data=made.data)
    assert result.verdict == "clean" and not result.diagnosis.findings
    ranges = compare_parameters(made.int8, run_on=RunOn(data=made.data)).ranges
    assert ranges is not None and not ranges.misfits


def _attention(sentinel: float) -> Made:
    import tensorflow as tf
    import tf_keras as k

    class Masked(k.layers.Layer):  # type: ignore[misc]
        def call(self, given: Any) -> Any:
            scores = tf.matmul(given[0], given[0], transpose_b=True)
            return tf.nn.softmax(scores + given[1][:, None, :] * sentinel)

    k.utils.set_random_seed(0)
    x = k.Input((6, 8), batch_size=1, name="x")
    mask = k.Input((6,), batch_size=1, name="mask")
    live = k.Model([x, mask], Masked(name="scores")([k.layers.Dense(8, name="query")(x), mask]))
    rng = np.random.default_rng(0)
    hidden = (np.arange(6) >= rng.integers(2, 7, (32, 1))).astype(np.float32)
    return _made(live, {"x": rng.normal(size=(32, 6, 8)).astype(np.float32), "mask": hidden})


def test_a_mask_that_takes_the_range_of_the_scores() -> None:
    made = _attention(-1e9)
    result = tfldbg.trace(made.int8, keras=made.live, data=made.data)
    assert result.verdict == "diverged"
    codes = {f.code for f in result.diagnosis.findings}
    assert "TFL054" in codes, result.diagnosis.findings
    clamped = _attention(-30.0)
    sound = tfldbg.trace(clamped.int8, keras=clamped.live, data=clamped.data)
    assert sound.verdict == "clean" and not {"TFL053", "TFL054"} & {
        f.code for f in sound.diagnosis.findings
    }


def _causal() -> Made:
    """Scores of which half are replaced by -1e9, in an operator without an integer kernel."""
    import tensorflow as tf
    import tf_keras as k

    class Causal(k.layers.Layer):  # type: ignore[misc]
        def call(self, given: Any) -> Any:
            scores = tf.matmul(given, given, transpose_b=True)
            later = np.triu(np.ones((1, 6, 6), bool), 1)
            return tf.nn.softmax(tf.where(later, tf.fill([1, 6, 6], -1e9), scores))

    k.utils.set_random_seed(0)
    given = k.Input((6, 8), batch_size=1, name="given")
    live = k.Model(given, Causal(name="scores")(k.layers.Dense(8, name="query")(given)))
    data = np.random.default_rng(0).normal(size=(32, 6, 8)).astype(np.float32)
    return _made(live, {"given": data})


@pytest.mark.parametrize("form", ["int8", "int16x8"])
def test_a_mask_that_a_choice_puts_beside_the_scores(form: str) -> None:
    made = _causal()
    file = made.int8
    if form == "int16x8":
        file = convert(made.live, form, made.data["given"], at_one=True)
    result = tfldbg.trace(file, keras=made.live, data=made.data)
    assert result.verdict == "diverged", result.diagnosis.sentence
    first = result.diagnosis.divergences[0]
    # With an integer kernel for the choice its range is that of the scores as well.
    assert result.evidence.ops[first.op].kind in ("BATCH_MATMUL", "QUANTIZE")
    assert "TFL054" in {f.code for f in result.diagnosis.findings if f.op == first.op}


def test_an_input_from_minus_one_to_one_is_at_a_tie() -> None:
    """What stock QAT makes of images prepared as x / 127.5 - 1."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as k

    from benchmarks import zoo

    k.backend.clear_session()  # the names of variables are counted on from test to test
    k.utils.set_random_seed(0)
    given = k.Input((16,), name="given")
    model = k.Model(given, k.layers.Dense(8, name="layer")(given))
    live = tfmot.quantization.keras.quantize_model(model)
    ranges = {"layer_min": -1.0, "layer_max": 1.0, "activation_min": -3.0, "activation_max": 3.1}
    for variable in live.variables:
        name = variable.name.split(":")[0]
        value = next((v for end, v in ranges.items() if name.endswith(end)), None)
        if value is not None:
            variable.assign(value)
    codes = np.random.default_rng(0).integers(0, 256, (32, 16))
    data = (codes / 127.5 - 1).astype(np.float32)
    file = zoo.convert(live, "qat")
    table = compare_parameters(file, against=Against(keras=live))
    assert table.tensors[0].status == "tie" and not table.differing
    result = tfldbg.trace(file, keras=live, data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert "TFL014" in {f.code for f in result.diagnosis.findings}
