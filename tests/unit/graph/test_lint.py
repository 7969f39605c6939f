"""Static rules: planted faults name their operator, sound files are silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sample_models.plant import File
from tfldbg.cli.app import app
from tfldbg.graph.lint import Breach, lint
from tfldbg.graph.load import load_graph, read_file

CNN = read_file(Path(__file__).resolve().parents[3] / "sample_models" / "cnn.tflite")
BIASED = (0, 1, 2, 4, 5, 8, 10)
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def breaches(file: File) -> tuple[Breach, ...]:
    return breaches_of(file.save())


def breaches_of(data: bytes) -> tuple[Breach, ...]:
    graph = load_graph(data)
    return tuple(b for subgraph in graph.subgraphs for b in lint(graph, subgraph))


def only(file: File) -> Breach:
    found = breaches(file)
    assert len(found) == 1, found
    return found[0]


def params(file: File, op: int, number: int) -> Any:
    return file.tensor(file.op(op).inputs[number]).quantization


def scale(quantization: Any) -> np.ndarray:
    return np.asarray(quantization.scale, np.float32)


def multiply(quantization: Any, factor: float, channel: int | None = None) -> None:
    scales = scale(quantization).copy()
    scales[slice(None) if channel is None else channel] *= np.float32(factor)
    quantization.scale = scales


def shift(quantization: Any, steps: int) -> None:
    quantization.zeroPoint = np.asarray(quantization.zeroPoint, np.int64) + steps


# Sound files.


def test_sound_samples_are_silent(samples: Path) -> None:
    files = [p for p in samples.glob("*.tflite") if p.name != "cnn_wrong_scale.tflite"]
    assert len(files) > 8
    assert not {p.name: found for p in files if (found := breaches_of(read_file(p)))}


def test_the_sample_with_a_wrong_scale_names_the_operator_that_wrote_it(samples: Path) -> None:
    (found,) = breaches_of(read_file(samples / "cnn_wrong_scale.tflite"))
    assert (found.rule, found.op) == ("bias_scale", 3)


# Biases.


@given(
    op=st.sampled_from(BIASED),
    pick=st.integers(0, 1000),
    factor=st.floats(1.00001, 1000) | st.floats(0.001, 0.99999),
)
@settings(max_examples=25)
def test_a_wrong_bias_scale_on_one_channel(op: int, pick: int, factor: float) -> None:
    file = File(CNN)
    bias = params(file, op, 2)
    channel = pick % len(bias.scale)
    right = float(bias.scale[channel])
    multiply(bias, factor, channel)
    found = only(file)
    assert (found.rule, found.op, found.tensor) == ("bias_scale", op, file.op(op).inputs[2])
    if len(bias.scale) > 1:
        assert found.channel == channel
    assert found.expected is not None and found.expected[0] == pytest.approx(right, rel=1e-6)


@given(op=st.sampled_from(BIASED), factor=st.floats(1.001, 100) | st.floats(0.01, 0.999))
@settings(max_examples=15)
def test_a_bias_wrong_by_one_factor_on_every_channel(op: int, factor: float) -> None:
    file = File(CNN)
    multiply(params(file, op, 2), factor)
    found = only(file)
    assert (found.rule, found.op, found.channel) == ("bias_scale", op, None)
    assert found.message.startswith("its bias has scale")


def test_one_bias_alone_says_that_its_input_may_be_wrong_instead() -> None:
    file = File(CNN)
    multiply(params(file, 1, 2), 1.5)
    assert "output scale of operator 0 may be wrong instead" in only(file).message
    written = File(CNN)
    multiply(written.output(0).quantization, 1.5)
    assert only(written).op == 1
    assert "output scale of operator 0 may be wrong instead" in only(written).message


def test_operators_that_share_a_bias_are_one_witness() -> None:
    file = File(CNN)
    shared = file.op(4).inputs[2]
    file.op(5).inputs = [*list(file.op(5).inputs)[:2], shared]
    params(file, 5, 1).scale = scale(params(file, 4, 1))
    assert breaches(file) == ()
    multiply(params(file, 4, 2), 1.5)
    assert {b.op for b in breaches(file)} == {4, 5}  # and not 3, which wrote their input


@pytest.mark.parametrize(("op", "number"), [(4, 2), (5, 2), (4, 1), (8, 2)])
def test_a_bias_or_weights_that_the_neighbours_contradict_are_not_excused(
    op: int, number: int
) -> None:
    file = File(CNN)
    multiply(params(file, op, number), 1.5)
    found = only(file)
    assert found.op == op and "instead" not in found.message


def test_channels_wrong_each_in_its_own_way_are_the_operators_own() -> None:
    file = File(CNN)
    bias = params(file, 5, 2)
    bias.scale = scale(bias) * np.linspace(1.1, 3, len(bias.scale), dtype=np.float32)
    found = only(file)
    assert (found.op, found.channel) == (5, len(bias.scale) - 1)
    assert f"{len(bias.scale)} of {len(bias.scale)} channels differ" in found.message


@pytest.mark.parametrize("op", BIASED)
def test_a_bias_zero_point(op: int) -> None:
    file = File(CNN)
    shift(params(file, op, 2), 1)
    assert (only(file).rule, only(file).op) == ("bias_zero_point", op)


# Output scales and zero points.


@given(factor=st.floats(1.001, 100) | st.floats(0.01, 0.999))
@settings(max_examples=15)
def test_an_output_scale_that_two_biases_contradict(factor: float) -> None:
    file = File(CNN)
    right = float(file.output(3).quantization.scale[0])
    multiply(file.output(3).quantization, factor)
    found = only(file)
    assert (found.rule, found.op, found.tensor) == ("bias_scale", 3, file.op(3).outputs[0])
    assert found.expected is not None
    assert found.expected == (pytest.approx(right, rel=1e-6), -16)
    assert "operators 4, 5" in found.message


@given(factor=st.floats(0.01, 100))
@settings(max_examples=15)
def test_scales_that_change_together_are_consistent(factor: float) -> None:
    file = File(CNN)
    for quantization in (file.output(3).quantization, params(file, 4, 2), params(file, 5, 2)):
        multiply(quantization, factor)
    assert breaches(file) == ()


@pytest.mark.parametrize("op", [4, 5, 6, 7])
@pytest.mark.parametrize("change", [lambda q: multiply(q, 1.5), lambda q: shift(q, 5)])
def test_the_odd_one_of_tensors_that_must_agree(op: int, change: Callable[[Any], None]) -> None:
    file = File(CNN)
    quantization = file.output(op).quantization
    right = (float(quantization.scale[0]), int(quantization.zeroPoint[0]))
    change(quantization)
    found = only(file)
    assert (found.rule, found.op, found.tensor) == ("same_scale", op, file.op(op).outputs[0])
    assert found.expected == (pytest.approx(right[0]), right[1])


def test_a_fault_that_copying_operators_carry_on_is_named_once_where_it_begins() -> None:
    file = File(CNN)
    for op in (6, 7):  # the concatenation, and the pool that reads it
        shift(file.output(op).quantization, 5)
    found = breaches(file)
    assert {b.op for b in found} <= {4, 5, 6} and 7 not in {b.op for b in found}


def test_a_pair_without_witnesses_names_the_operator_that_copies() -> None:
    file = File(CNN)
    _as_kind(
        file, 9, schema.BuiltinOperator.RESHAPE
    )  # MEAN: no bias reads 8's output, one reads 9's
    _drop_bias(file, 10)
    found = only(file)
    assert (found.rule, found.op) == ("same_scale", 9)
    assert "operator 8 may be wrong instead" in found.message


def test_what_follows_a_copying_operator_decides() -> None:
    file = File(CNN)
    _as_kind(file, 9, schema.BuiltinOperator.RESHAPE)  # 10's bias was quantized for 9's output
    found = only(file)
    assert (found.rule, found.op) == ("same_scale", 8)


def _as_kind(file: File, op: int, builtin: int) -> None:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    file.model.operatorCodes.append(code)
    file.op(op).opcodeIndex = len(file.model.operatorCodes) - 1
    file.op(op).builtinOptions, file.op(op).builtinOptionsType = None, 0


def _drop_bias(file: File, op: int) -> None:
    file.op(op).inputs = [*list(file.op(op).inputs)[:2], -1]


def test_uint8_concatenation_rescales() -> None:
    file = File(CNN)
    for op in (4, 5, 6):
        file.output(op).type = schema.TensorType.UINT8
        file.output(op).quantization.zeroPoint = np.array([10 * op])
    file.output(7).type = schema.TensorType.UINT8
    file.output(7).quantization.zeroPoint = np.array([60])
    assert breaches(file) == ()
    file.output(7).quantization.zeroPoint = np.array([61])
    assert [b.op for b in breaches(file)] == [7]  # but pooling does not


# Parameters that are wrong by themselves.


@pytest.mark.parametrize("factor", [0.5, 1.01])
def test_a_softmax_scale(factor: float) -> None:
    file = File(CNN)
    multiply(file.output(11).quantization, factor)
    found = only(file)
    assert (found.rule, found.op, found.expected) == ("fixed_range", 11, (1 / 256, -128))


def test_a_softmax_zero_point() -> None:
    file = File(CNN)
    shift(file.output(11).quantization, 128)
    assert (only(file).rule, only(file).op) == ("fixed_range", 11)


@pytest.mark.parametrize(
    ("builtin", "demanded"),
    [("LOGISTIC", (1 / 256, -128)), ("TANH", (1 / 128, 0)), ("LOG_SOFTMAX", (1 / 16, 127))],
)
def test_other_fixed_ranges(builtin: str, demanded: tuple[float, int]) -> None:
    file = File(CNN)
    _as_kind(file, 11, getattr(schema.BuiltinOperator, builtin))
    quantization = file.output(11).quantization
    quantization.scale = np.array([demanded[0]], np.float32)
    quantization.zeroPoint = np.array([demanded[1]])
    assert breaches(file) == ()
    shift(quantization, -1 if demanded[1] > 0 else 1)
    assert only(file).expected == demanded


@pytest.mark.parametrize("value", [0.0, -0.01, np.nan, np.inf, SMALLEST_NORMAL / 2])
@pytest.mark.parametrize("op", [0, 3, 6])
def test_an_impossible_output_scale_accuses_nobody_else(op: int, value: float) -> None:
    file = File(CNN)
    file.output(op).quantization.scale = np.array([value], np.float32)
    assert (only(file).rule, only(file).op) == ("impossible_scale", op)


def test_an_impossible_weight_scale_names_the_channel() -> None:
    file = File(CNN)
    weights = params(file, 5, 1)
    weights.scale = scale(weights).copy()
    weights.scale[7] = 0
    found = only(file)
    assert (found.rule, found.op, found.channel) == ("impossible_scale", 5, 7)


@pytest.mark.parametrize(("value", "said"), [(0.0, False), (np.inf, True), (np.nan, True)])
def test_zeros_may_have_the_scale_0_but_none_that_is_no_number(value: float, said: bool) -> None:
    file = File(CNN)
    weights, codes = params(file, 5, 1), file.values(5, 1)
    weights.scale = scale(weights).copy()
    weights.scale[7] = value
    codes[7] = 0
    file.set_values(5, 1, codes)
    found = [b for b in breaches(file) if b.rule == "impossible_scale"]
    assert [(b.op, b.channel) for b in found] == ([(5, 7)] if said else [])


@pytest.mark.parametrize("zero", [-129, 128, 300])
@pytest.mark.parametrize("op", [3, 6])
def test_a_zero_point_outside_the_codes(op: int, zero: int) -> None:
    file = File(CNN)
    file.output(op).quantization.zeroPoint = np.array([zero])
    assert (only(file).rule, only(file).op) == ("zero_point_range", op)


def test_an_int16_zero_point() -> None:
    file = File(CNN)
    file.output(3).type = schema.TensorType.INT16
    found = only(file)
    assert (found.rule, found.op) == ("int16_zero_point", 3)
    assert found.expected is not None and found.expected[1] == 0


def test_a_relu_whose_output_has_no_positive_code() -> None:
    file = File(CNN)
    file.output(8).quantization.zeroPoint = np.array([127])
    assert (only(file).rule, only(file).op) == ("no_positive_code", 8)


@pytest.mark.parametrize("op", [0, 1, 10])
def test_a_weight_zero_point(op: int) -> None:
    file = File(CNN)
    params(file, op, 1).zeroPoint = np.full(len(params(file, op, 1).scale), 3)
    assert (only(file).rule, only(file).op) == ("weights_zero_point", op)


@pytest.mark.parametrize(("op", "axis"), [(0, 3), (1, 0), (5, 1)])
def test_a_quantized_dimension(op: int, axis: int) -> None:
    file = File(CNN)
    params(file, op, 1).quantizedDimension = axis
    assert (only(file).rule, only(file).op) == ("axis", op)


@pytest.mark.parametrize(("axis", "sound"), [(3, True), (0, False)])
def test_a_bias_of_four_dimensions(axis: int, sound: bool) -> None:
    """Some converters keep the shape of what was added: its channels are the last dimension."""
    file = File(CNN)
    bias = file.tensor(file.op(1).inputs[2])
    bias.shape = [1, 1, 1, *bias.shape]
    channels = int(bias.shape[-1])
    bias.quantization.scale = np.resize(scale(bias.quantization), channels)
    bias.quantization.zeroPoint = np.zeros(channels, np.int64)
    bias.quantization.quantizedDimension = axis
    assert ({b.rule for b in breaches(file)} & {"axis"} == set()) is sound


@pytest.mark.parametrize("axis", [-1, 4])
def test_a_quantized_dimension_outside_the_tensor_is_refused_by_every_runtime(axis: int) -> None:
    file = File(CNN)
    file.output(3).quantization.quantizedDimension = axis
    assert (only(file).rule, only(file).op) == ("axis", 3)


def test_a_wrong_number_of_scales() -> None:
    file = File(CNN)
    weights = params(file, 5, 1)
    weights.scale, weights.zeroPoint = scale(weights)[:-1], np.zeros(1, np.int64)
    assert (only(file).rule, only(file).op) == ("axis", 5)


# Float constants.


def _float_constant(file: File, op: int, number: int, value: float) -> None:
    values = np.zeros(file.values(op, number).shape, np.float32)
    values.flat[-1] = value
    tensor = file.tensor(file.op(op).inputs[number])
    tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    file.set_values(op, number, values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bias_that_is_not_finite(value: float) -> None:
    file = File(CNN)
    _float_constant(file, 8, 2, value)
    assert (only(file).rule, only(file).op) == ("nonfinite_constant", 8)


def test_an_infinite_mask_is_legitimate_and_nan_is_not() -> None:
    file = File(CNN)
    _float_constant(file, 9, 1, -np.inf)
    assert breaches(file) == ()
    file = File(CNN)
    _float_constant(file, 9, 1, np.nan)
    assert (only(file).rule, only(file).op) == ("nonfinite_constant", 9)


# The lint of a file is what inspect shows.


def test_inspect_shows_what_is_found(samples: Path) -> None:
    path = samples / "cnn_wrong_scale.tflite"
    done = CliRunner().invoke(app, ["inspect", str(path)])
    assert done.exit_code == 0
    assert "findings:" in done.stdout
    said = "TFL022 error: operator 3 ADD 'quant_residual': its output has scale"
    assert said in done.stdout
    plain = json.loads(CliRunner().invoke(app, ["inspect", str(path), "--json", "-"]).stdout)
    (found,) = plain["findings"]
    assert (found["subgraph"], found["op"], found["code"]) == (0, 3, "TFL022")
    shown = found["evidence"]
    assert shown["rule"] == "bias_scale" and shown["tensor_index"] == 15
    assert shown["channel"] is None and found["message"]
    clean = CliRunner().invoke(app, ["inspect", str(samples / "cnn.tflite")])
    assert "findings" not in clean.stdout


# Nothing that a file can hold makes it raise.


@given(
    tensor=st.integers(0, 27),
    scales=st.lists(st.floats(width=32), max_size=30),
    zeros=st.lists(st.integers(-(2**40), 2**40), max_size=30),
    axis=st.integers(-2, 6),
)
def test_any_parameters_are_judged_without_an_error(
    tensor: int, scales: list[float], zeros: list[int], axis: int
) -> None:
    file = File(CNN)
    quantization = file.tensor(tensor).quantization or schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.array(scales, np.float32), np.array(zeros)
    quantization.quantizedDimension = axis
    file.tensor(tensor).quantization = quantization
    for found in breaches(file):
        assert found.message and 0 <= found.op < 12
