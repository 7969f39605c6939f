"""Files as litert-quantizer makes them, built by hand: blocks, rotations, scales, cut weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

import tfldbg
from tests.loop_file import File, Subgraph
from tests.planted import plants
from tfldbg.compare.ranges.parameters import WeightRow
from tfldbg.options.against import Against
from tfldbg.session.parameters import compare_parameters

UNITS, INPUTS, BLOCK = 48, 64, 32


def layers(seed: int) -> list[np.ndarray]:
    """(UNITS, INPUTS) and (INPUTS, UNITS) weights with a few large ones."""
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=s) * 0.2 for s in ((UNITS, INPUTS), (INPUTS, UNITS))]
    for weights in made:
        weights[rng.random(weights.shape) < 0.01] *= 4
    return [w.astype(np.float32) for w in made]


def hadamard(size: int) -> np.ndarray:
    made = np.ones((1, 1))
    while len(made) < size:
        made = np.block([[made, made], [made, -made]])
    return (made / np.sqrt(size)).astype(np.float32)


def float_file(weights: list[np.ndarray]) -> bytes:
    def plain(subgraph: Subgraph, x: int, values: np.ndarray) -> tuple[int, int]:
        return x, subgraph.tensor("FLOAT32", list(values.shape), values)

    return _file(weights, plain)


def _file(weights: list[np.ndarray], constant: Any) -> bytes:
    """Two FULLY_CONNECTED, the first with a RELU.

    Args:
        weights: Of both.
        constant: Adds what stands before one, and its weights; returns the tensors that it reads.
    """
    file = File()
    main = file.subgraph()
    given = x = main.tensor("FLOAT32", [3, INPUTS])
    for place, values in enumerate(weights):
        read, held = constant(main, x, values)
        x = main.tensor("FLOAT32", [3, len(values)])
        options = schema.FullyConnectedOptionsT()
        if place == 0:
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        main.operator("FULLY_CONNECTED", [read, held, -1], [x], options)
    for code in file.model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = 12
    main.ends([given], [x])
    return file.save()


def codes_of(values: np.ndarray, scales: np.ndarray, most: int) -> np.ndarray:
    return np.clip(np.round(values / scales), -most, most).astype(np.int8)


def packed(codes: np.ndarray) -> np.ndarray:
    flat = codes.reshape(-1).astype(np.uint8) & 15
    return (flat[::2] | (flat[1::2] << 4)).astype(np.uint8)


def channels(subgraph: Subgraph, values: np.ndarray, bits: int, cut: float = 1.0) -> int:
    """Add weights with a scale for each channel, that of their largest value times ``cut``."""
    most = 2 ** (bits - 1) - 1
    scales = (cut * np.abs(values).max(1, keepdims=True) / most).astype(np.float32)
    codes = codes_of(values, scales, most)
    kind = f"INT{bits}"
    held = subgraph.tensor(kind, list(values.shape), packed(codes) if bits == 4 else codes)
    params = schema.QuantizationParametersT()
    params.scale, params.zeroPoint = scales.reshape(-1), np.zeros(len(scales), np.int64)
    subgraph.made.tensors[held].quantization = params
    return held


def blocks(subgraph: Subgraph, x: int, values: np.ndarray) -> tuple[int, int]:
    """Add 4-bit weights with a float16 scale for each block of a row."""
    size = min(BLOCK, values.shape[1] // 2)  # 48 is no multiple of 32
    runs = values.reshape(len(values), -1, size)
    scales = (np.abs(runs).max(2, keepdims=True) / 7).astype(np.float16)
    codes = codes_of(runs, scales.astype(np.float32), 7)
    held = subgraph.tensor("INT4", list(values.shape), packed(codes))
    params, details = schema.QuantizationParametersT(), schema.BlockwiseQuantizationT()
    details.scales = subgraph.tensor("FLOAT16", list(scales.shape[:2]), scales)
    details.blockSize, details.zeroPoints = size, -1
    params.details = details
    params.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    subgraph.made.tensors[held].quantization = params
    return x, held


def rotated(
    subgraph: Subgraph, x: int, values: np.ndarray, *, custom: bool = False, sign: int = 1
) -> tuple[int, int]:
    """Add a rotation of the activation, and the rotated weights in 4 bits.

    Args:
        subgraph: Where to.
        x: The activation.
        values: The weights as they were.
        custom: Whether one operator rotates, and not three.
        sign: -1 for a rotation that the weights do not undo.
    """
    size = int(np.gcd(values.shape[1], 1 << 20))
    matrix = hadamard(size)
    held = channels(subgraph, (values.reshape(-1, size) @ matrix).reshape(values.shape), 4)
    shape = [3, values.shape[1]]
    last = subgraph.tensor("FLOAT32", shape)
    if custom:
        subgraph.operator("CUSTOM", [x], [last])
        subgraph.file.model.operatorCodes[-1].customCode = b"aeq.hadamard_rotation"
        made = flexbuffers.Builder()
        with made.Map():
            made.Int("hadamard_size", size)
            made.VectorFromElements("random_binary_vector", [1] * size)
        subgraph.made.operators[-1].customOptions = np.frombuffer(bytes(made.Finish()), np.uint8)
        return last, held
    split = [3 * values.shape[1] // size, size]
    rows, turned = subgraph.tensor("FLOAT32", split), subgraph.tensor("FLOAT32", split)
    numbers = [np.array(s, np.int32) for s in (split, shape)]
    shapes = [subgraph.tensor("INT32", [2], s) for s in numbers]
    by = subgraph.tensor("FLOAT32", [size, size], matrix * np.float32(sign))
    subgraph.operator("RESHAPE", [x, shapes[0]], [rows], schema.ReshapeOptionsT())
    subgraph.operator("FULLY_CONNECTED", [rows, by, -1], [turned], schema.FullyConnectedOptionsT())
    subgraph.operator("RESHAPE", [turned, shapes[1]], [last], schema.ReshapeOptionsT())
    return last, held


def scaled(subgraph: Subgraph, x: int, values: np.ndarray) -> tuple[int, int]:
    """Add a factor for each channel of the activation, and weights divided by them."""
    factors = np.exp(np.random.default_rng(5).normal(size=values.shape[1])).astype(np.float32)
    constant = subgraph.tensor("FLOAT32", [values.shape[1]], factors)
    made = subgraph.tensor("FLOAT32", [3, values.shape[1]])
    subgraph.operator("MUL", [x, constant], [made], schema.MulOptionsT())
    return made, channels(subgraph, values / factors, 8)


def traced(model: bytes, reference: bytes) -> tfldbg.Trace:
    data = np.random.default_rng(1).normal(size=(4, 3, INPUTS)).astype(np.float32)
    return tfldbg.trace(model, against=reference, data=data)


MAKERS = {
    "blocks": blocks,
    "rotated": rotated,
    "rotated by one operator": lambda s, x, v: rotated(s, x, v, custom=True),
    "scaled": scaled,
}


def _assert_sound_to_rounding(result: tfldbg.Trace) -> None:
    """Both weights are those of the reference, up to the rounding of their codes."""
    assert result.verdict == "clean", result.diagnosis.sentence
    assert [f.code for f in result.diagnosis.findings if f.severity != "info"] == []
    assert "unchecked" not in result.diagnosis.statuses
    checks = [o.weights for o in result.evidence.ops if o.weights is not None]
    assert len(checks) == 2 and all(0.4 < c.max_steps <= 0.51 for c in checks)


@pytest.mark.parametrize("maker", MAKERS)
def test_what_a_quantizer_does_to_weights_is_no_other_checkpoint(maker: str) -> None:
    weights = layers(0)
    result = traced(_file(weights, MAKERS[maker]), float_file(weights))
    _assert_sound_to_rounding(result)


@pytest.mark.parametrize("maker", MAKERS)
def test_another_checkpoint_is_told_as_such(maker: str) -> None:
    result = traced(_file(layers(1), MAKERS[maker]), float_file(layers(0)))
    assert result.cause is not None and result.cause.code == "TFL043", result.diagnosis.sentence


@pytest.mark.parametrize("maker", MAKERS)
def test_a_negated_channel_is_told_as_such(maker: str) -> None:
    bad = layers(0)
    bad[1][7] *= -1
    result = traced(_file(bad, MAKERS[maker]), float_file(layers(0)))
    first = result.first_divergence
    assert first is not None and first.tensor_index == result.evidence.ops[-1].tensor
    assert result.cause is not None and "channel 7 is negated" in result.cause.message


def test_a_rotation_that_nothing_undoes_is_told() -> None:
    weights = layers(0)
    model = _file(weights, lambda s, x, v: rotated(s, x, v, sign=-1))
    result = traced(model, float_file(weights))
    assert result.verdict == "diverged"
    assert result.cause is not None and "all channels are negated" in result.cause.message


def test_the_reference_may_be_the_rotated_file() -> None:
    weights = layers(0)
    result = traced(_file(weights, rotated), _file(weights, rotated))
    assert result.verdict == "clean" and not result.evidence.run.notes, result.diagnosis.sentence


def keras_model(weights: list[np.ndarray]) -> Any:
    """Build the model that `float_file` is a file of."""
    import tf_keras as k

    given = k.Input((INPUTS,), batch_size=3)
    x = k.layers.Dense(UNITS, activation="relu", use_bias=False)(given)
    made = k.Model(given, k.layers.Dense(INPUTS, use_bias=False)(x))
    made.set_weights([w.T for w in weights])
    return made


def traced_with_keras(model: bytes, weights: list[np.ndarray]) -> tfldbg.Trace:
    data = np.random.default_rng(1).normal(size=(4, 3, INPUTS)).astype(np.float32)
    return tfldbg.trace(model, keras=keras_model(weights), data=data)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_keras_model_is_matched_without_what_turns(maker: str) -> None:
    weights = layers(0)
    result = traced_with_keras(_file(weights, MAKERS[maker]), weights)
    _assert_sound_to_rounding(result)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("layer", [0, 1])
def test_a_keras_model_tells_a_negated_channel_behind_a_turn(maker: str, layer: int) -> None:
    bad = layers(0)
    bad[layer][7] *= -1
    result = traced_with_keras(_file(bad, MAKERS[maker]), layers(0))
    first = result.first_divergence
    written = [o.tensor for o in result.evidence.ops if o.weights is not None]
    assert first is not None and first.tensor_index == written[layer], result.diagnosis.sentence
    assert result.cause is not None and "channel 7 is negated" in result.cause.message


def test_a_keras_model_tells_a_rotation_that_nothing_undoes() -> None:
    weights = layers(0)
    model = _file(weights, lambda s, x, v: rotated(s, x, v, sign=-1))
    result = traced_with_keras(model, weights)
    assert result.verdict == "diverged"
    assert result.cause is not None and "all channels are negated" in result.cause.message


@pytest.mark.parametrize("maker", MAKERS)
def test_params_compares_turned_weights_with_keras(maker: str) -> None:
    weights, bad = layers(0), layers(0)
    bad[1][7] *= -1
    reference = keras_model(weights)
    assert not compare_parameters(
        _file(weights, MAKERS[maker]), against=Against(keras=reference)
    ).differing
    (wrong,) = compare_parameters(
        _file(bad, MAKERS[maker]), against=Against(keras=reference)
    ).differing
    assert isinstance(wrong, WeightRow) and wrong.check is not None
    assert wrong.check.arrangement == "channel 7 is negated"


@plants("TFL062")
def test_weights_that_are_cut_off_for_smaller_steps() -> None:
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=w.shape).astype(np.float32) for w in layers(0)]
    for cut, code in ((0.9, "TFL062"), (0.3, "TFL052")):
        model = _file(weights, lambda s, x, v, cut=cut: (x, channels(s, v, 4, cut)))
        result = traced(model, float_file(weights))
        found = {f.code for f in result.diagnosis.findings}
        assert code in found and "TFL043" not in found, (cut, result.diagnosis.sentence)
        assert (result.verdict == "clean") == (code == "TFL062")


@plants("TFL063")
def test_weights_with_the_code_next_to_the_nearest() -> None:
    weights = layers(0)

    def compensated(subgraph: Subgraph, x: int, values: np.ndarray) -> tuple[int, int]:
        moved = values.copy()
        steps = np.abs(values).max(1, keepdims=True) / 127
        moved[:, 3::7] += (0.6 * steps * np.sign(values))[:, 3::7]
        moved = np.clip(moved, -127 * steps, 127 * steps)
        return x, channels(subgraph, moved, 8)

    result = traced(_file(weights, compensated), float_file(weights))
    assert result.cause is not None and result.cause.code == "TFL063", result.diagnosis.sentence
    assert "TFL043" not in {f.code for f in result.diagnosis.findings}
