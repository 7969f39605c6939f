"""Keras models to .tflite: every type, calibrated or with trained ranges, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

import tfldbg
from tfldbg import quant
from tfldbg.errors import DataError, KerasError, UsageError
from tfldbg.graph.load import load_graph
from tfldbg.options.convert import Target
from tfldbg.reference.conversion import (
    Convertible,
    Examples,
    convert,
    float_operators,
    open_source,
)
from tfldbg.reference.observers import recalibrate


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfldbg", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def digits(samples: Path) -> np.ndarray:
    with np.load(samples / "digits.npz") as archive:
        return archive["x"][:40].astype(np.float32)


def test_a_qat_model_becomes_the_file_that_was_made_from_it(samples: Path, tmp_path: Path) -> None:
    keras, made = samples / "cnn.h5", tmp_path / "new.tflite"
    done = command("convert", keras, "-o", made)
    assert done.returncode == 0, done.stderr
    assert f"int8, {made.stat().st_size:,} bytes, 12 operators; ranges as trained" in done.stdout
    assert f"next: tfldbg trace {made} --keras {keras}" in done.stdout
    assert _parameters(made.read_bytes()) == _parameters((samples / "cnn.tflite").read_bytes())


@pytest.mark.parametrize("name", ["dense4.keras", "dense4_nobias.h5"])
def test_with_and_without_bias(name: str, samples: Path) -> None:
    content, calibrated = convert(open_source(samples / name), Target(), None)
    assert not calibrated
    good = (samples / name).with_suffix(".tflite").read_bytes()
    assert _parameters(content) == _parameters(good)
    result = tfldbg.trace(content, keras=samples / name, data=samples / "digits.npz", samples=8)
    assert result.verdict == "clean", result.diagnosis.sentence


def _parameters(content: bytes) -> list[tuple[str, Any, Any]]:
    """Kind, scale and zero point of what each operator writes."""
    main = load_graph(content, "converted").main
    written = [(op.kind, main.tensors[op.outputs[0]]) for op in main.operators]
    return [(kind, tensor.lsb, tensor.zero_point) for kind, tensor in written]


@pytest.fixture(scope="module")
def floating(samples: Path) -> Convertible:
    return open_source(samples / "dense5_nobias_ptq.h5")


@pytest.mark.parametrize(
    ("target", "outside", "scales"),
    [
        (Target("int8"), "INT8", {10}),
        (Target("int8", float_io=True), "FLOAT32", {10}),
        (Target("int8", per_tensor=True), "INT8", {1}),
        (Target("uint8"), "UINT8", {10}),
        (Target("int16x8"), "INT16", {10}),
        (Target("dynamic"), "FLOAT32", {10}),
        (Target("float16"), "FLOAT32", set()),
        (Target("float32"), "FLOAT32", set()),
    ],
    ids=lambda given: "-".join(map(str, vars_of(given))) if isinstance(given, Target) else None,
)
def test_a_float_model_becomes_every_type(
    target: Target, outside: str, scales: set[int], floating: Convertible, digits: np.ndarray
) -> None:
    content, calibrated = convert(floating, target, lambda: ([x[None]] for x in digits))
    assert calibrated == target.integer
    main = load_graph(content, "new").main
    assert {main.tensors[i].type for i in (*main.inputs, *main.outputs)} == {outside}
    assert (not float_operators(content)) == target.integer
    weights = [t.quant for t in main.tensors if t.has_data and t.type == "INT8" and t.quant]
    assert {quantized.scale.size for quantized in weights} == scales
    result = tfldbg.trace(content, keras=floating.model, data=digits, samples=8)
    assert result.verdict == "clean", result.diagnosis.sentence


def vars_of(target: Target) -> list[str]:
    flags = [name for name in ("per_tensor", "float_io") if getattr(target, name)]
    return [target.type, *flags]


def test_a_float_model_without_data_is_refused(floating: Convertible) -> None:
    with pytest.raises(UsageError, match="is a float model") as caught:
        convert(floating, Target("uint8"), None)
    assert caught.value.hint is not None and "--data random" in caught.value.hint


def test_random_data_is_asked_for_and_said(samples: Path, tmp_path: Path) -> None:
    keras, made = samples / "dense5_nobias_ptq.h5", tmp_path / "new.tflite"
    done = command("convert", keras, "-o", made, "--data", "random", "--samples", 9, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert "calibrated on 9 random samples (seed 3)" in done.stdout
    assert "do not suit real data" in done.stdout
    assert "--data" not in done.stdout.partition("next:")[2]


@pytest.mark.parametrize(
    "target", [Target("int16x8"), Target("float16"), Target("int8", per_tensor=True)]
)
def test_a_qat_model_becomes_nothing_that_its_ranges_do_not_fit(
    target: Target, samples: Path
) -> None:
    with pytest.raises(UsageError, match="fix 8-bit ranges"):
        convert(open_source(samples / "dense4.h5"), target, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models: recurrent ones, one partly quantized, one with an operator for floats only."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as k

    folder = tmp_path_factory.mktemp("convert")
    k.utils.set_random_seed(3)
    n, annotate = k.layers, tfmot.quantization.keras.quantize_annotate_layer
    for name, layer in (("lstm", n.LSTM(4)), ("gru", n.GRU(4))):
        steps = k.Input((3, 5), name="steps")
        k.Model(steps, n.Dense(4)(layer(steps))).save(folder / f"{name}.h5")
    image = k.Input((8, 8, 3), name="image")
    x = annotate(n.Conv2D(4, 3))(image)
    x = n.Flatten()(n.Conv2D(4, 3, activation="relu")(x))
    partial = tfmot.quantization.keras.quantize_apply(k.Model(image, annotate(n.Dense(5))(x)))
    partial.save(folder / "partial.h5", include_optimizer=False)
    vector = k.Input((8,), name="vector")
    summed = n.Lambda(_running_sum)(n.Dense(8)(vector))
    k.Model(vector, n.Dense(4)(summed)).save(folder / "cumsum.h5")
    return folder


def _running_sum(given: Any) -> Any:
    import tensorflow as tf

    return tf.cumsum(given, axis=-1)


def _examples(*shape: int) -> Examples:
    generator = np.random.default_rng(0)
    drawn = generator.uniform(0, 1, (12, 1, *shape)).astype(np.float32)
    return lambda: ([sample] for sample in drawn)


def test_a_fused_lstm_gets_the_fixed_batch_that_it_needs(folder: Path) -> None:
    source = open_source(folder / "lstm.h5")
    content, _ = convert(source, Target(), _examples(3, 5))
    kinds = [op.kind for op in load_graph(content, "lstm").main.operators]
    assert kinds[0] == "UNIDIRECTIONAL_SEQUENCE_LSTM"
    result = tfldbg.trace(content, keras=source.model, samples=8)
    assert result.verdict == "clean", result.diagnosis.sentence


def test_a_crash_of_the_converter_is_an_error_and_leaves_what_was_there(
    folder: Path, tmp_path: Path
) -> None:
    made = tmp_path / "gru.tflite"
    made.write_bytes(b"what was there before")
    done = command("convert", folder / "gru.h5", "-o", made, "--data", "random", "--samples", 4)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "converter crashed" in done.stderr and "unroll=True" in done.stderr
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"what was there before"]


def test_an_operator_without_an_integer_form_is_named(folder: Path) -> None:
    with pytest.raises(KerasError, match="Lambda"):
        open_source(folder / "cumsum.h5")
    source = open_source(folder / "cumsum.h5", unsafe=True)
    with pytest.raises(KerasError, match=r"operator 2 CUMSUM .* would stay float"):
        convert(source, Target(), _examples(8))


def test_what_a_qat_model_has_no_range_for_is_calibrated(folder: Path) -> None:
    source, given = open_source(folder / "partial.h5"), _examples(8, 8, 3)
    with pytest.raises(KerasError, match=r"CONV_2D .* would stay float") as caught:
        convert(source, Target(), None)
    assert caught.value.hint is not None and "--data" in caught.value.hint
    recalibrate(source.model, given())
    content, calibrated = convert(source, Target(), given)
    assert calibrated and not float_operators(content)
    data = np.concatenate([sample[0] for sample in given()])
    result = tfldbg.trace(content, keras=source.model, data=data, samples=8)
    assert result.verdict == "clean", result.diagnosis.sentence


def test_nothing_that_is_read_is_written_over(samples: Path, tmp_path: Path) -> None:
    keras, data = tmp_path / "model.h5", tmp_path / "data.npz"
    keras.write_bytes((samples / "dense4.h5").read_bytes())
    data.write_bytes((samples / "digits.npz").read_bytes())
    made = tmp_path / "new.tflite"
    with pytest.raises(UsageError, match="--output"):
        tfldbg.convert(keras, keras)
    with pytest.raises(UsageError, match="--output"):
        tfldbg.convert(keras, data, data=data)
    again: dict[str, Any] = {"data": data, "calibrate": "all-values"}
    with pytest.raises(UsageError, match="--save-keras"):
        tfldbg.convert(keras, made, save_keras=keras, **again)
    with pytest.raises(UsageError, match="both name"):
        tfldbg.convert(keras, tmp_path / "x.h5", save_keras=tmp_path / "x.h5", **again)
    assert keras.read_bytes() == (samples / "dense4.h5").read_bytes()
    assert data.read_bytes() == (samples / "digits.npz").read_bytes()


def test_options_that_contradict_each_other(samples: Path, tmp_path: Path) -> None:
    keras, made = samples / "dense4.h5", tmp_path / "new.tflite"
    for message, given in (
        ("needs data, but none is given", {"calibrate": "all-values"}),
        ("no calibration 'mean'", {"calibrate": "mean", "data": "random"}),
        ("nothing is recalibrated", {"save_keras": tmp_path / "x.h5"}),
    ):
        with pytest.raises(UsageError, match=message):
            tfldbg.convert(keras, made, **given)
    with pytest.raises(UsageError, match="no type 'int4'"):
        Target("int4")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, np.ndarray]:
    """A QAT model whose observers never saw data, the float model it was made from, and data."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as k

    k.utils.set_random_seed(5)
    n = k.layers
    image = k.Input((8, 8, 3), name="image")
    x = n.Conv2D(6, 3, use_bias=False, name="conv")(image)
    x = n.ReLU(name="relu")(n.BatchNormalization(name="norm")(x))
    x = n.Flatten(name="flat")(n.Conv2D(6, 1, name="one")(x))
    model = k.Model(image, n.Dense(5, name="dense")(x))
    path = tmp_path_factory.mktemp("stale") / "stale.h5"
    tfmot.quantization.keras.quantize_model(model).save(path, include_optimizer=False)
    data = np.random.default_rng(1).normal(0.3, 1, (50, 8, 8, 3)).astype(np.float32)
    return path, model, data


def test_recalibrated_ranges_are_the_extremes_of_the_float_activations(
    stale: tuple[Path, Any, np.ndarray], tmp_path: Path
) -> None:
    import tf_keras as k

    path, model, data = stale
    made, saved = tmp_path / "new.tflite", tmp_path / "fresh.h5"
    converted = tfldbg.convert(path, made, data=data, calibrate="all-values", save_keras=saved)
    layers = {
        "quant_relu/output": "relu",
        "quant_one/post_activation": "one",
        "quant_dense/post_activation": "dense",
    }
    first, *others = converted.ranges
    assert "quantize_layer" in first.name
    np.testing.assert_allclose(first.after, (data.min(), data.max()), rtol=1e-7)
    assert [r.name for r in others] == list(layers)
    watched = [model.get_layer(name).output for name in layers.values()]
    values = k.Model(model.input, watched)(data)
    for found, activation in zip(others, values, strict=True):
        extremes = min(0.0, np.min(activation)), max(0.0, np.max(activation))
        # Batches of another size may sum in another order.
        np.testing.assert_allclose(found.after, extremes, rtol=1e-5, err_msg=found.name)
        assert found.before != found.after
    result = tfldbg.trace(made, keras=saved, data=data, samples=16)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert tfldbg.trace(made, keras=path, data=data, samples=4).verdict == "diverged"


def test_recalibrated_ranges_are_those_that_the_converter_calibrates(
    stale: tuple[Path, Any, np.ndarray], tmp_path: Path
) -> None:
    path, model, data = stale
    source, after = open_source(path), tmp_path / "after.tflite"
    recalibrate(source.model, [[data[:20]], [data[20:]]])
    again, _ = convert(source, Target(), None)
    tfldbg.convert(model, after, data=data)
    for mine, theirs in zip(_parameters(again), _parameters(after.read_bytes()), strict=True):
        assert mine[0] == theirs[0]
        if mine[1] is not None:
            # The converter folds the batch norm before it calibrates: another order of rounding.
            np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-5)
            assert mine[2] == theirs[2]


def test_recalibration_leaves_weights_alone(samples: Path, digits: np.ndarray) -> None:
    model = open_source(samples / "dense4_nobias.h5").model
    before = {w.name: w.numpy() for w in model.weights}
    ranges = recalibrate(model, [[digits]])
    changed = {w.name for w in model.weights if not np.array_equal(before[w.name], w.numpy())}
    moved = {f"{r.name}_{end}:0" for r in ranges for end in ("min", "max") if r.moved}
    assert len(ranges) == 5 and changed and changed <= moved
    assert not any("kernel" in name for name in changed)


def test_data_of_zeros_leaves_a_range_as_it_was(samples: Path) -> None:
    model = open_source(samples / "dense4_nobias.h5").model
    ranges = recalibrate(model, [[np.zeros((2, 28, 28), np.float32)]])
    assert all(r.before == r.after for r in ranges)


def test_a_float_model_has_no_ranges_to_replace(floating: Convertible, digits: np.ndarray) -> None:
    with pytest.raises(UsageError, match="has none"):
        recalibrate(floating.model, [[digits]])


def test_keras_3_and_saved_models_with_two_inputs(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(2)
    n = keras.layers
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    model = keras.Model([left, right], n.Dense(3)(n.Concatenate()([n.ReLU()(left), right])))
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "saved", verbose=False)
    generator = np.random.default_rng(0)
    data = {"left": generator.normal(0, 1, (30, 8)), "right": generator.normal(0, 9, (30, 8))}
    with pytest.raises(DataError, match="no array"):
        tfldbg.convert(tmp_path / "saved", tmp_path / "new.tflite", data={"left": data["left"]})
    for source in (tmp_path / "model.keras", tmp_path / "saved"):
        made = tmp_path / "new.tflite"
        tfldbg.convert(source, made, data=data)
        result = tfldbg.trace(made, keras=source, data=data, samples=8)
        assert result.verdict == "clean", result.diagnosis.sentence
        graph = load_graph(made.read_bytes(), "new")
        wide, narrow = (graph.signatures[0].inputs[n] for n in ("right", "left"))
        assert graph.main.tensors[wide].lsb > 5 * graph.main.tensors[narrow].lsb  # type: ignore[operator]


@drawn(st.floats(-50, -0.01), st.floats(0.01, 50), st.booleans())
def test_nudging_is_what_tensorflow_does(low: float, high: float, narrow: bool) -> None:
    import tensorflow as tf

    nudged = quant.nudge(low, high, narrow_range=narrow)
    ends = tf.quantization.fake_quant_with_min_max_vars(
        [-1e6, 1e6], low, high, num_bits=8, narrow_range=narrow
    ).numpy()
    assert ends[0] == pytest.approx(nudged.minimum, rel=1e-5, abs=1e-6)
    assert ends[1] == pytest.approx(nudged.maximum, rel=1e-5, abs=1e-6)
