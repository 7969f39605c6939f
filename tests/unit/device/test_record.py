"""The script that is copied to devices."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg import quant
from tfldbg.device import record
from tfldbg.reference.capture import open_capture

SOURCE = Path(record.__file__).read_text()


def _input(shape: tuple[int, ...], dtype: str = "int8", scale: float | None = 0.1) -> dict:
    quantization = {"scales": np.float32([scale]), "zero_points": np.array([-3])}
    empty = {"scales": np.array([]), "zero_points": np.array([])}
    return {
        "name": "serving_default_x:0",
        "index": 4,
        "shape": np.array(shape),
        "shape_signature": np.array(shape),
        "dtype": np.dtype(dtype).type,
        "quantization_parameters": empty if scale is None else quantization,
    }


def test_it_needs_nothing_but_numpy_and_runs_on_old_pythons() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names) | {"numpy"}


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
    st.floats(2**-10, 2, width=32),
    st.integers(-128, 127),
)
def test_real_units_become_the_codes_that_tfldbg_gives(
    values: list[float], scale: float, zero_point: int
) -> None:
    details = _input((1, 1), scale=scale)
    details["quantization_parameters"]["zero_points"] = np.array([zero_point])
    real = np.float32(values).reshape(-1, 1)
    expected = quant.Affine(float(np.float32(scale)), zero_point).quantize(real, "INT8")
    assert np.array_equal(record.as_codes(details, real, "x"), expected)


def test_an_input_is_found_by_its_names_or_by_its_shape() -> None:
    codes = np.zeros((5, 4), np.int8)
    for key in ("serving_default_x:0", "x", "tensor 4", "any"):
        other = np.zeros((5, 7), np.int8)
        chosen = record.choose_arrays([_input((1, 4))], {"other": other, key: codes}, "d.npz")
        assert chosen[0].shape == (5, 4)


@pytest.mark.parametrize(
    ("details", "arrays", "words"),
    [
        (_input((1, 4)), {"y": np.zeros((5, 3), np.int8)},
         ["input 'x'", "(samples, 4) int8", "'y' (5, 3) int8"]),
        (_input((1, 4)), {}, ["found nothing"]),
        (_input((1, 4)), {"x": np.zeros((5, 4), np.int16)}, ["is int16", "takes int8"]),
        (_input((1, 4), scale=None), {"x": np.zeros((5, 4), np.float32)}, ["takes int8", "codes"]),
        (_input((1, 4)), {"x": np.full((5, 4), np.nan)}, ["NaN"]),
        (_input((1, 4)), {"x": np.zeros((0, 4), np.int8)}, ["hold 0 samples"]),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused(details: dict, arrays: dict, words: list[str]) -> None:
    with pytest.raises(record.DeviceError) as caught:
        record.choose_arrays([details], arrays, "d.npz")
    for word in words:
        assert word in str(caught.value)
    assert "hint:" in str(caught.value)


def test_names_that_are_missing_shared_or_unfit_go_by_their_index(tmp_path: Path) -> None:
    names = {
        0: "file",
        1: "",
        2: "twice",
        3: "twice",
        4: "a/b:0",
        5: "nul\0l",
        6: "x" * 70000,
        7: "tensor 4",
        8: "../a",
        9: "a\\..\\b",
        10: "..",
        11: "/a..b/c",
    }
    keys = record.array_keys(names)
    assert [keys[i] for i in names] == [
        "file", "tensor 1", "tensor 2", "tensor 3", "a/b:0", "tensor 5", "tensor 6", "tensor 7",
        "tensor 8", "tensor 9", "tensor 10", "/a..b/c",
    ]  # fmt: skip
    path = tmp_path / "device.npz"
    with record.Spool(str(path)) as spool:
        for sample in range(3):
            for index in names:
                assert spool.append(index, np.full((1, 2), 10 * index + sample, np.int16))
        assert not spool.append(1, np.zeros((1, 3), np.int16))
        spool.finish(keys)
    assert list(tmp_path.iterdir()) == [path]
    with open_capture(path) as capture:
        assert [(t.name, t.index) for t in capture.tensors[:3]] == [
            ("file", None), ("", 1), ("", 2),
        ]  # fmt: skip
        assert capture.samples == 3
        assert capture.stored(capture.tensors[4], 1, 3).tolist() == [[[41, 41]], [[42, 42]]]


def test_nothing_is_left_behind_by_a_run_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError), record.Spool(str(tmp_path / "device.npz")) as spool:
        spool.append(1, np.zeros(2, np.int8))
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, inputs = tmp_path / "m.tflite", tmp_path / "x.npz"
    model.write_bytes(b"model")
    inputs.write_bytes(b"inputs")
    for output in (model, inputs, tmp_path):
        assert record.main([str(model), str(inputs), "-o", str(output)]) == 2
        assert "hint: name a" in capsys.readouterr().err
    assert (model.read_bytes(), inputs.read_bytes()) == (b"model", b"inputs")
