"""Record a run in an HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfldbg.compare.accumulate import CHANNEL_COLUMNS, Accumulator, TensorStats
from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.files import replacing, worded
from tfldbg.store import schema
from tfldbg.store.disk import Disk
from tfldbg.store.evidence_json import evidence_to_json
from tfldbg.store.packing import LEVEL, ChunkPacker, as_errors

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.compare.tally import Measured
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.graph.model import Subgraph
    from tfldbg.store.packing import Chunk


class RunWriter:
    """Writes one recorded run.  Use as a context manager; call `finish` last.

    Chunks are written to a temporary file, which becomes the target when the block ends; if the
    block fails, the temporary file is removed and the target is unchanged.

    HDF5 runs in a separate thread: signals raise exceptions only in the main thread, and an
    exception in `Disk`, while HDF5 calls it, would be a failed write.

    Args:
        target: The HDF5 file to write.
        subgraph: The subgraph whose tensors are recorded.
        exact: True to record all values of the reference instead of errors in float16.

    Raises:
        TfldbgError: The file cannot be written.
    """

    def __init__(self, target: Path, subgraph: Subgraph, *, exact: bool = False) -> None:
        self._target = target
        self._subgraph = subgraph
        self._affines = {} if exact else as_errors(subgraph)
        self._file: Any = None
        self._datasets: dict[tuple[int, str], Any] = {}

    def __enter__(self) -> RunWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._target))
            self._disk = stack.enter_context(Disk(temporary))
            self._thread = stack.enter_context(ThreadPoolExecutor(1, "tfldbg-hdf5"))
            stack.callback(self._in_thread, self._close)  # also if Ctrl-C comes while it opens
            self._in_thread(self._open)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def packer(self, part: int) -> ChunkPacker:
        """Return a packer for samples of this recording; ``part`` as for `ChunkPacker`."""
        return ChunkPacker(part, self._affines)

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Write the values of some samples, which follow those that are written.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        self._in_thread(self._append, chunks)

    def finish(self, evidence: Evidence, measured: Measured) -> None:
        """Write the statistics and the description of the run.

        Args:
            evidence: The evidence of the trace.
            measured: The statistics by channel.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        self._in_thread(self._write_results, evidence, measured)

    def _in_thread(self, work: Callable[..., None], *given: Any) -> None:
        """Call a function that uses HDF5.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        with worded(self._target):
            try:
                self._thread.submit(work, *given).result()
            finally:
                self._disk.check()  # raises the error of the disk instead of HDF5's

    def _open(self) -> None:
        import h5py

        self._file = h5py.File(self._disk, "w")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _append(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            dataset = self._dataset(chunk)
            if len(dataset) < chunk.start + chunk.count:
                dataset.resize(chunk.start + chunk.count, axis=0)
            place = (chunk.start, *(0 for _ in chunk.sample))
            dataset.id.write_direct_chunk(place, chunk.content)

    def _dataset(self, chunk: Chunk) -> Any:
        """Return the dataset of a tensor, which the first chunk creates."""
        key = chunk.index, chunk.name
        if key not in self._datasets:
            self._datasets[key] = self._group(chunk.index).create_dataset(
                chunk.name,
                shape=(0, *chunk.sample),
                dtype=chunk.dtype,
                maxshape=(None, *chunk.sample),
                chunks=(chunk.rows, *chunk.sample),
                compression="gzip",
                compression_opts=LEVEL,
            )
        return self._datasets[key]

    def _write_results(self, evidence: Evidence, measured: Measured) -> None:
        self._file.attrs["format"] = schema.FORMAT
        self._file.attrs["format_version"] = schema.FORMAT_VERSION
        self._file.attrs["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._file[schema.EVIDENCE] = evidence_to_json(evidence)
        for op in evidence.ops:
            path = schema.tensor_path(op.tensor)
            if path not in self._file:
                continue
            attributes = self._file[path].attrs
            if op.reference is not None:
                attributes["reference"] = op.reference
                attributes["match_rule"] = op.match_rule
            for name, stats in (("local", op.local), ("accumulated", op.accumulated)):
                if stats is not None:
                    attributes[name] = json.dumps(_scalars(stats))
                    self._write_histogram(op.tensor, schema.HISTOGRAM.format(name), stats.histogram)
        self._write_channels(schema.LOCAL_CHANNELS, measured.local_counters)
        self._write_channels(schema.ACCUMULATED_CHANNELS, measured.accumulated_counters)

    def _write_histogram(self, index: int, name: str, counts: tuple[int, ...]) -> None:
        if counts:
            dataset = self._group(index).create_dataset(name, data=np.array(counts, np.int64))
            dataset.attrs["edges_lsb"] = EDGES_LSB

    def _write_channels(self, name: str, counters: Mapping[int, Accumulator]) -> None:
        for index, counter in counters.items():
            dataset = self._group(index).create_dataset(name, data=counter.channels())
            dataset.attrs["columns"] = list(CHANNEL_COLUMNS)

    def _group(self, index: int) -> Any:
        path = schema.tensor_path(index)
        if path in self._file:
            return self._file[path]
        tensor, op = self._subgraph.tensors[index], self._subgraph.producers.get(index)
        group = self._file.create_group(path)
        group.attrs["name"] = tensor.name
        group.attrs["type"] = tensor.type
        group.attrs["operator"] = op.index if op else -1
        group.attrs["kind"] = op.kind if op else "INPUT"
        if tensor.affine is not None:
            group.attrs["scale"] = tensor.affine.scale
            group.attrs["zero_point"] = tensor.affine.zero_point
        return group


def _scalars(stats: TensorStats) -> dict[str, Any]:
    apart = ("channel_max_abs", "histogram")
    return {k: v for k, v in asdict(stats).items() if k not in apart}


class RecordingHere:
    """A recorder that writes what this process computes.

    Args:
        writer: The recording.
        part: As for `ChunkPacker`.
    """

    def __init__(self, writer: RunWriter, part: int) -> None:
        self._writer, self._packer = writer, writer.packer(part)

    def record(self, batch: Batch, computed: Computed) -> None:
        """Write the values of one batch.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        self._packer.record(batch, computed)
        self._writer.write(self._packer.full())

    def finish(self) -> None:
        """Write the values that did not fill a chunk.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        self._writer.write(self._packer.take())
