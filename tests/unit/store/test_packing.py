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
    with RunWriter(target, SUBGRAPH, exact=True) as writer:
        for start in range(0, count, part):
            stop = min(start + part, count)
            packer = writer.packer(part)
            for first in range(start, stop, step):
                _record(packer, values, first, min(first + step, stop))
            sent = pickle.loads(pickle.dumps(packer))
            writer.write(sent.take())
    with h5py.File(target) as file:
        group = file[schema.tensor_path(1)]
        assert group[schema.VALUES][()].tobytes() == values.tobytes()
        assert group[schema.REFERENCE][()].tobytes() == (2 * values).tobytes()
        assert group[schema.VALUES].chunks[0] <= part


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
    packer = ChunkPacker(4, {})
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    _record(packer, values, 0, 3)
    chunk = next(c for c in packer.take() if c.name == schema.VALUES)
    assert chunk.content == zlib.compress(values.tobytes() + bytes(12), LEVEL)


def test_empty_tensors_have_no_chunks(tmp_path: Path) -> None:
    packer = ChunkPacker(4, {})
    _record(packer, np.empty((3, 0), np.float32), 0, 3)
    assert packer.take() == []


def test_errors_of_eight_bit_tensors_are_recorded_unless_exact(tmp_path: Path) -> None:
    codes = np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
    reference = np.full((4, 6), 0.25, np.float32)
    (affine,) = {t.affine for t in SUBGRAPH.tensors if t.index == 1}
    assert affine is not None
    for exact in (False, True):
        target = tmp_path / f"{exact}.h5"
        with RunWriter(target, SUBGRAPH, exact=exact) as writer:
            packer = writer.packer(2)
            batch = batch_of(SUBGRAPH.tensors, range(4), {1: codes})
            packer.record(batch, Computed({1: reference}, {1: -reference}))
            writer.write(packer.take())
        with h5py.File(target) as file:
            made = {name: values[()] for name, values in file[schema.tensor_path(1)].items()}
        assert np.array_equal(made.pop(schema.VALUES), codes)
        if exact:
            assert np.array_equal(made.pop(schema.REFERENCE), reference)
            assert np.array_equal(made.pop(schema.LOCAL_REFERENCE), -reference)
        else:
            real = codes.astype(np.float64) - affine.zero_point
            for name, sign in ((schema.ACCUMULATED_ERROR, 1), (schema.LOCAL_ERROR, -1)):
                error = real - sign * 0.25 / affine.scale
                assert np.allclose(made.pop(name), error, rtol=1 / 2000, atol=1 / 1000)
        assert made == {}


def test_recorded_values_of_another_device_are_not_compared_with_these(tmp_path: Path) -> None:
    codes, other = np.zeros((2, 3), np.int8), np.ones((2, 3), np.float32)
    packer = ChunkPacker(2, packing.as_errors(SUBGRAPH))
    batch = batch_of(SUBGRAPH.tensors, range(2), {1: codes})
    packer.record(batch, Computed({}, {1: other}, tested={1: other}))
    assert [c.name for c in packer.take()] == [schema.VALUES, schema.LOCAL_REFERENCE]
