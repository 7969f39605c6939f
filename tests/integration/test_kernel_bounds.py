"""Bounds that follow from a kernel's arithmetic hold on the kernel itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

import tfldbg
from sample_models import plant
from tests.loop_file import File
from tests.unit.compare.test_undecided import compared
from tfldbg.errors import RunError
from tfldbg.graph.model import QuantParams
from tfldbg.rewrite.draft import Draft


def _softmax(classes: int, scale: float) -> bytes:
    """One int16 SOFTMAX."""

    def params(step: float) -> QuantParams:
        return QuantParams(np.array([step], np.float32), np.array([0], np.int64))

    draft = Draft()
    given = draft.tensor("INT16", (1, classes), quant=params(scale))
    made = draft.tensor("INT16", (1, classes), quant=params(1 / 32768))
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    draft.operator("SOFTMAX", [given], [made], ("SoftmaxOptions", options))
    return bytes(draft.build([given], [made]))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_sound_16_bit_softmax_is_clean(classes: int) -> None:
    scale = 3e-4
    generator = np.random.default_rng(classes)
    flat = generator.uniform(-8, 0, (32, classes)) / scale
    flat[:, 0] = 0  # one class ahead of many small ones: every small error is in its sum
    codes = np.clip(np.round(flat), -32768, 32767).astype(np.int16)
    result = tfldbg.trace(_softmax(classes, scale), data=codes, runtime="reference")
    assert result.verdict == "clean", result.diagnosis.sentence


def _product(kind: str, factors: int, scales: tuple[float, float]) -> bytes:
    """One REDUCE_PROD over the last axis."""
    params = [QuantParams(np.array([s], np.float32), np.array([0], np.int64)) for s in scales]
    draft = Draft()
    given = draft.tensor(kind, (1, 64, factors), quant=params[0])
    axis = draft.constant(np.array([2], np.int32))
    made = draft.tensor(kind, (1, 64), quant=params[1])
    options = schema.ReducerOptionsT()
    draft.operator("REDUCE_PROD", [given, axis], [made], ("ReducerOptions", options))
    return bytes(draft.build([given], [made]))


@pytest.mark.parametrize("kind", ["INT8", "INT16"])
@pytest.mark.parametrize("factors", [2, 3, 5])
def test_a_product_that_is_rounded_after_each_factor_is_clean(kind: str, factors: int) -> None:
    codes = {"INT8": 127, "INT16": 32767}[kind]
    data = np.random.default_rng(factors).integers(-codes, codes + 1, (32, 64, factors))
    file = _product(kind, factors, (1.5 / codes, 1.5**factors / codes))
    given = data.astype(kind.lower())
    result = tfldbg.trace(file, data=given, runtime="reference")
    assert result.verdict == "clean", result.diagnosis.sentence
    # A kernel that leaves out a factor is still seen.
    wrong = _product(kind, factors, (1.5 / codes, 3.0**factors / codes))
    assert tfldbg.trace(file, against=wrong, data=given, runtime="reference").origins == (0,)


def test_weights_and_a_bias_that_changed_places_are_named(samples: Path) -> None:
    file = plant.File((samples / "cnn.tflite").read_bytes())
    op = next(i for i in range(file.count) if file.kind(i) == "CONV_2D")
    given, weights, bias = file.op(op).inputs
    file.op(op).inputs = [given, bias, weights]
    with pytest.raises(RunError, match=f"refused .* at operator {op} CONV_2D"):
        tfldbg.trace(file.save(), samples=1, runtime="reference")


def _from_int16(kind: str, scales: tuple[float, float], to: str, size: int) -> bytes:
    """A file of one operator that reads int16."""
    params = [QuantParams(np.array([s], np.float32), np.array([0], np.int64)) for s in scales]
    draft = Draft()
    given = draft.tensor("INT16", (1, size), quant=params[0])
    made = draft.tensor(to, (1, size), quant=params[1])
    draft.operator(kind, [given], [made])
    return bytes(draft.build([given], [made]))


def _wide(kind: str, scales: tuple[float, float]) -> bytes:
    """QUANTIZE from int16 to int32."""
    return _from_int16(kind, scales, "INT32", 64)


@pytest.mark.parametrize("ratio", [1.0, 37.0, 3445.378, 60000.0])
def test_codes_beyond_24_bits_are_as_exact_as_float32(ratio: float) -> None:
    model = _wide("QUANTIZE", (1.19e-7 * ratio, 1.19e-7))
    codes = np.linspace(-32768, 32767, 256).astype(np.int16).reshape(4, 64)
    result = tfldbg.trace(model, data=codes, runtime="reference")
    assert result.verdict == "clean", result.diagnosis.sentence
    extra = result.evidence.ops[0].bound.extra_lsb[0]
    # Five roundings of 2**-24 of the largest code, which is 32768 times the ratio.
    assert extra == pytest.approx(5 * 2.0**-24 * 32768 * ratio, rel=1e-3)


def test_a_wrong_32_bit_code_is_beyond_what_float32_loses(tmp_path: Path) -> None:
    codes = np.linspace(-32768, 32767, 256).astype(np.int16).reshape(4, 64)
    made = np.round(codes * np.float64(np.float32(0.00041)) / np.float64(np.float32(1.19e-7)))
    model = _wide("QUANTIZE", (0.00041, 1.19e-7))
    for wrong, verdict in ((0, "clean"), (200, "diverged")):
        made[1, 7] += wrong
        np.savez(tmp_path / "device.npz", t0=codes, t1=made.astype(np.int32))
        result = tfldbg.trace(model, against=tmp_path / "device.npz", runtime="reference")
        assert result.verdict == verdict, result.diagnosis.sentence


def _looked_up(kind: str, scales: tuple[float, float]) -> bytes:
    """One int16 function."""
    return _from_int16(kind, scales, "INT16", 256)


TABLES = [
    ("RSQRT", (1.45e-3, 2.77e-5), 512),
    ("RSQRT", (1e-4, 1e-3), 1),
    ("LOG", (3e-3, 3e-4), 1),
    ("LOG", (1e-4, 1e-4), 1000),
    ("EXP", (3e-4, 3e-2), -32768),
]
_REAL = {"RSQRT": lambda x: 1 / np.sqrt(x), "LOG": np.log, "EXP": np.exp}


@pytest.mark.parametrize(("kind", "scales", "lowest"), TABLES)
def test_a_table_is_off_as_much_as_its_straight_lines(
    kind: str, scales: tuple[float, float], lowest: int
) -> None:
    codes = np.unique(np.geomspace(1, 32768 - lowest, 4096).astype(np.int64)) + lowest - 1
    codes = np.resize(codes, (-(-codes.size // 256), 256)).astype(np.int16)
    result = tfldbg.trace(_looked_up(kind, scales), data=codes, runtime="reference", samples=64)
    assert result.verdict == "clean", result.diagnosis.sentence
    (op,) = result.evidence.ops
    assert op.local is not None and op.local.max_lsb is not None
    off = op.bound.extra_lsb[0]
    assert off > 8  # more than any table was allowed to be off
    # Not every code was tried; entries and what lies between them are rounded.
    assert 0.3 * off < op.local.max_lsb < off + 1.5


@pytest.mark.parametrize(("kind", "scales", "lowest"), TABLES[::2])
def test_beyond_its_straight_lines_a_table_is_wrong(
    kind: str, scales: tuple[float, float], lowest: int, tmp_path: Path
) -> None:
    model = _looked_up(kind, scales)
    codes = np.linspace(max(lowest, 4096), 32767, 1024).astype(np.int16).reshape(4, 256)
    real = _REAL[kind](codes.astype(np.float64) * np.float32(scales[0])) / np.float32(scales[1])
    made = np.clip(np.round(real), -32768, 32767)
    extra = tfldbg.trace(model, data=codes, runtime="reference").evidence.ops[0].bound.extra_lsb[0]
    for wrong, verdict in ((0.0, "clean"), (2 * (8 + extra) + 2, "diverged")):
        moved = made.copy()
        moved[1, 7] += wrong if moved[1, 7] < 0 else -wrong
        np.savez(tmp_path / "device.npz", t0=codes, t1=moved.astype(np.int16))
        result = tfldbg.trace(model, against=tmp_path / "device.npz", data=codes)
        assert result.verdict == verdict, (wrong, result.diagnosis.sentence)


RESIZED = 1e-4


def resized(read: int, made: int, half: bool) -> bytes:
    file = File()
    main = file.subgraph()
    given = main.tensor("INT16", [1, read, read, 2], None, RESIZED, 0)
    size = main.tensor("INT32", [2], np.array([made, made], np.int32))
    out = main.tensor("INT16", [1, made, made, 2], None, RESIZED, 0)
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners, options.halfPixelCenters = False, half
    main.operator("RESIZE_BILINEAR", [given, size], [out], options)
    main.ends([given], [out])
    return file.save()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("read", "made"), [(7, 12), (9, 7), (8, 16)])
def test_a_resized_image_stays_within_the_bound(read: int, made: int, half: bool) -> None:
    data = np.random.default_rng(0).choice([-3.2, 3.2], (4, 1, read, read, 2)).astype(np.float32)
    result = tfldbg.trace(resized(read, made, half), data=data)
    (op,) = result.evidence.ops
    assert result.verdict == "clean", result.diagnosis.sentence
    assert op.local is not None and op.local.max_lsb is not None
    # The bound explains something where the places are no multiples of 1/1024, and little else.
    exact = made % read == 0
    assert (max(op.bound.extra_lsb) < 1.0) is exact
    assert exact or op.local.max_lsb > 0.02 * max(op.bound.extra_lsb)


SCALES = st.floats(0.01, 0.05)


@pytest.mark.parametrize("kind", ["EQUAL", "GREATER", "LESS_EQUAL"])
@settings(max_examples=5, deadline=None)
@given(one=SCALES, other=SCALES, seed=st.integers(0, 99))
def test_a_comparison_is_within_its_resolution(
    kind: str, one: float, other: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first = rng.uniform(-1, 1, (4, 1, 64)).astype(np.float32)
    near = first + rng.uniform(-0.02, 0.02, first.shape).astype(np.float32)
    data = {"t0": first, "t1": near}
    result = tfldbg.trace(compared(kind, one, other), data=data)
    assert result.verdict == "clean", result.diagnosis.sentence
