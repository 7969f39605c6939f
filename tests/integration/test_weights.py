"""Constants of the file against the reference's: sound ones pass, each planted fault is seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_models import plant
from tfldbg.compare.constants.weights import HALF_STEP, BiasCheck, WeightCheck, check_weights, fold
from tfldbg.compare.segments import cut
from tfldbg.match.matcher import match
from tfldbg.match.ports import pair_inputs
from tfldbg.reference.evaluate import Frozen
from tfldbg.reference.keras import load_frozen
from tfldbg.run.job import load

Checks = dict[int, WeightCheck]
FORMATS = ["float32", "dynamic", "float16", "int8", "int16x8"]
UNITS = {"float32": "float32", "float16": "float16"}
PAIRS = Path(__file__).resolve().parents[3] / "shared" / "models" / "pairs"


def _checks(model: Path | bytes, frozen: Frozen) -> Checks:
    """Check the weights; by operator index."""
    loaded = load(model)
    graph, subgraph = loaded.graph, loaded.subgraph
    inputs = pair_inputs(loaded.specs, frozen, {})
    matching = match(subgraph, loaded.signature, frozen, inputs)
    segments = cut(subgraph, matching, frozen.graph).segments
    found, planned = check_weights(graph, subgraph, frozen, segments, {})
    assert set(planned) == set(segments)
    assert set(fold(subgraph, frozen, segments, {})) <= set(found)
    writers = {out: op.index for op in subgraph.operators for out in op.outputs}
    return {writers[out]: check for out, check in found.items()}


def _bias(check: WeightCheck) -> BiasCheck:
    assert check.bias is not None
    return check.bias


@lru_cache(maxsize=1)
def _sample(path: Path) -> Frozen:
    return load_frozen(path)


@pytest.fixture(scope="module")
def normalized() -> tuple[Frozen, dict[str, bytes]]:
    """A float model whose batch norms hold large terms, and its conversions."""
    import tensorflow as tf
    import tf_keras as k

    k.utils.set_random_seed(5)
    n = k.layers
    x = image = k.Input((8, 8, 3), name="image")
    x = n.BatchNormalization()(n.Conv2D(8, 3, padding="same")(x))
    x = n.ReLU(6.0)(n.BatchNormalization()(n.DepthwiseConv2D(3, padding="same")(x)))
    x = n.MaxPooling2D()(x) * np.linspace(0.5, 2.0, 8).astype(np.float32) - 0.25
    x = n.BatchNormalization()(n.Conv2DTranspose(6, 3, strides=2, padding="same")(x))
    x = n.BatchNormalization()(n.Dense(7)(n.Flatten()(x)))
    model = k.Model(image, n.Dense(4, use_bias=False)(n.ReLU()(x)))
    generator = np.random.default_rng(2)
    for variable in model.weights:
        kind = variable.name.rpartition("/")[2].split(":")[0]
        if kind in ("bias", "beta"):
            variable.assign(generator.normal(0, 2, variable.shape))
        elif kind == "moving_mean":
            variable.assign(generator.normal(0, 30, variable.shape))
        elif kind == "moving_variance":
            variable.assign(10 ** generator.uniform(-3, 3, variable.shape))
    files = {name: bytes(_converted(tf, model, name)) for name in FORMATS}
    return load_frozen(model), files  # type: ignore[arg-type]


def _converted(tf: Any, model: Any, name: str) -> Any:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if name != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if name in ("int8", "int16x8"):
        images = np.random.default_rng(0).uniform(0, 255, (8, 1, 8, 8, 3)).astype(np.float32)
        converter.representative_dataset = lambda: ([given] for given in images)
        wide = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
        kind = "TFLITE_BUILTINS_INT8" if name == "int8" else wide
        converter.target_spec.supported_ops = [getattr(tf.lite.OpsSet, kind)]
    return converter.convert()


@pytest.mark.parametrize("name", FORMATS)
def test_sound_constants_of_every_format_pass(
    normalized: tuple[Frozen, dict[str, bytes]], name: str
) -> None:
    frozen, files = normalized
    kinds = {op.index: op.kind for op in load(files[name]).subgraph.operators}
    checks = _checks(files[name], frozen)
    weighted = [i for i, kind in kinds.items() if "CONV" in kind or kind == "FULLY_CONNECTED"]
    assert set(weighted) <= set(checks)
    for index, check in checks.items():
        assert not check.differ, (kinds[index], check)
        assert check.bias is None or not check.bias.differ, (kinds[index], check.bias)
    assert all(_bias(checks[i]).total for i in weighted)
    units = {checks[i].unit for i in weighted}
    assert UNITS.get(name, "scale") in units


@pytest.mark.parametrize("name", FORMATS)
def test_a_forgotten_term_of_the_batch_norm_is_seen(
    normalized: tuple[Frozen, dict[str, bytes]], name: str
) -> None:
    frozen, files = normalized
    file = plant.File(files[name])
    op = next(i for i in range(20) if file.kind(i) == "DEPTHWISE_CONV_2D")
    good = _checks(files[name], frozen)
    _change_bias(file, op, lambda bias: bias * np.linspace(0, 1, bias.size))
    checks = _checks(file.save(), frozen)
    bias = _bias(checks[op])
    assert bias.differ and bias.wrong == bias.total - 1  # the last one is multiplied by 1
    assert bias.max_real >= abs(bias.found - bias.expected) > 0
    others = [i for i, check in checks.items() if check != good[i]]
    assert others == [op]
    assert not checks[op].differ


def _change_bias(file: plant.File, op: int, change: Callable[[Any], Any]) -> None:
    """Change a bias, behind the DEQUANTIZE that unpacks it where there is one."""
    target, number = op, 2
    for i, other in enumerate(file.subgraph.operators):
        if other.outputs[0] == file.op(op).inputs[2]:
            target, number = i, 0
    tensor = file.tensor(file.op(target).inputs[number])
    raw = bytes(file.model.buffers[tensor.buffer].data)
    dtype = {1: np.float16, **plant.NUMPY}[tensor.type]
    values = np.frombuffer(raw, dtype)
    changed = change(values.astype(np.float64)).astype(dtype)
    file.set_values(target, number, changed)


def test_a_bias_may_be_off_by_half_a_step_and_no_more(samples: Path) -> None:
    frozen = _sample(samples / "cnn.h5")
    original = (samples / "cnn.tflite").read_bytes()
    sound = _bias(_checks(original, frozen)[8])
    assert 0 < sound.max_steps <= HALF_STEP and not sound.differ
    file = plant.File(original)
    codes = file.values(8, 2)
    codes[7] += 1
    file.set_values(8, 2, codes)
    bias = _bias(_checks(file.save(), frozen)[8])
    assert bias.differ and bias.wrong == 1 and bias.worst_channel == 7
    assert 0.5 < bias.max_steps < 1.51
    assert bias.total == codes.size and bias.unit == "scale"


def test_a_missing_bias_counts_as_zeros(samples: Path) -> None:
    frozen = _sample(samples / "cnn.h5")
    file = plant.File((samples / "cnn.tflite").read_bytes())
    zeroed = _bias(_checks((samples / "cnn_zeroed_bias.tflite").read_bytes(), frozen)[8])
    inputs = list(file.op(8).inputs)
    file.op(8).inputs = [*inputs[:2], -1]
    missing = _bias(_checks(file.save(), frozen)[8])
    assert missing.bias == -1 and missing.wrong == missing.total == zeroed.wrong
    assert missing.max_steps == pytest.approx(zeroed.max_steps, rel=1e-5)
    assert missing.found == 0 and missing.expected == zeroed.expected


def test_a_wrong_operand_of_an_elementwise_operator_is_seen(
    normalized: tuple[Frozen, dict[str, bytes]],
) -> None:
    frozen, files = normalized
    file = plant.File(files["int8"])
    good = _checks(files["int8"], frozen)
    elementwise = [i for i in good if file.kind(i) in ("ADD", "SUB", "MUL", "DIV")]
    assert elementwise
    for op in elementwise:
        broken = plant.File(files["int8"])
        codes = broken.values(op, 1)
        broken.set_values(op, 1, codes - 3 * np.sign(codes))
        check = _checks(broken.save(), frozen)[op]
        assert check.differ and check.bias is None
        assert check.max_steps == pytest.approx(3, abs=HALF_STEP)


def test_what_stands_before_the_core_is_not_mistaken_for_wrong_weights() -> None:
    """The converter may fold a scaling into the weights behind it."""
    import tensorflow as tf
    import tf_keras as k

    k.utils.set_random_seed(1)
    n = k.layers
    image = k.Input((6, 6, 2), name="image")
    x = n.Conv2D(3, 3, bias_initializer="ones")(image * 0.25)
    model = k.Model(image, n.Dense(2)(n.Flatten()(x)))
    converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    checks = _checks(bytes(converted), load_frozen(model))  # type: ignore[arg-type]
    assert checks
    assert not any(c.differ or (c.bias and c.bias.differ) for c in checks.values())


@pytest.mark.skipif(not PAIRS.is_dir(), reason="the third-party pairs are not here")
def test_third_party_pairs() -> None:
    for folder in sorted(PAIRS.iterdir()):
        keras = next(folder / n for n in ("model.h5", "saved_model") if (folder / n).exists())
        frozen = load_frozen(keras)
        for file in sorted(folder.glob("*.tflite")):
            checks = _checks(file, frozen)
            wrong = [i for i, c in checks.items() if c.differ or (c.bias and c.bias.differ)]
            if folder.name == "mlperf_kws_dscnn":  # another training
                assert wrong == list(checks)
            else:
                assert checks and wrong == [], file
