"""Rules that need nothing but the file: planted causes are named, sound files are silent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from sample_models import plant
from sample_models.plant import File
from tests.planted import plants
from tfldbg.diagnose.model import Finding
from tfldbg.diagnose.rules import inspect_findings
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.model import QuantParams
from tfldbg.rewrite.draft import Draft

SAMPLES = Path(__file__).resolve().parents[3] / "sample_models"
CNN = read_file(SAMPLES / "cnn.tflite")
SOUND = ("cnn", "dense4", "dense4_nobias", "dense5_nobias", "dense5_nobias_ptq")


def findings(data: bytes) -> tuple[Finding, ...]:
    graph = load_graph(data)
    return inspect_findings(graph, graph.main)


def named(data: bytes, code: str) -> list[int | None]:
    """The operators at which a code is found."""
    return [f.op for f in findings(data) if f.code == code]


def params(scale: float | Sequence[float], zero_point: int = 0, axis: int = 0) -> QuantParams:
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    return QuantParams(scales, np.full(scales.size, zero_point, np.int64), axis)


class Network(Draft):
    """A file under construction, with the operators that the tests need."""

    def activation(self, channels: int = 4, kind: str = "INT8", scale: float = 0.1) -> int:
        quant = None if kind == "FLOAT32" else params(scale)
        return self.tensor(kind, (1, channels), quant=quant)

    def weights(self, codes: np.ndarray, scale: float | Sequence[float] = 0.01) -> int:
        kind = codes.dtype.name.upper()
        return self.tensor(kind, codes.shape, quant=params(scale), values=codes)

    def bias(self, codes: np.ndarray, scale: float = 0.001) -> int:
        kind = codes.dtype.name.upper()
        return self.tensor(kind, codes.shape, quant=params(scale), values=codes)

    def dense(self, given: int, weights: int, bias: int, out: int) -> int:
        options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
        self.operator("FULLY_CONNECTED", (given, weights, bias), (out,), options)
        return out

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        return bytes(self.build(inputs, outputs))

    def apply(self, kind: str, inputs: Sequence[int], out: int) -> int:
        """Add an operator without options."""
        self.operator(kind, inputs, (out,))
        return out


def codes(rows: int = 4, columns: int = 4, kind: type = np.int8) -> np.ndarray:
    """Weights whose channels all reach 100."""
    values = np.arange(rows * columns).reshape(rows, columns) * 7 % 100
    values[:, 0] = 100
    return values.astype(kind)


# Sound files.


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_sample_is_silent(name: str) -> None:
    assert not findings(read_file(SAMPLES / f"{name}.tflite"))


# Constants.


@plants("TFL016")
def test_the_code_minus_128() -> None:
    file = File(CNN)
    weights = file.values(5, 1)
    weights[3, 0, 0, 0] = -128
    file.set_values(5, 1, weights)
    (found,) = findings(file.save())
    assert (found.code, found.op, found.evidence["count"]) == ("TFL016", 5, 1)


def test_the_code_minus_128_in_a_real_file(shared_models: Path) -> None:
    data = read_file(shared_models / "tflite" / "tflm_keyword_svdf_8bit.tflite")
    assert named(data, "TFL016") == [2, 4, 6, 8, 12]


def _one_scale(channel: np.ndarray) -> bytes:
    """A layer whose second channel is given, all with one scale."""
    network = Network()
    weights = codes()
    weights[1] = channel
    given = network.activation()
    bias = network.bias(np.arange(4, dtype=np.int32))
    out = network.dense(given, network.weights(weights), bias, network.activation())
    return network.finish([given], [out])


@plants("TFL019")
def test_a_channel_that_one_scale_leaves_without_codes() -> None:
    (found,) = findings(_one_scale(np.array([3, -2, 0, 1])))
    assert (found.code, found.op) == ("TFL019", 0)
    assert found.evidence == {"channels": [1], "largest_codes": [3]}
    assert not findings(_one_scale(np.array([8, -2, 0, 1])))


def test_a_small_channel_with_a_scale_of_its_own_is_sound() -> None:
    network = Network()
    weights = codes()
    weights[1] = [3, -2, 0, 1]
    given = network.activation()
    scales = [0.01, 0.02, 0.03, 0.04]
    bias = network.tensor(
        "INT32",
        (4,),
        quant=params([0.1 * s for s in scales]),
        values=np.arange(4, dtype=np.int32),
    )
    out = network.dense(given, network.weights(weights, scales), bias, network.activation())
    assert not findings(network.finish([given], [out]))


def test_a_real_file_with_one_scale(shared_models: Path) -> None:
    data = read_file(shared_models / "tflite" / "coral_mobilenet_v1_025_128_uint8.tflite")
    assert named(data, "TFL019")[:3] == [0, 1, 2]


@plants("TFL021")
@pytest.mark.parametrize("end", [2**31 - 1, -(2**31) + 1, -(2**31)])
def test_a_bias_at_the_end_of_its_range(end: int) -> None:
    file = File(CNN)
    bias = file.values(8, 2)
    bias[7] = end
    file.set_values(8, 2, bias)
    (found,) = findings(file.save())
    assert (found.code, found.op, found.evidence) == ("TFL021", 8, {"channels": [7]})
    bias[7] = end // 2
    file.set_values(8, 2, bias)
    assert not findings(file.save())


def _two_products(
    first_bias: np.ndarray, second_bias: np.ndarray, same_weights: bool, gates: bool = True
) -> bytes:
    """Two products that are added, each bias with the scale of its own weights.

    ``gates``: whether only a piece of each is added, as in a GRU.
    """
    network = Network()
    given, state = network.activation(), network.activation()
    scales = (0.01, 0.01 if same_weights else 0.013)
    products = []
    for source, bias, scale, order in zip(
        (given, state),
        (first_bias, second_bias),
        scales,
        (1, 1 if same_weights else -1),
        strict=True,
    ):
        weights = network.weights(codes()[::order].copy(), scale)
        rounded = np.round(bias / (0.1 * scale)).astype(np.int32)
        out = network.activation()
        network.dense(source, weights, network.bias(rounded, 0.1 * scale), out)
        ends = [network.constant(np.array(end, np.int32)) for end in ([0, 0], [1, 2])]
        piece = network.activation(2)
        products.append(network.apply("SLICE", [out, *ends], piece) if gates else out)
    total = network.activation()
    network.operator("ADD", products, (total,), ("AddOptions", schema.AddOptionsT()))
    return network.finish([given, state], [total])


@plants("TFL032")
def test_one_bias_in_two_products_that_are_added() -> None:
    bias, other = np.array([0.5, -0.3, 0.2, 0.9]), np.array([0.5, -0.3, 0.2, 0.8])
    (found,) = findings(_two_products(bias, bias, same_weights=False))
    assert (found.code, found.op, found.evidence) == ("TFL032", 2, {"other": 0})
    assert not findings(_two_products(bias, other, same_weights=False))


def test_what_is_no_doubled_bias() -> None:
    bias, constant = np.array([0.5, -0.3, 0.2, 0.9]), np.full(4, 0.5)
    assert not findings(_two_products(bias, bias, same_weights=True))  # one layer, called twice
    assert not findings(_two_products(constant, constant, same_weights=False))  # as initialized
    assert not findings(_two_products(0 * bias, 0 * bias, same_weights=False))
    # Two Dense layers whose sum is trained get the same gradients, hence the same bias.
    assert not findings(_two_products(bias, bias, same_weights=False, gates=False))


def _sixteen_bits(bias: np.ndarray | None) -> bytes:
    network = Network()
    given, out = network.activation(kind="INT16"), network.activation(kind="INT16")
    stored = -1 if bias is None else network.bias(bias)
    network.dense(given, network.weights(codes()), stored, out)
    return network.finish([given], [out])


@plants("TFL041")
@pytest.mark.parametrize("bias", [None, np.arange(4, dtype=np.int32)])
def test_sixteen_bits_without_a_wide_bias(bias: np.ndarray | None) -> None:
    (found,) = findings(_sixteen_bits(bias))
    assert (found.code, found.op) == ("TFL041", 0)


def test_sixteen_bits_with_a_wide_bias_are_sound() -> None:
    assert not findings(_sixteen_bits(np.arange(4, dtype=np.int64)))


# The specification.


@plants("TFL010")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (plant.shift_zero_point(300), "zero point"),
        (plant.scale_output(-1.0), "not a positive, finite, normal number"),
        (plant.shift_weights_zero_point(1), "zero point of its weights"),
    ],
)
def test_parameters_that_the_specification_forbids(change: plant.Change, said: str) -> None:
    file = File(CNN)
    change(file, 8)
    found = findings(file.save())
    assert (found[0].code, found[0].op) == ("TFL010", 8)
    assert said in found[0].message
    assert ("symmetric=True" in found[0].suggestion) is ("weights" in said)


def test_another_range_than_the_kernels_fixed_one() -> None:
    file = File(CNN)
    plant.scale_output(1.5)(file, 11)
    (found,) = findings(file.save())
    assert (found.code, found.op) == ("TFL010", 11)


@plants("TFL020")
def test_scales_along_the_wrong_axis() -> None:
    file = File(CNN)
    file.input(1, 1).quantization.quantizedDimension = 2
    assert named(file.save(), "TFL020") == [1]


def test_the_wrong_axis_in_a_real_file(shared_models: Path) -> None:
    data = read_file(shared_models / "tflite" / "tflm_person_detect_int8.tflite")
    found = findings(data)
    assert {f.code for f in found} == {"TFL020"}
    assert [f.op for f in found][:3] == [0, 1, 3]


@plants("TFL022")
def test_a_bias_scale_that_is_no_product() -> None:
    file = File(CNN)
    plant.scale_bias(1.5)(file, 8)
    (found,) = findings(file.save())
    assert (found.code, found.op) == ("TFL022", 8)


@plants("TFL027")
def test_a_copying_operator_between_two_scales() -> None:
    file = File(CNN)
    plant.scale_output(1.5)(file, 7)
    found = findings(file.save())
    assert [(f.code, f.op) for f in found] == [("TFL027", 7)]


@plants("TFL029")
def test_a_range_below_zero_behind_a_relu() -> None:
    file = File(CNN)
    plant.shift_zero_point(128)(file, 8)
    (found,) = findings(file.save())
    assert (found.code, found.op, found.evidence["zero_point"]) == ("TFL029", 8, 0)
    plant.shift_zero_point(127)(file, 8)
    assert (findings(file.save())[0].code, findings(file.save())[0].op) == ("TFL029", 8)
    assert "no code is positive" in findings(file.save())[0].message


def test_a_range_that_a_concatenation_imposes_on_a_relu_is_sound() -> None:
    assert File(CNN).output(4).quantization.zeroPoint[0] == 3  # half of its codes are below zero
    assert not findings(CNN)


def test_the_range_that_qat_starts_from_is_imposed_by_nobody() -> None:
    file = File(CNN)
    for op in (4, 5, 6, 7):
        file.output(op).quantization.scale = np.array([12 / 255], np.float32)
        file.output(op).quantization.zeroPoint = np.array([0])
    bias = file.input(8, 2).quantization
    bias.scale = file.input(8, 1).quantization.scale * np.float32(12 / 255)
    assert named(file.save(), "TFL029") == [4]


# The structure.


def _behind_a_layer(kinds: Sequence[str], channels: int, activation: int = 0) -> bytes:
    """A float layer of 4 channels and what follows it, each with a constant of its own."""
    network = Network()
    given = network.activation(kind="FLOAT32")
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation
    value = network.activation(kind="FLOAT32")
    weights, bias = network.constant(np.eye(4, dtype=np.float32)), -1
    network.operator(
        "FULLY_CONNECTED", (given, weights, bias), (value,), ("FullyConnectedOptions", options)
    )
    for kind in kinds:
        own = network.constant(np.arange(1, channels + 1, dtype=np.float32))
        out = network.activation(kind="FLOAT32")
        name = f"{kind.title()}Options"
        network.operator(kind, (value, own), (out,), (name, getattr(schema, f"{name}T")()))
        value = out
    return network.finish([given], [value])


@plants("TFL023")
def test_a_batch_norm_that_was_not_folded() -> None:
    (found,) = findings(_behind_a_layer(("MUL", "ADD"), 4))
    assert (found.code, found.op, found.evidence) == ("TFL023", 0, {"ops": [1, 2]})
    behind_relu = findings(_behind_a_layer(("MUL", "ADD"), 4, schema.ActivationFunctionType.RELU))
    assert "its activation RELU is between them" in behind_relu[0].message


@pytest.mark.parametrize(
    ("kinds", "channels"), [(("MUL",), 4), (("ADD", "MUL"), 4), (("MUL", "ADD"), 1)]
)
def test_what_is_no_batch_norm(kinds: Sequence[str], channels: int) -> None:
    assert not findings(_behind_a_layer(kinds, channels))


def _with_float_middle(enter: bool, leave: bool) -> bytes:
    """Two ABS in float, between quantized operators or at an end of the file."""
    network = Network()
    given = network.activation(kind="INT8" if enter else "FLOAT32")
    value = given
    if enter:
        value = network.apply("DEQUANTIZE", (value,), network.activation(kind="FLOAT32"))
    for _ in range(2):
        value = network.apply("ABS", (value,), network.activation(kind="FLOAT32"))
    if leave:
        value = network.apply("QUANTIZE", (value,), network.activation())
    return network.finish([given], [value])


@plants("TFL024")
def test_float_operators_in_the_middle() -> None:
    (found,) = findings(_with_float_middle(enter=True, leave=True))
    assert (found.code, found.op) == ("TFL024", 1)
    assert found.evidence == {"ops": [1, 2], "converted_values": 8}
    assert "2 operators compute in float (1, 2: ABS)" in found.message


@pytest.mark.parametrize(("enter", "leave"), [(True, False), (False, True), (False, False)])
def test_float_operators_at_an_end_are_no_island(enter: bool, leave: bool) -> None:
    assert not findings(_with_float_middle(enter, leave))


@plants("TFL025")
def test_a_fake_quant_operator() -> None:
    network = Network()
    given, out = network.activation(kind="FLOAT32"), network.activation(kind="FLOAT32")
    options = schema.FakeQuantOptionsT()
    options.min, options.max, options.numBits = -3.0, 4.0, 8
    network.operator("FAKE_QUANT", (given,), (out,), ("FakeQuantOptions", options))
    (found,) = findings(network.finish([given], [out]))
    assert (found.code, found.op) == ("TFL025", 0)
    assert found.evidence == {"min": -3.0, "max": 4.0}


@plants("TFL047")
def test_integer_weights_with_float_activations() -> None:
    network = Network()
    given, out = network.activation(kind="FLOAT32"), network.activation(kind="FLOAT32")
    network.dense(given, network.weights(codes()), -1, out)
    (found,) = findings(network.finish([given], [out]))
    assert (found.code, found.evidence) == ("TFL047", {"ops": [0]})


def test_a_real_hybrid_file(shared_models: Path) -> None:
    data = read_file(shared_models / "tflite" / "mlperf_ad_dynrange.tflite")
    assert named(data, "TFL047") == [None]
