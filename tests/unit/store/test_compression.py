"""Chunks are what HDF5's own gzip filter reads."""

from __future__ import annotations

import sys
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.store.compression import LEVEL, Compressor, rows_of_chunk


@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from([np.int8, np.int16, np.float32]))
def test_hdf5_reads_chunks_that_threads_have_compressed(
    tmp_path_factory: pytest.TempPathFactory, count: int, rows: int, dtype: type
) -> None:
    values = np.random.default_rng(count).normal(0, 9, (count, 3, 5)).astype(dtype)
    starts = range(0, count, rows)
    with Compressor() as compressor:
        chunks = list(compressor.compressed([(values[n : n + rows], rows) for n in starts]))
    target = tmp_path_factory.mktemp("chunks") / "file.h5"
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
        for start, chunk in zip(starts, chunks, strict=True):
            made.id.write_direct_chunk((start, 0, 0), chunk)
    with h5py.File(target) as file:
        assert file["x"][()].tobytes() == values.tobytes()


@given(st.integers(1, 64), st.integers(1, 1 << 21))
def test_batches_are_whole_numbers_of_chunks(samples: int, size: int) -> None:
    rows = rows_of_chunk(np.empty((samples, size), np.int8))
    assert samples % rows == 0
    assert rows == 1 or rows * size <= 1 << 20


def test_without_the_faster_library_zlib_compresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    with Compressor() as compressor:
        (chunk,) = compressor.compressed([(values, 3)])
    assert chunk == zlib.compress(values.tobytes() + bytes(6), LEVEL)
