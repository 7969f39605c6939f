"""Chunks are what HDF5's own gzip filter reads, however the samples are divided."""

from __future__ import annotations

import pickle
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fakes import chain_file
from tfldbg.compare.batch import Computed, batch_of
from tfldbg.graph.load import load_graph
from tfldbg.store import packing, schema
from tfldbg.store.packing import LEVEL, ChunkPacker, samples_of_part
from tfldbg.store.writer import RunWriter

SUBGRAPH = load_graph(chain_file("RELU"), "model.tflite").main


def _record(packer: ChunkPacker, values: NDArray[np.float32], start: int, stop: int) -> None:
    codes = {1: values[start:stop]}
    batch = batch_of(SUBGRAPH.tensors, range(start, stop), codes)
    packer.record(batch, Computed({1: 2 * values[start:stop]}, {}))


@given(st.integers(1, 40), st.sampled_from([1, 2, 7, 8, 32]), st.integers(1, 5), st.data())
def test_hdf5_reads_what_several_processes_have_compressed(
    tmp_path_factory: pytest.TempPathFactory, count: int, part: int, size: int, data: st.DataObject
) -> None:
    values = np.random.default_rng(count).normal(0, 9, (count, 3, size)).astype(np.float32)
    target = tmp_path_factory.mktemp("chunks") / "file.h5"
    step = data.draw(st.integers(1, part))
    with RunWriter(target, SUBGRAPH) as writer:
        for start in range(0, count, part):
            stop = min(start + part, count)
            packer = ChunkPacker(part)
            for first in range(start, stop, step):
                _record(packer, values, first, min(first + step, stop))
            sent = pickle.loads(pickle.dumps(packer))
            writer.write(sent.take())
    with h5py.File(target) as file:
        group = file[schema.tensor_path(1)]
        assert group[schema.VALUES][()].tobytes() == values.tobytes()
        assert group[schema.REFERENCE][()].tobytes() == (2 * values).tobytes()
        assert group[schema.VALUES].chunks[0] <= part


def test_merged_packers_hold_the_chunks_of_both() -> None:
    values = np.ones((8, 3), np.float32)
    one, other, whole = ChunkPacker(4), ChunkPacker(4), ChunkPacker(4)
    _record(one, values, 0, 4)
    _record(other, values, 4, 8)
    _record(whole, values, 0, 8)
    one.merge(other)
    found, expected = ({(c.name, c.start): c.content for c in p.take()} for p in (one, whole))
    assert found == expected and len(found) == 4


@given(st.integers(0, 1 << 40))
def test_parts_are_powers_of_two_of_bounded_size(size: int) -> None:
    part = samples_of_part(size)
    assert part in (1, 2, 4, 8, 16, 32)
    assert part == 1 or part * size <= packing._PART_BYTES
    assert part == 32 or 2 * part * size > packing._PART_BYTES


@given(st.integers(1, 300), st.integers(0, 64))
def test_parts_of_streams_divide_them(steps: int, most: int) -> None:
    part = packing.divisor_below(steps, most)
    assert steps % part == 0 and 1 <= part <= max(1, most)
    assert not any(steps % d == 0 for d in range(part + 1, min(most, steps) + 1))


def test_without_the_faster_library_zlib_compresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    packer = ChunkPacker(4)
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    _record(packer, values, 0, 3)
    chunk = next(c for c in packer.take() if c.name == schema.VALUES)
    assert chunk.content == zlib.compress(values.tobytes() + bytes(12), LEVEL)


def test_empty_tensors_have_no_chunks(tmp_path: Path) -> None:
    packer = ChunkPacker(4)
    _record(packer, np.empty((3, 0), np.float32), 0, 3)
    assert packer.take() == []
