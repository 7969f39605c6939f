"""The pattern of an error: kernels that are wrong in one way, emulated, against the file's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfldbg
from tests.planted import plants
from tfldbg.graph.model import QuantParams
from tfldbg.rewrite.draft import Draft

SAMPLES = 12
ZERO_IN, ZERO_OUT = -7, 11
SCALE_IN = 0.02


@dataclass(frozen=True)
class Layer:
    """A convolution with SAME padding, or a FULLY_CONNECTED, of int8 codes."""

    kind: str
    shape: tuple[int, int, int]
    window: int = 3
    stride: int = 1
    units: int = 5
    seed: int = 0
    spread: float = 4.0
    """Of the channels' scales."""

    @property
    def weights(self) -> np.ndarray:
        """(units, ...) codes."""
        rng = np.random.default_rng(self.seed)
        inner = (np.prod(self.shape),) if self.kind == "FULLY_CONNECTED" else ()
        inner = inner or (self.window, self.window, self.shape[2])
        return rng.integers(-127, 128, (self.units, *inner)).astype(np.int8)

    @property
    def scales(self) -> np.ndarray:
        """(units,) in no order."""
        rng = np.random.default_rng(self.seed + 1)
        return (0.002 * np.exp(rng.uniform(0, np.log(self.spread), self.units))).astype(np.float32)

    @property
    def bias(self) -> np.ndarray:
        return np.random.default_rng(self.seed + 2).integers(-900, 900, self.units).astype(np.int32)

    @property
    def counts(self) -> tuple[int, int]:
        """Height and width of the output."""
        return -(-self.shape[0] // self.stride), -(-self.shape[1] // self.stride)

    def data(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed + 3)
        return rng.integers(-128, 128, (SAMPLES, *self.shape)).astype(np.int8)

    def given(self) -> np.ndarray:
        """The data in the shape that the file takes."""
        codes = self.data()
        return codes.reshape(SAMPLES, -1) if self.kind == "FULLY_CONNECTED" else codes

    def sums(self, *, zero: int = ZERO_IN, behind: str = "padding") -> np.ndarray:
        """(samples, ..., units) int64 sums of products with the bias.

        Args:
            zero: What is subtracted from the codes of the input.
            behind: What a window reads beyond the last row and column, or the first ones.
        """
        codes = self.data().astype(np.int64)
        weights = self.weights.astype(np.int64)
        if self.kind == "FULLY_CONNECTED":
            flat = codes.reshape(SAMPLES, -1) - zero
            return np.asarray(flat @ weights.T + self.bias)
        total = [
            max((n - 1) * self.stride + self.window - size, 0)
            for n, size in zip(self.counts, self.shape, strict=False)
        ]
        ends = [(t // 2, t - t // 2) for t in total]
        padded = np.pad(codes, [(0, 0), *ends, (0, 0)], constant_values=ZERO_IN)
        noise = np.random.default_rng(9).integers(-128, 128, padded.shape)
        (top, bottom), (_, right) = ends
        height, width = padded.shape[1:3]
        if behind == "last":
            padded[:, height - bottom :] = noise[:, height - bottom :]
            padded[:, :, width - right :] = noise[:, :, width - right :]
        elif behind == "first row":
            padded[:, :top] = noise[:, :top]
        made = np.zeros((SAMPLES, *self.counts, self.units), np.int64)
        for y in range(self.counts[0]):
            for x in range(self.counts[1]):
                rows, columns = y * self.stride, x * self.stride
                part = padded[:, rows : rows + self.window, columns : columns + self.window] - zero
                made[:, y, x] = np.einsum("nhwc,ohwc->no", part, weights)
        return np.asarray(made + self.bias)

    @property
    def scale_out(self) -> float:
        """Such that hardly any value is clipped."""
        return float(np.abs(self.sums() * (SCALE_IN * self.scales)).max() / 100)

    def codes(self, sums: np.ndarray, scales: np.ndarray | None = None) -> np.ndarray:
        """Requantize sums with some scales, the layer's own by default."""
        real = sums * (SCALE_IN * np.asarray(self.scales if scales is None else scales, np.float64))
        return np.clip(np.round(real / self.scale_out) + ZERO_OUT, -128, 127).astype(np.int8)

    def file(self) -> bytes:
        def params(scale: Any, zero: int) -> QuantParams:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            return QuantParams(scales, np.full(scales.size, zero, np.int64))

        draft = Draft()
        dense = self.kind == "FULLY_CONNECTED"
        read = (1, int(np.prod(self.shape))) if dense else (1, *self.shape)
        given = draft.tensor("INT8", read, quant=params(SCALE_IN, ZERO_IN))
        weights = self.weights
        held = draft.tensor("INT8", weights.shape, quant=params(self.scales, 0), values=weights)
        of_bias = params(SCALE_IN * self.scales, 0)
        bias = draft.tensor("INT32", (self.units,), quant=of_bias, values=self.bias)
        shape = (1, self.units) if dense else (1, *self.counts, self.units)
        made = draft.tensor("INT8", shape, quant=params(self.scale_out, ZERO_OUT))
        draft.operator(self.kind, [given, held, bias], [made], self._options())
        return bytes(draft.build([given], [made]))

    def _options(self) -> tuple[str, Any]:
        if self.kind == "FULLY_CONNECTED":
            return "FullyConnectedOptions", schema.FullyConnectedOptionsT()
        options = schema.Conv2DOptionsT()
        options.padding = schema.Padding.SAME
        options.strideH = options.strideW = self.stride
        options.dilationHFactor = options.dilationWFactor = 1
        return "Conv2DOptions", options


DENSE = Layer("FULLY_CONNECTED", (4, 5, 2))
STRIDED = Layer("CONV_2D", (8, 8, 2), stride=2)
WIDE = Layer("CONV_2D", (8, 20, 2), window=3, units=4, seed=1)
LARGE = Layer("CONV_2D", (9, 7, 3), window=5, units=6, seed=2)


def told(layer: Layer, recorded: np.ndarray, tmp_path: Path) -> tuple[str, str] | None:
    """Trace against a recording; return code and message of the cause, None where it is clean."""
    np.savez(tmp_path / "device.npz", t3=recorded)
    result = tfldbg.trace(
        layer.file(), against=tmp_path / "device.npz", data=layer.given(), runtime="reference"
    )
    if result.verdict == "clean":
        return None
    assert result.cause is not None, result.diagnosis.sentence
    return result.cause.code, result.cause.message


@pytest.mark.parametrize("layer", [DENSE, LARGE])
def test_a_sound_recording_is_clean_and_checked_on_the_data(layer: Layer, tmp_path: Path) -> None:
    assert told(layer, layer.codes(layer.sums()), tmp_path) is None


@plants("TFL059")
@pytest.mark.parametrize("layer", [STRIDED, LARGE])
def test_an_edge_that_is_computed_from_what_lies_behind_the_input(
    layer: Layer, tmp_path: Path
) -> None:
    code, message = told(layer, layer.codes(layer.sums(behind="last")), tmp_path) or ("", "")
    assert code == "TFL059" and "the padding. That explains 99.99%" in message
    rows = "last 2 rows and last 2 columns" if layer.window == 5 else "last row and last column"
    assert f"only the {rows} of its output are wrong" in message
    if layer.stride == 1:
        code, message = told(layer, layer.codes(layer.sums(behind="first row")), tmp_path) or (
            "",
            "",
        )
        assert code == "TFL059" and "only the first " in message and "column" not in message


@plants("TFL060")
@pytest.mark.parametrize(
    ("layer", "which", "place"), [(DENSE, "first", 0), (STRIDED, "first", 0), (WIDE, "last", -1)]
)
def test_one_channels_scale_for_all(layer: Layer, which: str, place: int, tmp_path: Path) -> None:
    scales = np.full(layer.units, layer.scales[place])
    code, message = told(layer, layer.codes(layer.sums(), scales), tmp_path) or ("", "")
    assert code == "TFL060" and "the recording holds what results" in message
    assert (
        f"scale of its {which} channel is used for all" in message
        or "the largest weight" in message
    )


def test_factors_that_no_scale_of_the_file_makes(tmp_path: Path) -> None:
    layer = STRIDED
    factors = layer.scales * np.array([0.3, 0.9, 0.5, 0.7, 1.0])
    code, message = told(layer, layer.codes(layer.sums(), factors), tmp_path) or ("", "")
    assert code == "TFL060" and "its own factor, 0.298 to 1, as by a wrong scale" in message


@plants("TFL061")
@pytest.mark.parametrize("layer", [DENSE, WIDE])
def test_a_zero_point_that_is_left_out(layer: Layer, tmp_path: Path) -> None:
    if layer.kind == "CONV_2D":
        recorded = layer.codes(_padded_with_nothing(layer))
    else:
        recorded = layer.codes(layer.sums(zero=0))
    code, message = told(layer, recorded, tmp_path) or ("", "")
    assert code == "TFL061" and f"the zero point {ZERO_IN} of its input is left out" in message


def _padded_with_nothing(layer: Layer) -> np.ndarray:
    """Sums of a kernel that skips what lies beyond the input and leaves out the zero point."""
    reached = _convolved(layer, np.ones((SAMPLES, *layer.shape), np.int64))
    return np.asarray(layer.sums() + ZERO_IN * reached)


def _convolved(layer: Layer, values: np.ndarray) -> np.ndarray:
    """(samples, height, width, units) the sums of the weights that meet the input."""
    total = [
        max((n - 1) * layer.stride + layer.window - size, 0)
        for n, size in zip(layer.counts, layer.shape, strict=False)
    ]
    padded = np.pad(values, [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)])
    made = np.zeros((SAMPLES, *layer.counts, layer.units), np.int64)
    for y, x in np.ndindex(*layer.counts):
        rows, columns = y * layer.stride, x * layer.stride
        part = padded[:, rows : rows + layer.window, columns : columns + layer.window]
        made[:, y, x] = np.einsum("nhwc,ohwc->no", part, layer.weights.astype(np.int64))
    return made


def test_constants_that_no_zero_point_makes(tmp_path: Path) -> None:
    layer = STRIDED
    offsets = np.array([900, -700, 0, 400, -300]) * 20
    code, message = told(layer, layer.codes(layer.sums() + offsets), tmp_path) or ("", "")
    assert code == "TFL061" and "its own constant is added to each channel" in message


@pytest.mark.parametrize("layer", [DENSE, WIDE])
def test_another_error_is_no_pattern(layer: Layer, tmp_path: Path) -> None:
    recorded = layer.codes(layer.sums())
    wrong = np.random.default_rng(3).permutation(recorded.reshape(-1)).reshape(recorded.shape)
    np.savez(tmp_path / "device.npz", t3=wrong)
    result = tfldbg.trace(
        layer.file(), against=tmp_path / "device.npz", data=layer.given(), runtime="reference"
    )
    assert result.verdict == "diverged" and not result.evidence.patterns


def test_single_wrong_values_are_no_edge(tmp_path: Path) -> None:
    layer = WIDE
    recorded = layer.codes(layer.sums())
    recorded[0, -1, 3, 1] ^= 0x40
    np.savez(tmp_path / "device.npz", t3=recorded)
    result = tfldbg.trace(
        layer.file(), against=tmp_path / "device.npz", data=layer.given(), runtime="reference"
    )
    assert result.verdict == "diverged" and not result.evidence.patterns
