"""Chunks are what HDF5's own gzip filter reads."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.store import packed
from tfldbg.store.packed import LEVEL, Packer, rows_of_chunk, unpacked


@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from([np.int8, np.int16, np.float32]))
def test_hdf5_reads_chunks_that_threads_have_compressed(
    tmp_path_factory: pytest.TempPathFactory, count: int, rows: int, dtype: type
) -> None:
    values = np.random.default_rng(count).normal(0, 9, (count, 3, 5)).astype(dtype)
    packer = Packer()
    (chunks,) = packer.pack([values], [rows])
    packer.close()
    target = tmp_path_factory.mktemp("packed") / "file.h5"
    with h5py.File(target, "w") as file:
        made = file.create_dataset(
            "x",
            shape=values.shape,
            dtype=dtype,
            chunks=(rows, 3, 5),
            maxshape=(None, 3, 5),
            compression="gzip",
            compression_opts=LEVEL,
        )
        for number, chunk in enumerate(chunks):
            made.id.write_direct_chunk((number * rows, 0, 0), chunk)
    with h5py.File(target) as file:
        assert file["x"][()].tobytes() == values.tobytes()
    back = np.zeros_like(values)
    for number, chunk in enumerate(chunks):
        unpacked(chunk, back[number * rows :][:rows], rows)
    assert back.tobytes() == values.tobytes()


@given(st.integers(1, 64), st.integers(1, 1 << 21))
def test_batches_are_whole_numbers_of_chunks(samples: int, size: int) -> None:
    rows = rows_of_chunk(np.empty((samples, size), np.int8))
    assert samples % rows == 0
    assert rows == 1 or rows * size <= 1 << 20


def test_without_the_faster_library_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    fast = packed.checksum([b"12", b"3"])
    monkeypatch.setitem(sys.modules, "isal", None)
    assert packed._zlib() is zlib
    assert packed.checksum([b"3"], packed.checksum([b"12"])) == fast == zlib.crc32(b"123")


@pytest.mark.parametrize(
    "damaged", [b"", b"no zlib", zlib.compress(b"123"), zlib.compress(b"1" * 99)]
)
def test_a_damaged_chunk_is_refused(damaged: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a chunk"):
        unpacked(damaged, np.zeros((2, 2), np.int8), 2)
