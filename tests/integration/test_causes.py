"""Causes planted in real runs: each is named, at its operator, and explains the divergence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import tfldbg
from benchmarks import proposals, zoo
from sample_models import plant
from sample_models.plant import File
from tests.integration import test_as_converted, test_patterns, test_turned
from tests.planted import PLANTED, plants
from tests.sound import assert_sound
from tests.svdf_file import svdf_file
from tests.unit.diagnose import (
    test_rules_file,
    test_rules_ranges,
    test_rules_trace,
)
from tests.unit.diagnose.test_rules_file import Network, params
from tfldbg.diagnose.rules import CATALOG
from tfldbg.reference.capture import open_capture
from tfldbg.reference.keras import load_frozen
from tfldbg.store.evidence_json import evidence_to_json, from_json

ROOT = Path(__file__).resolve().parents[2]
FAULTS = json.loads((ROOT / "sample_models" / "faults.json").read_text())
RESIDUAL = 15
"""What operator 3 of the sample network writes."""


def named(result: tfldbg.Trace, code: str) -> list[int | None]:
    """The operators at which a code is found."""
    return [f.op for f in result.diagnosis.findings if f.code == code]


def cause(result: tfldbg.Trace) -> str | None:
    """The code that explains the first divergence."""
    found = result.to_dict()["first_divergence"]
    assert found is not None, result.diagnosis.sentence
    return str(found["cause"]) if found["cause"] else None


def test_every_code_is_planted() -> None:
    rules = (test_rules_file, test_rules_ranges, test_rules_trace)
    modules = (test_patterns, test_turned, test_as_converted, *rules)
    assert all(modules)  # importing them fills the list
    assert set(PLANTED) == set(CATALOG)


# Models.


@pytest.fixture(scope="module")
def digits(samples: Path) -> np.ndarray:
    with np.load(samples / "digits.npz") as archive:
        return np.asarray(archive["x"][:40])


@pytest.fixture(scope="module")
def cnn_keras(samples: Path) -> Any:
    return load_frozen(samples / "cnn.h5")


@pytest.fixture(scope="module")
def broken(samples: Path) -> Callable[..., bytes]:
    """Change operators of a sample: ``broken("cnn", {8: plant.zero_bias})``."""

    def make(name: str, changes: Mapping[int, plant.Change]) -> bytes:
        file = File((samples / f"{name}.tflite").read_bytes())
        for op, change in changes.items():
            change(file, op)
        return file.save()

    return make


@dataclass(frozen=True)
class Tiny:
    """A QAT model of two outputs whose ranges were set by hand, and its file."""

    live: Any
    tflite: bytes
    data: np.ndarray


STARTED, FRESH, NARROW, TIED = range(4)
"""Its operators: a RELU from -1 to 6, a layer from -6 to 6, one that clips most values, and one
whose range from -2 to 2 has its zero point at a tie."""
RANGES = {"started": (-1, 6), "fresh": (-6, 6), "alpha": (-0.05, 0.05), "zeta": (-2, 2)}


def _set(model: Any, name: str, value: float) -> None:
    (variable,) = [v for v in model.variables if v.name.split(":")[0] == name]
    variable.assign(value)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    import tensorflow_model_optimization as tfmot
    import tf_keras as k

    k.backend.clear_session()  # the names of layers are counted on from test to test
    k.utils.set_random_seed(0)
    image = k.Input((8,), name="given")
    x = k.layers.Dense(16, activation="relu", name="started")(image)
    x = k.layers.Dense(16, name="fresh")(x)
    outputs = [k.layers.Dense(n, name=name)(x) for name, n in (("zeta", 3), ("alpha", 5))]
    model = tfmot.quantization.keras.quantize_model(k.Model(image, outputs, name="tiny"))
    _set(model, "quantize_layer/quantize_layer_max", 1.0)
    for name, ends in RANGES.items():
        for end, value in zip(("min", "max"), ends, strict=True):
            _set(model, f"quant_{name}/post_activation_{end}", value)
            _set(model, f"quant_{name}/kernel_{end}", value / abs(value))
    data = np.random.default_rng(0).uniform(0, 1, (64, 8)).astype(np.float32)
    return Tiny(model, zoo.convert(model, "qat"), data)


# What differs.


@plants("TFL001", "TFL002", "TFL003", "TFL022", "TFL049")
@pytest.mark.parametrize(
    ("name", "code", "explained"),
    [
        ("cnn_zeroed_bias.tflite", "TFL003", "TFL052"),
        ("cnn_negated_channel.tflite", "TFL003", "TFL052"),
        ("cnn_wrong_scale.tflite", "TFL002", "TFL022"),
        ("cnn_dropped_activation.tflite", "TFL001", "TFL049"),
        ("cnn_swapped_concat.tflite", "TFL001", "TFL049"),
    ],
)
def test_the_first_finding_of_a_broken_sample_explains_it(
    samples: Path, digits: np.ndarray, cnn_keras: Any, name: str, code: str, explained: str | None
) -> None:
    result = tfldbg.trace(samples / name, keras=cnn_keras, data=digits, samples=4)
    first = result.diagnosis.findings[0]
    assert first.op == FAULTS[name]["op"] == result.origins[0]
    assert first.code == (explained or code)
    assert cause(result) == explained
    assert FAULTS[name]["op"] in named(result, code)


@plants("TFL004")
def test_nan_from_numbers() -> None:
    network = Network()
    value = given = network.activation(kind="FLOAT32")
    for kind in ("ABS", "NEG", "SQRT"):
        value = network.apply(kind, (value,), network.activation(kind="FLOAT32"))
    result = tfldbg.trace(network.finish([given], [value]), samples=2)
    assert named(result, "TFL004") == [2] and cause(result) is None


@plants("TFL005")
def test_values_beyond_a_range(samples: Path, digits: np.ndarray) -> None:
    negative = tfldbg.trace(samples / "dense5_nobias_ptq.tflite", data=1 - digits, samples=8)
    assert named(negative, "TFL005")[:1] == [1]
    usual = tfldbg.trace(samples / "dense5_nobias_ptq.tflite", data=0.5 * digits, samples=8)
    assert not named(usual, "TFL005")


@plants("TFL009")
def test_another_shape_than_the_file_states() -> None:
    network = Network()
    given = network.activation(4, kind="FLOAT32")
    out = network.apply("ABS", (given,), network.activation(5, kind="FLOAT32"))
    assert named(tfldbg.trace(network.finish([given], [out]), samples=1), "TFL009") == [0]


def test_padding_in_a_file_with_an_open_batch(
    samples: Path, digits: np.ndarray, broken: Callable[..., bytes]
) -> None:
    bad = broken("cnn", {8: plant.set_option("padding", schema.Padding.VALID)})
    result = tfldbg.trace(bad, against=samples / "cnn.tflite", data=digits, samples=4)
    assert [f.code for f in result.diagnosis.findings] == ["TFL049", "TFL009"]
    assert "padding SAME" in result.diagnosis.findings[0].message
    assert tfldbg.trace(bad, data=digits, samples=2).origins == (8,)


@pytest.mark.parametrize("side", ["keras", "against"])
def test_another_kind_in_its_place(
    samples: Path, digits: np.ndarray, cnn_keras: Any, broken: Callable[..., bytes], side: str
) -> None:
    bad = broken("cnn", {7: plant.set_kind("AVERAGE_POOL_2D")})
    reference = {"keras": cnn_keras, "against": samples / "cnn.tflite"}[side]
    result = tfldbg.trace(bad, data=digits, samples=4, **{side: reference})
    assert (cause(result), result.origins) == ("TFL049", (7,))
    assert "MAX" in result.diagnosis.findings[0].message.upper()


# Weights.


@plants("TFL043")
def test_weights_of_another_checkpoint(
    digits: np.ndarray, cnn_keras: Any, broken: Callable[..., bytes]
) -> None:
    bad = broken("cnn", dict.fromkeys((0, 2, 4, 8), _other_weights))
    result = tfldbg.trace(bad, keras=cnn_keras, data=digits, samples=4)
    assert named(result, "TFL043") == [None] and cause(result) == "TFL043"
    few = broken("cnn", dict.fromkeys((0, 2), _other_weights))
    assert not named(tfldbg.trace(few, keras=cnn_keras, data=digits, samples=4), "TFL043")


def test_weights_that_are_all_permuted_are_no_other_checkpoint(
    digits: np.ndarray, cnn_keras: Any, broken: Callable[..., bytes]
) -> None:
    bad = broken("cnn", dict.fromkeys((0, 2, 4, 8), plant.permute_channels))
    result = tfldbg.trace(bad, keras=cnn_keras, data=digits, samples=4)
    assert not named(result, "TFL043") and cause(result) == "TFL052"


def _other_weights(file: File, op: int) -> None:
    codes = file.values(op, 1)
    drawn = np.random.default_rng(op).permutation(codes.reshape(-1))
    file.set_values(op, 1, drawn.reshape(codes.shape))


def test_a_published_pair_of_two_checkpoints(shared_models: Path) -> None:
    folder = shared_models / "pairs" / "mlperf_kws_dscnn"
    result = tfldbg.trace(folder / "model.tflite", keras=folder / "saved_model", samples=2)
    assert cause(result) == "TFL043" and not named(result, "TFL044")


def _without_factor(gains: np.ndarray) -> plant.Change:
    """Undo the factor of a batch norm in the weights and leave the bias as it is."""

    def change(file: File, op: int) -> None:
        weights, bias = file.input(op, 1).quantization, file.input(op, 2).quantization
        weights.scale = (plant.scales(file.input(op, 1)) / gains).astype(np.float32)
        codes = file.values(op, 2) * gains
        bias.scale = (np.asarray(bias.scale) / gains).astype(np.float32)
        file.set_values(op, 2, np.round(codes))

    return change


def _gains(keras: Path, layer: str) -> np.ndarray:
    """The factor of a batch norm: gamma / sqrt(variance + epsilon), (channels,)."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if name.startswith(layer) and isinstance(item, h5py.Dataset):
            found[name.rpartition("/")[2]] = item[()]

    with h5py.File(keras) as file:
        file["model_weights"].visititems(visit)
    return np.asarray(found["gamma:0"] / np.sqrt(found["moving_variance:0"] + 1e-3))


@plants("TFL044")
def test_a_batch_norm_that_was_folded_wrongly(
    samples: Path, digits: np.ndarray, cnn_keras: Any, broken: Callable[..., bytes]
) -> None:
    beta = proposals.read_betas(samples / "cnn.h5")["quant_head_bn"]
    changes = {
        "the beta was left out": plant.drop_beta(beta),
        "the beta was counted twice": plant.drop_beta(-beta),
        "the factor of the batch norm was left out": _without_factor(
            _gains(samples / "cnn.h5", "quant_head_bn")
        ),
    }
    for said, change in changes.items():
        bad = broken("cnn", {8: change})
        result = tfldbg.trace(bad, keras=cnn_keras, data=digits, samples=4)
        assert (cause(result), result.origins) == ("TFL044", (8,)), result.diagnosis.sentence
        assert said in result.diagnosis.findings[0].message


@plants("TFL052")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (plant.negate_channel(3), "its weights: channel 3 is negated"),
        (plant.transpose_weights, "its weights: height and width are exchanged"),
        (plant.zero_bias, "its bias: it is missing"),
        (plant.zero_bias_channel, "its bias: channel"),
    ],
)
def test_constants_that_were_changed_in_one_way(
    digits: np.ndarray,
    cnn_keras: Any,
    broken: Callable[..., bytes],
    change: plant.Change,
    said: str,
) -> None:
    result = tfldbg.trace(broken("cnn", {8: change}), keras=cnn_keras, data=digits, samples=4)
    assert (cause(result), result.origins) == ("TFL052", (8,)), result.diagnosis.sentence
    assert said in result.diagnosis.findings[0].message


# Ranges.


@plants("TFL013")
def test_ranges_from_calibration(
    samples: Path, digits: np.ndarray, broken: Callable[..., bytes]
) -> None:
    scaled = {op: plant.scale_output(1 + 0.03 * op) for op in (1, 2, 3, 4, 5)}
    keras = samples / "dense5_nobias.h5"
    calibrated = broken("dense5_nobias", scaled)
    result = tfldbg.trace(calibrated, keras=keras, data=digits, samples=4)
    assert named(result, "TFL013") == [None] and cause(result) == "TFL013"
    one = broken("dense5_nobias", {2: scaled[2]})
    result = tfldbg.trace(one, keras=keras, data=digits, samples=4)
    assert result.origins == (2,) and not named(result, "TFL013")


@plants("TFL014")
def test_a_zero_point_at_a_tie(tiny: Tiny) -> None:
    """Nothing is planted: fake-quant and the converter round 127.5 to different sides."""
    result = tfldbg.trace(tiny.tflite, keras=tiny.live, data=tiny.data, samples=4)
    assert (result.verdict, named(result, "TFL014")) == ("clean", [TIED])
    (found,) = [f for f in result.diagnosis.findings if f.code == "TFL014"]
    assert found.severity == "warning" and "fraction of a step" in found.suggestion
    assert not tfldbg.gate(result, "TFL014").passed and tfldbg.gate(result, "TFL013").passed
    file = File(tiny.tflite)
    plant.shift_zero_point(3)(file, TIED)  # further away than a tie explains
    result = tfldbg.trace(file.save(), keras=tiny.live, data=tiny.data, samples=4)
    assert result.origins == (TIED,) and not named(result, "TFL014")


@plants("TFL015")
def test_a_range_without_zero(tiny: Tiny) -> None:
    _set(tiny.live, "quant_alpha/post_activation_min", 0.01)
    try:
        result = tfldbg.trace(tiny.tflite, keras=tiny.live, data=tiny.data, samples=4)
    finally:
        _set(tiny.live, "quant_alpha/post_activation_min", RANGES["alpha"][0])
    assert (cause(result), named(result, "TFL015")) == ("TFL015", [NARROW])


@plants("TFL017", "TFL037")
def test_ranges_that_have_not_converged_and_outputs_in_another_order(tiny: Tiny) -> None:
    result = tfldbg.trace(tiny.tflite, keras=tiny.live, data=tiny.data)
    assert result.verdict == "clean", result.diagnosis.sentence
    found = {f.op: f.message for f in result.diagnosis.findings if f.code == "TFL017"}
    assert set(found) == {STARTED, FRESH, NARROW}
    assert "reaches below zero" in found[STARTED]
    assert "still -6 to 6" in found[FRESH]
    assert "are beyond the range" in found[NARROW]
    (order,) = [f for f in result.diagnosis.findings if f.code == "TFL037"]
    assert order.evidence == {"positions": {"0": 1, "1": 0}}
    assert "TFL015" not in {f.code for f in result.diagnosis.findings}


@plants("TFL018")
def test_data_that_leaves_ranges_unused(samples: Path, digits: np.ndarray) -> None:
    faint = tfldbg.trace(samples / "dense5_nobias.tflite", data=0.05 * digits, samples=32)
    (found,) = [f for f in faint.diagnosis.findings if f.code == "TFL018"]
    assert (found.op, found.evidence["ops"]) == (1, [1, 2, 3, 4, 5])
    assert not named(faint, "TFL036")
    usual = tfldbg.trace(samples / "dense5_nobias.tflite", data=digits, samples=32)
    assert not [f for f in usual.diagnosis.findings if f.severity != "info"]


def _joined(narrow: float) -> bytes:
    """Two layers that multiply by 1 and by ``narrow``, joined in one range."""
    network = Network()
    given = network.tensor("INT8", (1, 64), quant=params(1 / 127))
    branches = []
    for factor in (1.0, narrow):
        diagonal = 127 * np.eye(64, dtype=np.int8)
        weights = network.weights(diagonal, factor / 127)
        out = network.tensor("INT8", (1, 64), quant=params(1 / 127))
        branches.append(network.dense(given, weights, -1, out))
    join = network.tensor("INT8", (1, 128), quant=params(1 / 127))
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    network.operator("CONCATENATION", branches, (join,), ("ConcatenationOptions", options))
    return network.finish([given], [join])


@plants("TFL026")
def test_a_concatenation_of_a_wide_and_a_narrow_branch() -> None:
    data = np.random.default_rng(0).uniform(-1, 1, (8, 1, 64)).astype(np.float32)
    assert named(tfldbg.trace(_joined(0.03), data=data), "TFL026") == [2]
    assert not tfldbg.trace(_joined(0.3), data=data).diagnosis.findings
    assert not tfldbg.trace(_joined(0.03), samples=8).diagnosis.findings


@plants("TFL045")
def test_a_fake_quant_that_was_left_out(pair: Callable[[str], zoo.Pair]) -> None:
    made = pair("inception")
    result = tfldbg.trace(made.tflite, keras=made.keras, data=made.data)
    (found,) = [f for f in result.diagnosis.findings if f.code == "TFL045"]
    kinds = [o.kind for o in result.evidence.ops]
    assert result.verdict == "clean" and kinds[found.op or 0] == "CONCATENATION"
    assert not named(tfldbg.trace(made.tflite, data=made.data), "TFL045")


# Functions and options.


@plants("TFL012")
def test_an_exponential_amplifies_a_rounding() -> None:
    network = Network()
    quant = params(0.1)
    given, total = (network.tensor("INT8", (1, 64), quant=quant) for _ in range(2))
    third = network.tensor("INT8", (1,), quant=params(0.001), values=np.array([33], np.int8))
    network.operator("ADD", (given, third), (total,), ("AddOptions", schema.AddOptionsT()))
    top = float(np.exp(12.7))
    out = network.tensor("INT8", (1, 64), quant=params(top / 255, -128))
    network.apply("EXP", (total,), out)
    result = tfldbg.trace(network.finish([given], [out]), samples=8)
    assert named(result, "TFL012") == [1] and result.verdict == "clean"


def _scores(kind: str, classes: int) -> bytes:
    network = Network()
    given, logits = (network.tensor("INT8", (1, classes), quant=params(0.1)) for _ in range(2))
    network.apply("NEG", (given,), logits)
    out = network.tensor("INT8", (1, classes), quant=params(1 / 256, -128))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    options = ("SoftmaxOptions", softmax) if kind == "SOFTMAX" else None
    network.operator(kind, (logits,), (out,), options)
    return network.finish([given], [out])


@plants("TFL028")
@pytest.mark.parametrize(
    ("kind", "classes", "low", "high"), [("SOFTMAX", 1000, -1, 1), ("LOGISTIC", 100, 8, 12)]
)
def test_scores_that_vanish(kind: str, classes: int, low: int, high: int) -> None:
    data = np.random.default_rng(0).uniform(low, high, (4, 1, classes)).astype(np.float32)
    assert named(tfldbg.trace(_scores(kind, classes), data=data), "TFL028") == [1]
    assert not named(tfldbg.trace(_scores(kind, 10), samples=4), "TFL028")


@plants("TFL030")
def test_a_mean_that_rounds_its_zero_point() -> None:
    network = Network()
    given = network.tensor("INT8", (1, 4, 4, 8), quant=params(0.1, -67))
    out = network.tensor("INT8", (1, 1, 1, 8), quant=params(0.1 / 0.8284, -40))
    axes = network.tensor("INT32", (2,), values=np.array([1, 2], np.int32))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    network.operator("MEAN", (given, axes), (out,), ("ReducerOptions", options))
    data = network.finish([given], [out])
    builtin = tfldbg.trace(data, samples=32, runtime="builtin")
    assert named(builtin, "TFL030") == [0] and builtin.verdict == "clean"
    assert not named(tfldbg.trace(data, samples=32), "TFL030")


@plants("TFL038")
def test_values_that_are_right_up_to_a_factor(
    samples: Path, digits: np.ndarray, broken: Callable[..., bytes]
) -> None:
    bad = broken("dense4_nobias", {2: plant.scale_weights(1.2, one_channel=False)})
    good = samples / "dense4_nobias.tflite"
    result = tfldbg.trace(bad, against=good, data=0.5 * digits, samples=16)
    assert (cause(result), named(result, "TFL038")) == ("TFL052", [2])
    (found,) = [f for f in result.diagnosis.findings if f.code == "TFL038"]
    assert found.evidence["gain"] == pytest.approx(1.2, rel=0.01)


@plants("TFL040")
@pytest.mark.parametrize("options", [(True, False), (False, False)])
def test_a_resize_at_other_places(
    pair: Callable[[str], zoo.Pair], options: tuple[bool, bool]
) -> None:
    made = pair("resized")
    file = File(made.tflite.read_bytes())
    (op,) = [i for i in range(file.count) if file.kind(i) == "RESIZE_BILINEAR"]
    plant.set_resize(*options)(file, op)
    result = tfldbg.trace(file.save(), keras=made.keras, samples=2, runtime="builtin")
    assert (cause(result), named(result, "TFL040")) == ("TFL040", [op])
    assert "with alignCorners False and halfPixelCenters True it agrees" in (
        result.diagnosis.findings[0].message
    )


@plants("TFL034")
def test_a_fused_recurrence(pair: Callable[[str], zoo.Pair]) -> None:
    made = pair("lstm_ptq")
    result = tfldbg.trace(made.tflite, keras=made.keras, data=made.data)
    (fused,) = [o.op for o in result.evidence.ops if "LSTM" in o.kind]
    assert result.verdict == "clean" and named(result, "TFL034") == [fused]
    assert_sound(result, made.name)
    assert_sound(tfldbg.trace(made.tflite, data=made.data), made.name)


# Inputs.


@plants("TFL036")
def test_data_on_another_scale(samples: Path, digits: np.ndarray) -> None:
    for factor in (255.0, 1 / 255):
        result = tfldbg.trace(samples / "cnn.tflite", data=factor * digits, samples=4)
        assert named(result, "TFL036") == [0]
        assert "does not suit the range of the file's input" in result.diagnosis.sentence
    assert not named(tfldbg.trace(samples / "cnn.tflite", data=digits, samples=4), "TFL036")


# Recordings.


def _record(model: Path, path: Path, data: np.ndarray) -> Path:
    tfldbg.record(model, path, data=data, samples=len(data), runtime="builtin")
    return path


@pytest.fixture(scope="module")
def recording(samples: Path, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("causes") / "cnn.h5"
    return _record(samples / "cnn.tflite", path, digits[:4])


@plants("TFL035", "TFL050")
def test_an_input_that_was_cast(samples: Path, digits: np.ndarray, tmp_path: Path) -> None:
    faint = digits[:4] * 0.9 + 0.05
    codes = np.trunc(faint * 255 - 128).astype(np.int8)
    path = _record(samples / "cnn.tflite", tmp_path / "cast.h5", codes)
    result = tfldbg.trace(samples / "cnn.tflite", against=path, data=faint)
    assert (cause(result), named(result, "TFL035")) == ("TFL035", [0])
    assert named(result, "TFL050") == [0] and result.origins == (0,)
    assert "cut off instead of rounded" in result.diagnosis.findings[0].message


@plants("TFL011")
def test_kernels_that_round_differently(samples: Path, digits: np.ndarray, recording: Path) -> None:
    runtime = tfldbg.trace(
        samples / "cnn.tflite", data=digits, samples=4, against_runtime="builtin"
    )
    recorded = tfldbg.trace(samples / "cnn.tflite", against=recording)
    for result in (runtime, recorded):
        assert [f.code for f in result.diagnosis.findings] == ["TFL011"]
    same = tfldbg.trace(samples / "cnn.tflite", against=recording, runtime="builtin")
    assert not same.diagnosis.findings


@plants("TFL007", "TFL008")
def test_what_a_recording_lacks(samples: Path, recording: Path, tmp_path: Path) -> None:
    with open_capture(recording) as capture:
        arrays = {t.name: capture.real(t, 0, capture.samples) for t in capture.tensors}
        (residual,) = [t.name for t in capture.tensors if t.index == RESIDUAL]
    arrays[residual][0, 0, 3, 3, 5] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    result = tfldbg.trace(samples / "cnn.tflite", against=tmp_path / "nan.npz")
    assert named(result, "TFL008") == [3] and result.verdict == "clean"
    del arrays[residual]
    np.savez(tmp_path / "less.npz", **arrays)
    result = tfldbg.trace(samples / "cnn.tflite", against=tmp_path / "less.npz")
    (found,) = [f for f in result.diagnosis.findings if f.code == "TFL007"]
    assert found.evidence == {"ops": [3, 4, 5]} and result.verdict == "clean"


def _write(path: Path, tensors: Sequence[Mapping[str, Any]], values: Mapping[int, Any]) -> Path:
    """Write a recording as docs/recording.md shows."""
    with h5py.File(path, "w") as file:
        for tensor in tensors:
            group = file.require_group(f"tensors/{tensor['index']:05d}")
            group.attrs["name"] = tensor["name"]
            if tensor["quantization"][0]:
                group.attrs["scale"], group.attrs["zero_point"] = tensor["quantization"]
            group["values"] = np.stack(values[tensor["index"]])
    return path


@plants("TFL039")
def test_tensors_that_were_read_without_being_preserved(
    samples: Path, digits: np.ndarray, tmp_path: Path
) -> None:
    """What the origin found: ``get_tensor`` of an intermediate tensor returns stale memory."""
    model = samples / "cnn.tflite"
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    device = Interpreter(str(model), experimental_op_resolver_type=kernels)
    device.allocate_tensors()
    file = File(model.read_bytes())
    wanted = {*file.subgraph.inputs, *(i for op in file.subgraph.operators for i in op.outputs)}
    tensors = [t for t in device.get_tensor_details() if t["index"] in wanted]
    values: dict[int, list[np.ndarray]] = {t["index"]: [] for t in tensors}
    for image in digits[:4]:
        codes = np.clip(np.round(image * 255) - 128, -128, 127).astype(np.int8)
        device.set_tensor(int(file.subgraph.inputs[0]), codes.reshape(1, 28, 28, 1))
        device.invoke()
        for index in values:
            values[index].append(device.get_tensor(index))
    values[int(file.subgraph.inputs[0])] = [
        np.clip(np.round(x.reshape(1, 28, 28, 1) * 255) - 128, -128, 127).astype(np.int8)
        for x in digits[:4]
    ]
    path = _write(tmp_path / "stale.h5", tensors, values)
    result = tfldbg.trace(model, against=path, runtime="builtin")
    assert (cause(result), result.diagnosis.findings[0].op) == ("TFL039", result.origins[0])


@pytest.fixture(scope="module")
def streaming() -> bytes:
    return svdf_file()


def _stream(model: bytes, path: Path, data: np.ndarray, reset: bool) -> Path:
    device = Interpreter(model_content=model)
    device.allocate_tensors()
    tensors = device.get_input_details() + device.get_output_details()
    values: dict[int, list[np.ndarray]] = {t["index"]: [] for t in tensors}
    for sample in data:
        if reset:
            device.reset_all_variables()
        device.set_tensor(tensors[0]["index"], sample)
        device.invoke()
        for index in values:
            values[index].append(device.get_tensor(index))
    return _write(path, tensors, values)


@plants("TFL033")
def test_a_state_that_was_not_reset(streaming: bytes, tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(4, 1, 6)).astype(np.float32)
    kept = _stream(streaming, tmp_path / "kept.h5", data, reset=False)
    result = tfldbg.trace(streaming, against=kept)
    assert named(result, "TFL033") == [0]
    fresh = _stream(streaming, tmp_path / "fresh.h5", data, reset=True)
    result = tfldbg.trace(streaming, against=fresh)
    assert result.verdict == "clean" and not named(result, "TFL033")


@plants("TFL042")
def test_a_recording_of_half_precision(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    network = Network()
    value = given = network.tensor("FLOAT32", (1, 32))
    for _ in range(3):
        weights = network.constant(generator.normal(size=(32, 32)).astype(np.float32))
        value = network.dense(value, weights, -1, network.tensor("FLOAT32", (1, 32)))
    model = tmp_path / "float.tflite"
    model.write_bytes(network.finish([given], [value]))
    data = generator.normal(size=(4, 1, 32)).astype(np.float32)
    path = _record(model, tmp_path / "run.h5", data)
    assert not tfldbg.trace(model, against=path).diagnosis.findings
    with open_capture(path) as capture:
        arrays = {t.name: capture.stored(t, 0, 4) for t in capture.tensors}
        given_name = next(t.name for t in capture.tensors if t.index == given)
    halves = {n: a if n == given_name else a.astype(np.float16) for n, a in arrays.items()}
    np.savez(tmp_path / "half.npz", **{n: a.astype(np.float32) for n, a in halves.items()})
    result = tfldbg.trace(model, against=tmp_path / "half.npz")
    assert cause(result) == "TFL042" and named(result, "TFL042") == [None]


# Kernels.


@plants("TFL046")
@pytest.mark.parametrize("against", [None, "reference"])
def test_a_kernel_that_does_not_know_blockwise_weights(
    shared_models: Path, against: str | None
) -> None:
    path = shared_models / "tflite" / "litert_qwen_fc_blockwise_int4.tflite"
    runtime = "xnnpack" if against else "reference"
    result = tfldbg.trace(path, samples=1, runtime=runtime, against_runtime=against)
    assert (cause(result), named(result, "TFL046")) == ("TFL046", [0])


@plants("TFL051")
def test_a_kernel_that_yields_zeros(shared_models: Path) -> None:
    path = shared_models / "tflite" / "litert_w8a16_q_einsum.tflite"
    result = tfldbg.trace(path, samples=1)
    assert (cause(result), named(result, "TFL051")) == ("TFL051", [1])


@plants("TFL048")
def test_what_differs_under_all_kernels_alike(
    samples: Path, digits: np.ndarray, broken: Callable[..., bytes]
) -> None:
    bad = broken("cnn", {6: plant.swap_inputs})
    result = tfldbg.trace(bad, against=samples / "cnn.tflite", data=digits, samples=4)
    assert named(result, "TFL048") == [6] and not named(result, "TFL046")


def test_a_self_trace_tries_no_options(shared_models: Path) -> None:
    """Both sides have the file's own options: another one cannot be the right one."""
    result = tfldbg.trace(shared_models / "tflite" / "litert_add_quantized_uint8.tflite", samples=1)
    assert result.verdict == "diverged" and not named(result, "TFL049")


# What a recorded trace keeps.


@pytest.fixture(params=["trials", "ranges and ports", "recording"])
def traced(
    request: pytest.FixtureRequest,
    samples: Path,
    digits: np.ndarray,
    tiny: Tiny,
    recording: Path,
    tmp_path: Path,
) -> Iterator[tuple[tfldbg.Trace, Path]]:
    path = tmp_path / "run.h5"
    common: dict[str, Any] = {"dump": path}
    if request.param == "trials":
        bad, good = samples / "cnn_swapped_concat.tflite", samples / "cnn.tflite"
        result = tfldbg.trace(bad, against=good, data=digits, samples=4, **common)
        assert result.evidence.trials
    elif request.param == "recording":
        result = tfldbg.trace(samples / "cnn_zeroed_bias.tflite", against=recording, **common)
        assert result.evidence.recording is not None
    else:
        result = tfldbg.trace(tiny.tflite, keras=tiny.live, data=tiny.data, **common)
        assert result.evidence.ports and result.evidence.ops[0].trained is not None
    yield result, path


def test_a_recorded_trace_tells_the_same_causes(traced: tuple[tfldbg.Trace, Path]) -> None:
    from typer.testing import CliRunner

    from tfldbg.cli.app import app

    result, path = traced
    assert result.evidence.ops[0].usage is not None
    assert from_json(evidence_to_json(result.evidence)) == result.evidence
    shown = CliRunner().invoke(app, ["report", str(path), "--json", "-"])
    assert json.loads(shown.stdout) == json.loads(json.dumps(result.to_dict()))
