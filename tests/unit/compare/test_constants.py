"""Constants of two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from sample_models import plant
from tests.loop_file import File
from tfldbg.compare.constants.checks import half_spacing
from tfldbg.compare.constants.files import Holder, compare_constants
from tfldbg.graph.load import load_graph

CONV, DEPTHWISE = 8, 1


def _holder(data: bytes) -> Holder:
    graph = load_graph(data)
    return Holder(graph, graph.main)


def _compare(samples: Path, change: plant.Change | None, op: int) -> object:
    good = (samples / "cnn.tflite").read_bytes()
    file = plant.File(good)
    if change is not None:
        change(file, op)
    broken, sound = _holder(file.save()), _holder(good)
    ops = (side.subgraph.operators[op] for side in (broken, sound))
    return compare_constants(broken, next(ops), sound, next(ops))


@pytest.mark.parametrize("op", [CONV, DEPTHWISE])
def test_equal_constants_do_not_differ(op: int, samples: Path) -> None:
    check, rounded = _compare(samples, None, op)  # type: ignore[misc]
    assert check.max_steps == 0 and not check.differ and not check.bias.differ
    assert rounded == {}


@pytest.mark.parametrize("op", [CONV, DEPTHWISE])
def test_one_code_of_one_channel_is_named(op: int, samples: Path) -> None:
    def change(file: plant.File, index: int) -> None:
        weights = file.values(index, 1)
        place = (0, 0, 0, 3) if index == DEPTHWISE else (3, 0, 0, 0)
        weights[place] += 1 if weights[place] < 100 else -1
        file.set_values(index, 1, weights)

    check, rounded = _compare(samples, change, op)  # type: ignore[misc]
    assert check.differ and check.wrong == 1 and check.worst_channel == 3
    assert check.max_steps == pytest.approx(1.0, rel=1e-4)
    assert rounded == {}


def test_a_bias_is_told_apart_from_the_weights(samples: Path) -> None:
    def change(file: plant.File, index: int) -> None:
        bias = file.values(index, 2)
        bias[5] += np.int32(9)
        file.set_values(index, 2, bias)

    check, _ = _compare(samples, change, CONV)  # type: ignore[misc]
    assert not check.differ
    assert check.bias.differ and check.bias.worst_channel == 5 and check.bias.wrong == 1


def _largest(quantized: bool, least: float) -> bytes:
    """MAXIMUM with a constant, in float or in int8."""
    file = File()
    main = file.subgraph()
    kind = "INT8" if quantized else "FLOAT32"
    params = {"scale": 0.05, "zero_point": 3} if quantized else {}
    values = np.array([least], np.float32)
    if quantized:
        values = np.clip(np.round(values / np.float32(0.05)) + 3, -128, 127).astype(np.int8)
    x, y = (main.tensor(kind, [1, 8], **params) for _ in range(2))
    held = main.tensor(kind, [1], values, **params)
    main.operator("MAXIMUM", [x, held], [y], schema.MaximumMinimumOptionsT())
    main.ends([x], [y])
    return file.save()


@pytest.mark.parametrize("least", [-np.inf, -1e9, -2.0])
def test_what_lies_below_every_code_is_the_lowest(least: float) -> None:
    sides = [_holder(_largest(quantized, least)) for quantized in (True, False)]
    ops = [side.subgraph.operators[0] for side in sides]
    check, _ = compare_constants(sides[0], ops[0], sides[1], ops[1])
    assert check is not None and not check.differ and np.isfinite(check.max_steps)


def test_another_least_value_differs() -> None:
    sides = [_holder(_largest(True, -1.0)), _holder(_largest(False, -2.0))]
    ops = [side.subgraph.operators[0] for side in sides]
    check, _ = compare_constants(sides[0], ops[0], sides[1], ops[1])
    assert check is not None and check.differ and check.max_steps == pytest.approx(20, rel=1e-4)


@given(st.floats(-60000.0, 60000.0, width=32))
def test_float16_moves_a_value_by_half_its_spacing(value: float) -> None:
    """Below 2**-14, too, where the spacing no longer shrinks."""
    values = np.array([value, value * 2.0**-30])
    off = np.abs(values.astype(np.float16).astype(np.float64) - values)
    assert (off <= 0.5 * half_spacing(values)).all()


def _wide(codes: np.ndarray, kind: str) -> Holder:
    """A FULLY_CONNECTED with int8 weights, its activations of a type."""
    file = File()
    main = file.subgraph()
    scale = 0.1 if kind == "INT8" else None
    x = main.tensor(kind, [1, codes.shape[1]], None, scale)
    out = main.tensor(kind, [1, len(codes)], None, scale)
    weights = main.tensor("INT8", list(codes.shape), codes, 0.02)
    main.operator("FULLY_CONNECTED", [x, weights, -1], [out], schema.FullyConnectedOptionsT())
    main.ends([x], [out])
    return _holder(file.save())


@pytest.mark.parametrize(
    ("count", "kind", "differs"),
    [(1, "FLOAT32", False), (2, "FLOAT32", True), (1, "INT8", True)],
)
def test_two_quantizers_may_round_a_tie_to_either_side(
    count: int, kind: str, differs: bool
) -> None:
    """Of 40,000 weights one may be so near to a tie, and only where different code rounded it."""
    codes = np.random.default_rng(0).integers(-100, 100, (200, 200)).astype(np.int8)
    moved = codes.copy()
    moved[0, :count] += 1
    traced, reference = _wide(moved, "INT8"), _wide(codes, kind)
    ops = (side.subgraph.operators[0] for side in (traced, reference))
    check, _ = compare_constants(traced, next(ops), reference, next(ops))
    assert check is not None
    assert check.differ is differs
