"""Input data in all its forms, and what is said when it does not fit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfldbg.device import record
from tfldbg.errors import CaptureError, DataError, UsageError
from tfldbg.graph.model import Tensor
from tfldbg.options.run_on import RunOn
from tfldbg.reference.capture import open_capture
from tfldbg.run.job import Loaded, load, prepare_samples
from tfldbg.run.samples import Samples, input_shape, read_arrays


@pytest.fixture(scope="module")
def cnn(samples: Path) -> Loaded:
    return load(samples / "cnn.tflite")


def _given(cnn: Loaded, data: object, **options: object) -> Samples:
    return prepare_samples(cnn, RunOn(data=data, **options))  # type: ignore[arg-type]


IMAGES = np.linspace(0, 1, 5 * 28 * 28, dtype=np.float32).reshape(5, 28, 28, 1)


def test_every_form_of_data_gives_the_same_samples(cnn: Loaded, tmp_path: Path) -> None:
    np.savez(tmp_path / "named.npz", image=IMAGES, labels=np.arange(5))
    np.savez(tmp_path / "single.npz", x=IMAGES)
    np.save(tmp_path / "array.npy", IMAGES)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "image.npy", IMAGES)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["image"] = IMAGES
    forms = [tmp_path / n for n in ("named.npz", "single.npz", "array.npy", "folder", "data.h5")]
    expected = _given(cnn, IMAGES)
    for form in [*forms, {"image": IMAGES}, IMAGES[..., 0], IMAGES.astype(np.float64)]:
        found = _given(cnn, form)
        assert found.count == 5
        assert np.array_equal(found.codes(3)[0], expected.codes(3)[0])
        assert found.codes(3)[0].shape == (1, 28, 28, 1)


def test_float_data_is_quantized_with_rounding(cnn: Loaded) -> None:
    tensor = cnn.specs[0].tensor
    assert tensor.lsb is not None and tensor.zero_point is not None
    codes = np.arange(-128, 128)[:, None, None, None] * np.ones((1, 28, 28, 1), np.int64)
    real = ((codes - tensor.zero_point) * tensor.lsb).astype(np.float32)
    samples = _given(cnn, real, samples=256)
    found = [samples.codes(i)[0][0, 0, 0, 0] for i in range(256)]
    assert found == list(range(-128, 128))


def test_integer_data_in_the_inputs_type_is_taken_as_codes(cnn: Loaded) -> None:
    codes = np.full((2, 28, 28, 1), 7, np.int8)
    samples = _given(cnn, codes)
    assert (samples.codes(0)[0] == 7).all()
    tensor = cnn.specs[0].tensor
    assert tensor.lsb is not None and tensor.zero_point is not None
    assert samples.real(0, 1)[0].max() == pytest.approx((7 - tensor.zero_point) * tensor.lsb)


def test_an_array_can_be_named(cnn: Loaded, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=IMAGES, b=IMAGES * 0)
    with pytest.raises(DataError, match=r"no array in .* for input 'image'") as caught:
        _given(cnn, tmp_path / "two.npz")
    assert caught.value.hint is not None and "--input 'image=KEY'" in caught.value.hint
    chosen = _given(cnn, tmp_path / "two.npz", inputs={"image": "b"})
    assert np.ptp(chosen.codes(4)[0]) == 0


def test_the_number_of_samples_is_limited(cnn: Loaded) -> None:
    assert _given(cnn, IMAGES, samples=2).count == 2


def test_random_samples_are_seeded_and_cover_the_codes(cnn: Loaded) -> None:
    one, two, other = (_given(cnn, None, seed=s, samples=8) for s in (1, 1, 2))
    assert one.source == "random"
    assert np.array_equal(one.codes(5)[0], two.codes(5)[0])
    assert not np.array_equal(one.codes(5)[0], other.codes(5)[0])
    every = np.concatenate([one.codes(i)[0].ravel() for i in range(8)])
    assert every.min() == -128 and every.max() == 127


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            np.zeros((4, 27, 28, 1), np.float32),
            r"\(samples, 28, 28, 1\) int8.*found \(4, 27, 28, 1\)",
        ),
        (np.zeros((4, 28, 28, 1), np.uint8), "is uint8, but input 'image'"),
        (np.zeros((0, 28, 28, 1), np.float32), "holds no samples"),
        (
            np.where(IMAGES > 0.5, np.nan, IMAGES),
            "NaN or infinite values for input 'image', the first in sample 2",
        ),
    ],
)
def test_data_that_does_not_fit_is_described(cnn: Loaded, data: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        _given(cnn, data)


def test_missing_and_strange_files(cnn: Loaded, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        _given(cnn, tmp_path / "nothing.npz")
    (tmp_path / "data.txt").write_text("1 2 3")
    with pytest.raises(DataError, match="is not a data file: expected"):
        _given(cnn, tmp_path / "data.txt")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read the data"):
        _given(cnn, tmp_path / "pickle.npy")


def test_a_wrong_signature_is_refused(samples: Path) -> None:
    with pytest.raises(UsageError, match="no signature"):
        load(samples / "cnn.tflite", "train")


@pytest.mark.parametrize(
    ("expected", "found", "shape"),
    [
        ((28, 28, 1), (28, 28), (28, 28, 1)),
        ((28, 28, 1), (1, 28, 28), (28, 28, 1)),
        ((-1, 3), (1, 3), (1, 3)),
        ((-1, 3), (1, 1, 3), (1, 3)),
        ((-1, 3), (3,), (1, 3)),
        ((-1, 3), (5, 3), (5, 3)),
        ((-1, -1), (), (1, 1)),
        ((), (1, 1), ()),
        ((-1, 3), (5, 2), None),
        ((-1, 3), (5, 5, 3), None),
        ((2, 3), (3, 2), None),
        ((0, 3), (0, 3), (0, 3)),
    ],
)
def test_dimensions_of_one_may_be_there_or_not(
    expected: tuple[int, ...], found: tuple[int, ...], shape: tuple[int, ...] | None
) -> None:
    stated = (1, *(1 if size < 0 else size for size in expected))
    tensor = Tensor(0, "x", "FLOAT32", stated, (-1, *expected), None, 0, False, False)
    assert input_shape(tensor, found) == (None if shape is None else (1, *shape))
    details = {"shape": np.array(stated), "shape_signature": np.array((-1, *expected))}
    assert record.input_shape(details, found) == input_shape(tensor, found)


@pytest.mark.parametrize(
    "header",
    [b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,\n", b"{'descr': (", b"[1]", b"{1: 2}"],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_damaged_header_is_refused(tmp_path: Path, header: bytes, suffix: str) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    path = tmp_path / f"data.{suffix}"
    if suffix == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(DataError, match="cannot read the data"):
        read_arrays(path)
    if suffix == "npz":
        with pytest.raises(CaptureError, match="cannot read the recording"):
            open_capture(path)
