"""Folders with a file a sample: pictures and numbered arrays."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfldbg.errors import DataError, MissingExtraError, UsageError
from tfldbg.graph.model import QuantParams, Tensor
from tfldbg.options.run_on import RunOn
from tfldbg.run.folders import picture_files
from tfldbg.run.job import Loaded, load, prepare_samples
from tfldbg.run.labels import read_labels
from tfldbg.run.samples import InputSpec, Samples


@pytest.fixture(scope="module")
def cnn(samples: Path) -> Loaded:
    return load(samples / "cnn.tflite")


def _taking(cnn: Loaded, shape: tuple[int, ...], kind: str, lsb: float | None = None) -> Loaded:
    """Return the description of a model with one input of another shape and type."""
    zero = {"INT8": -128}.get(kind, 0)
    quantized = QuantParams(np.float32([lsb]), np.int64([zero]), 0) if lsb else None
    tensor = Tensor(0, "image", kind, shape, shape, quantized, 0, False, False)
    return replace(cnn, specs=(InputSpec(tensor, ("image",)),))


def _given(loaded: Loaded, data: Any, **options: Any) -> Samples:
    return prepare_samples(loaded, RunOn(data=data, **options))


def _saved(path: Path, values: Any) -> Path:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed here")
    path.parent.mkdir(exist_ok=True, parents=True)
    image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eleven pictures of 8x6 of one colour each, and what is none."""
    for number in range(11):
        _saved(tmp_path / "set" / f"{number}.png", np.full((8, 6, 3), 20 * number))
    (tmp_path / "set" / "._0.png").write_bytes(b"of a Mac")
    (tmp_path / "set" / "readme.txt").write_text("no picture")
    return tmp_path / "set"


def test_pictures_are_read_in_the_order_of_their_numbers(cnn: Loaded, pictures: Path) -> None:
    taking = _taking(cnn, (1, 4, 4, 3), "FLOAT32")
    found = _given(taking, pictures, scale=(-1.0, 1.0))
    assert (found.count, found.held) == (11, 11)
    values = [found.codes(i)[0] for i in range(11)]
    assert all(v.shape == (1, 4, 4, 3) and v.dtype == np.float32 for v in values)
    expected = [20 * n / 127.5 - 1 for n in range(11)]
    np.testing.assert_allclose([v.min() for v in values], expected, atol=1e-6)
    np.testing.assert_allclose([v.max() for v in values], expected, atol=1e-6)
    assert "resized to 4x4" in found.notes[0] and "stand for -1 to 1" in found.notes[1]
    few = _given(taking, pictures, scale=(0.0, 1.0), samples=3)
    assert (few.count, few.held) == (3, 11)


def test_pictures_are_resized_bilinearly_and_not_turned(cnn: Loaded, tmp_path: Path) -> None:
    rows = np.repeat(np.arange(4)[:, None] * 60, 4, 1)
    path = _saved(tmp_path / "one.png", np.stack([rows, rows.T, 0 * rows], -1))
    found = _given(_taking(cnn, (1, 4, 4, 3), "UINT8", 1 / 255), path).codes(0)[0][0]
    assert np.array_equal(found[..., 0], rows) and np.array_equal(found[..., 1], rows.T)
    larger = _given(_taking(cnn, (1, 8, 4, 3), "UINT8", 1 / 255), path).codes(0)[0][0]
    assert larger[:, 0, 0].tolist() == [0, 15, 45, 75, 105, 135, 165, 180]


@pytest.mark.parametrize(("shape", "first"), [((1, 5, 7, 1), False), ((1, 3, 5, 7), True)])
def test_grey_and_channels_first(
    cnn: Loaded, pictures: Path, shape: tuple[int, ...], first: bool
) -> None:
    found = _given(_taking(cnn, shape, "FLOAT32"), pictures, scale=(0.0, 255.0))
    assert found.codes(10)[0].shape == shape
    np.testing.assert_allclose(found.codes(10)[0], 200, atol=1e-3)


def test_codes_and_real_values(cnn: Loaded, pictures: Path) -> None:
    codes = _given(_taking(cnn, (1, 4, 4, 3), "UINT8", 1 / 128), pictures)
    assert codes.codes(7)[0].dtype == np.uint8 and (codes.codes(7)[0] == 140).all()
    real = _given(_taking(cnn, (1, 4, 4, 3), "UINT8", 1 / 128), pictures, scale=(0.0, 1.0))
    assert (real.codes(7)[0] == round(140 / 255 * 128)).all()
    signed = _given(_taking(cnn, (1, 4, 4, 3), "INT8", 1 / 255), pictures, scale=(0.0, 1.0))
    assert (signed.codes(7)[0] == 12).all()


@pytest.mark.parametrize(("lsb", "meant"), [(1 / 255, "0,1"), (1.0, "0,255"), (None, None)])
def test_what_the_values_stand_for_must_be_said(
    cnn: Loaded, pictures: Path, lsb: float | None, meant: str | None
) -> None:
    kind = "FLOAT32" if lsb is None else "INT8"
    with pytest.raises(DataError, match="what 0 and 255 stand for is not known") as caught:
        _given(_taking(cnn, (1, 4, 4, 3), kind, lsb), pictures)
    hint = str(caught.value.hint)
    assert hint.endswith(f": --scale {meant}") if meant else "input range" not in hint


def test_the_first_of_each_class_come_first(cnn: Loaded, tmp_path: Path) -> None:
    for name, count in (("b", 3), ("a", 1), ("c", 2)):
        for number in range(count):
            _saved(tmp_path / "set" / name / f"{number}.jpg", np.full((8, 8, 3), 9 * number))
    names = [str(f.relative_to(tmp_path / "set")) for f in picture_files(tmp_path / "set")]
    assert names == ["a/0.jpg", "b/0.jpg", "c/0.jpg", "b/1.jpg", "c/1.jpg", "b/2.jpg"]
    found = _given(_taking(cnn, (1, 8, 8, 3), "FLOAT32"), tmp_path / "set", scale=(0.0, 1.0))
    labels = read_labels("labels", tmp_path / "set", cnn, found)
    assert labels.classes.tolist() == [0, 1, 2, 1, 2, 1]


def test_what_is_no_picture_is_named(cnn: Loaded, pictures: Path) -> None:
    taking = _taking(cnn, (1, 4, 4, 3), "UINT8", 1 / 255)
    (pictures / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match=r"cannot read the picture '.*5\.png'"):
        _given(taking, pictures)
    assert _given(taking, pictures, samples=5).count == 5
    _saved(pictures / "5.png", np.zeros((8, 6)))
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((4, 4), 60000, np.uint16)).save(pictures / "5.png")
    with pytest.raises(DataError, match="more than 8 bits per channel"):
        _given(taking, pictures)


def test_inputs_that_take_no_pictures(cnn: Loaded, pictures: Path) -> None:
    for shape in ((1, 10), (1, 4, 4, 2), (1, -1, -1, 3)):
        with pytest.raises(DataError, match="holds pictures, and input 'image'"):
            _given(_taking(cnn, shape, "FLOAT32"), pictures)
    two = replace(cnn, specs=cnn.specs * 2)
    with pytest.raises(DataError, match="given to a single input, and the model has 2"):
        _given(two, pictures)


def test_without_pillow(cnn: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="--data with pictures needs the package Pillow"):
        _given(_taking(cnn, (1, 4, 4, 3), "FLOAT32"), tmp_path)


def test_a_picture_that_unpacks_to_too_much(
    cnn: Loaded, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 40)
    with pytest.raises(DataError, match=r"cannot read the picture .* exceeds limit of 40"):
        _given(_taking(cnn, (1, 4, 4, 3), "UINT8", 1 / 255), pictures)


@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 28), (1, 28, 28, 1)])
def test_numbered_arrays_are_samples(cnn: Loaded, tmp_path: Path, shape: tuple[int, ...]) -> None:
    for number in range(12):
        np.save(tmp_path / f"image_{number}.npy", np.full(shape, number / 20, np.float32))
    found = _given(cnn, tmp_path)
    assert (found.count, found.held) == (12, 12)
    assert [v.max() for v in found.real(0, 12)[0]] == pytest.approx([n / 20 for n in range(12)])
    few = _given(cnn, tmp_path, samples=2)
    assert (few.count, few.held) == (2, 12)


def test_numbered_batches_are_samples_too(cnn: Loaded, tmp_path: Path) -> None:
    for number, count in enumerate((3, 2)):
        np.save(tmp_path / f"{number}.npy", np.full((count, 28, 28, 1), number, np.float32))
    found = _given(cnn, tmp_path)
    assert [v.max() for v in found.real(0, 5)[0]] == [0, 0, 0, 1, 1]
    assert _given(cnn, tmp_path, samples=1).held == 5


def test_a_file_that_is_named_is_the_input(cnn: Loaded, tmp_path: Path) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.full((3, 28, 28, 1), number, np.float32))
    found = _given(cnn, tmp_path, inputs={"image": "1"})
    assert found.count == 3 and (found.real(0, 3)[0] > 0.9).all()
    named = replace(cnn, specs=(InputSpec(cnn.specs[0].tensor, ("0",)),))
    assert (_given(named, tmp_path).real(0, 3)[0] < 0.1).all()


def test_numbered_arrays_that_do_not_fit(cnn: Loaded, tmp_path: Path) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.zeros((27, 28, 1), np.float32))
    with pytest.raises(DataError, match=r"no array in .* for input 'image'"):
        _given(cnn, tmp_path)


IMAGES = np.zeros((5, 28, 28, 1), np.float32)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (IMAGES[0], r"one sample, without the axis .* x\[numpy.newaxis\]"),
        (np.zeros((5, 8, 6, 3), np.uint8), "first axis counts samples"),
        (np.zeros((5, 3, 8, 6), np.float32), r"channels come first.*moveaxis\(x, 1, -1\)"),
    ],
)
def test_how_other_arrays_would_fit(cnn: Loaded, data: np.ndarray, hint: str) -> None:
    taking = cnn if data.ndim == 3 or data.shape[1] == 8 else _taking(cnn, (1, 8, 6, 3), "FLOAT32")
    with pytest.raises(DataError) as caught:
        _given(taking, data)
    assert re.search(hint, str(caught.value.hint)), caught.value.hint
    last = _taking(cnn, (1, 3, 8, 6), "FLOAT32")
    with pytest.raises(DataError) as caught:
        _given(last, np.zeros((2, 8, 6, 3), np.float32))
    assert "channels come last" in str(caught.value.hint)


def test_bytes_for_an_input_of_real_values(cnn: Loaded) -> None:
    data = np.full((2, 28, 28, 1), 51, np.uint8)
    found = _given(_taking(cnn, (1, 28, 28, 1), "FLOAT32"), data)
    assert (found.codes(0)[0] == 51).all() and "--scale" in found.notes[0]
    scaled = _given(_taking(cnn, (1, 28, 28, 1), "FLOAT32"), data, scale=(0.0, 1.0))
    assert np.allclose(scaled.codes(0)[0], 0.2) and "stand for 0 to 1" in scaled.notes[0]
    with pytest.raises(DataError, match="is uint8") as caught:
        _given(cnn, data)
    assert "--scale" in str(caught.value.hint)
    assert np.allclose(_given(cnn, data, scale=(0.0, 1.0)).real(0, 1)[0], 0.2, atol=0.01)


@pytest.mark.parametrize(
    ("data", "scale", "words"),
    [
        (IMAGES, (0.0, 1.0), "maps 0 to 255 of uint8 data"),
        (None, (0.0, 1.0), "--scale needs data"),
    ],
)
def test_a_scale_without_anything_to_scale(
    cnn: Loaded, data: Any, scale: tuple[float, float], words: str
) -> None:
    with pytest.raises((DataError, UsageError), match=words):
        _given(cnn, data, scale=scale)
