"""Labels in all their forms, and what is said when they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tfldbg.errors import DataError
from tfldbg.options.run_on import RunOn
from tfldbg.run.job import Loaded, load, prepare_samples
from tfldbg.run.labels import Labels, read_labels
from tfldbg.run.samples import Samples

Read = Callable[..., Labels]
CLASSES = np.arange(300) % 10


@pytest.fixture(scope="module")
def cnn(samples: Path) -> Loaded:
    return load(samples / "cnn.tflite")


@pytest.fixture(scope="module")
def digits(cnn: Loaded, samples: Path) -> Samples:
    return prepare_samples(cnn, RunOn(data=samples / "digits.npz", samples=8))


@pytest.fixture
def read(cnn: Loaded, digits: Samples, samples: Path) -> Read:
    def get(given: object, data: object = samples / "digits.npz", of: Samples = digits) -> Labels:
        return read_labels(given, data, cnn, of)  # type: ignore[arg-type]

    return get


def test_every_form_of_labels_is_the_same(
    read: Read, cnn: Loaded, samples: Path, tmp_path: Path
) -> None:
    right = np.load(samples / "digits.npz")["labels"]
    np.save(tmp_path / "a.npy", right)
    np.savez(tmp_path / "one.npz", y=right)
    np.savez(tmp_path / "two.npz", y=right, z=right[::-1])
    np.save(tmp_path / "hot.npy", np.eye(10, dtype=np.float32)[right])
    output = cnn.subgraph.tensors[cnn.subgraph.outputs[0]]
    assert cnn.signature is not None
    forms = [
        "labels",
        tmp_path / "a.npy",
        str(tmp_path / "one.npz"),
        f"{tmp_path / 'two.npz'}:y",
        tmp_path / "hot.npy",
        right,
        right.astype(np.int64)[:, None],
        f"{output.name}=labels",
        f"{next(iter(cnn.signature.outputs))}=labels",
    ]
    for form in forms:
        found = read(form)
        assert np.array_equal(found.classes, right), form
        assert (found.output, found.count) == (output.index, 10)
    assert np.array_equal(read("y", {"x": np.zeros((300, 28, 28)), "y": right}).classes, right)


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("lables", "holds 'x', 'labels'", "--labels takes"),
        ("nothing=labels", "outputs are 'quant_probabilities'", "--labels takes"),
        ("x", r"\(300, 28, 28\) float32; expected integer", "astype"),
        (CLASSES.astype(float), "float64; expected integer", "astype"),
        (CLASSES[:64], "64 labels, but 300 samples", "one label per sample"),
        (CLASSES + 1, "sample 9 is 10, but the output has 10 classes", "count from 0"),
        (CLASSES - 1, "sample 0 is -1, but", "count from 0"),
        (np.eye(11)[CLASSES], "labels of 11 classes", "OUTPUT=LABELS"),
    ],
)
def test_what_does_not_fit_is_explained(read: Read, given: object, message: str, hint: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(given)
    assert caught.value.hint is not None and hint in caught.value.hint


def test_archives_of_several_arrays_need_a_key(read: Read, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", y=CLASSES, z=CLASSES)
    with pytest.raises(DataError, match="holds 2 arrays: 'y', 'z'"):
        read(tmp_path / "two.npz")
    with pytest.raises(DataError, match="no array 'q'; it holds 'y', 'z'"):
        read(f"{tmp_path / 'two.npz'}:q")


def test_random_samples_have_no_right_class(read: Read, digits: Samples) -> None:
    with pytest.raises(DataError, match="random samples"):
        read(CLASSES, None, replace(digits, source="random"))


def test_a_recording_may_be_of_the_first_of_the_labelled_samples(
    read: Read, digits: Samples
) -> None:
    assert len(read(CLASSES, None, digits).classes) == 300
    with pytest.raises(DataError, match="5 labels"):
        read(CLASSES[:5], None, digits)
