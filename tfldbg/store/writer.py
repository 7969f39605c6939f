"""Record a run to HDF5, batch by batch, and rename it into place when it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.accumulate import CHANNEL_COLUMNS, TensorStats
from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.compare.stream import Batch, Computed, Measured
from tfldbg.diagnose.evidence import Evidence
from tfldbg.errors import CaptureError
from tfldbg.files import replacing
from tfldbg.graph.model import Subgraph
from tfldbg.graph.query import producers
from tfldbg.store import schema
from tfldbg.store.disk import TolerantFile
from tfldbg.store.evidence_json import to_json

_CHUNK_BYTES = 1 << 20


class RunWriter:
    """Writes one recorded run.  Use as a context manager; call `finish` last.

    Memory holds one batch.  Until `finish` has been called and the block left without an error, the
    target stays as it was.

    Args:
        target: The HDF5 file to write.
        subgraph: Whose tensors are recorded.

    Raises:
        CaptureError: The file cannot be written.
    """

    def __init__(self, target: Path, subgraph: Subgraph) -> None:
        self._target = target
        self._subgraph = subgraph
        self._producers = producers(subgraph)
        self._stack = ExitStack()

    def __enter__(self) -> RunWriter:
        import h5py

        temporary = self._stack.enter_context(replacing(self._target))
        self._disk = self._stack.enter_context(TolerantFile(temporary))
        self._file: Any = h5py.File(self._disk, "w")
        self._file.attrs["format"] = schema.FORMAT
        self._file.attrs["format_version"] = schema.FORMAT_VERSION
        self._file.attrs["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            self._file.close()
            if value is not None:
                raise value
            self._check_disk()

    def record(self, batch: Batch, computed: Computed) -> None:
        """Append one batch.

        Raises:
            CaptureError: The disk is full or fails.
        """
        self._append(schema.VALUES, batch.codes)
        self._append(schema.REFERENCE, computed.free)
        self._append(schema.LOCAL_REFERENCE, computed.local)
        self._check_disk()

    def finish(self, evidence: Evidence, measured: Measured) -> None:
        """Write the statistics and what describes the run.

        Args:
            evidence: What the trace found out.
            measured: The statistics by channel.

        Raises:
            CaptureError: The disk is full or fails.
        """
        self._file[schema.EVIDENCE] = to_json(evidence)
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
        self._write_channels(schema.LOCAL_CHANNELS, measured.local_channels)
        self._write_channels(schema.ACCUMULATED_CHANNELS, measured.accumulated_channels)
        self._check_disk()

    def _write_histogram(self, index: int, name: str, counts: tuple[int, ...]) -> None:
        if counts:
            dataset = self._group(index).create_dataset(name, data=np.array(counts, np.int64))
            dataset.attrs["edges_lsb"] = EDGES_LSB

    def _write_channels(self, name: str, tables: Mapping[int, NDArray[Any]]) -> None:
        for index, table in tables.items():
            dataset = self._group(index).create_dataset(name, data=table)
            dataset.attrs["columns"] = list(CHANNEL_COLUMNS)

    def _append(self, name: str, arrays: Mapping[int, NDArray[Any]]) -> None:
        for index, array in arrays.items():
            if not array.size:
                continue  # HDF5 has no chunks for it
            group = self._group(index)
            if name not in group:
                per_sample = max(array[:1].nbytes, 1)
                group.create_dataset(
                    name,
                    data=array,
                    maxshape=(None, *array.shape[1:]),
                    chunks=(max(1, _CHUNK_BYTES // per_sample), *array.shape[1:]),
                    compression="gzip",
                    compression_opts=1,
                    shuffle=True,
                )
            else:
                dataset = group[name]
                dataset.resize(len(dataset) + len(array), axis=0)
                dataset[-len(array) :] = array

    def _group(self, index: int) -> Any:
        path = schema.tensor_path(index)
        if path in self._file:
            return self._file[path]
        tensor, op = self._subgraph.tensors[index], self._producers.get(index)
        group = self._file.create_group(path)
        group.attrs["name"] = tensor.name
        group.attrs["type"] = tensor.type
        group.attrs["operator"] = op.index if op else -1
        group.attrs["kind"] = op.kind if op else "INPUT"
        if tensor.lsb is not None:
            group.attrs["scale"] = tensor.lsb
            group.attrs["zero_point"] = tensor.zero_point
        return group

    def _check_disk(self) -> None:
        """Raise what the disk said, if anything."""
        if self._file:
            self._file.flush()
        if self._disk.failure is not None:
            reason = self._disk.failure.strerror
            raise CaptureError(
                f"cannot write '{self._target}': {reason}; nothing was left behind",
                hint="free some space, record fewer samples, or name another file",
            ) from self._disk.failure


def _scalars(stats: TensorStats) -> dict[str, Any]:
    apart = ("channel_max_abs", "histogram")
    return {k: v for k, v in asdict(stats).items() if k not in apart}
