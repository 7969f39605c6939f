"""Models and arrays travel to other processes as files."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tfldbg.rewrite.pieces import ComputedBytes, Pieces
from tfldbg.run import placed
from tfldbg.run.placed import Packed, path_of


def _pieces() -> Pieces:
    def arrays() -> Iterator[np.ndarray]:
        yield np.arange(3, dtype=np.uint8)

    return Pieces((b"model", ComputedBytes(3, arrays)))


WHOLE = b"model\0\1\2"


@pytest.fixture(params=["nameless", "named"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    if request.param == "named":
        monkeypatch.setattr(placed, "_OPEN_FILES", tmp_path / "nowhere")
    return str(request.param)


def test_a_model_is_written_once_and_its_file_ends_with_it(kind: str) -> None:
    content = _pieces()
    path = path_of(content)
    assert path_of(content) == path and Path(path).read_bytes() == WHOLE
    del content
    gc.collect()
    assert not Path(path).exists()


def test_a_model_travels_as_its_path(kind: str) -> None:
    content = _pieces()
    found = pickle.loads(Packed({"model": content}).content)["model"]
    assert isinstance(found, Pieces) and path_of(found) == path_of(content)


def test_a_model_that_goes_to_another_machine_holds_its_bytes() -> None:
    assert bytes(pickle.loads(pickle.dumps(_pieces()))) == WHOLE


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("step", [1, 2])
def test_arrays_arrive_as_they_are(kind: str, size: int, step: int) -> None:
    array = np.arange(2 * size, dtype=np.float32)[::step].reshape(2, -1)
    packed = Packed(array)
    assert np.array_equal(pickle.loads(packed.content), array)
    assert (len(packed.content) < array.nbytes) == (size > 10)


def test_a_part_of_a_mapped_file_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, np.arange(1 << 20, dtype=np.float32).reshape(4, -1))
    part = np.asarray(np.load(path, mmap_mode="r")[1:3])
    packed = Packed(part)
    assert not packed._files and str(path).encode() in packed.content
    assert np.array_equal(pickle.loads(packed.content), part)


def test_a_full_disk_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(file: object) -> None:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        placed.PlacedFile(write)
