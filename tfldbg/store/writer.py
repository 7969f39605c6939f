"""Record a run batch by batch, and make an HDF5 file of it when it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfldbg.compare.accumulate import CHANNEL_COLUMNS, Accumulator, TensorStats
from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.files import check_target, replacing
from tfldbg.graph.query import producers
from tfldbg.store import schema
from tfldbg.store.disk import TolerantFile, h5py_file, undisturbed
from tfldbg.store.evidence_json import to_json
from tfldbg.store.journal import CODES, Journal, Layout
from tfldbg.store.packed import LEVEL

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.compare.tally import Measured
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.graph.model import Subgraph

_DATASETS = {CODES: schema.VALUES, "free": schema.REFERENCE, "local": schema.LOCAL_REFERENCE}
"""By field of the journal the dataset that holds it."""
_AT_ONCE = 32
"""Chunks that are written before Ctrl-C is looked for again."""


class RunWriter:
    """Writes one recorded run.  Use as a context manager; call `finish` last.

    Memory holds one batch.  Every batch is kept on the disk in a `Journal`; `finish` makes the HDF5
    file of them.  Until then the target stays as it was, and whatever ends the run, a later one can
    go on after the last batch.

    Args:
        target: The HDF5 file to write.
        subgraph: Whose tensors are recorded.
        identity: What tells this run from another, see `Journal`.
        resume: Whether to go on with an earlier run that was not finished.

    Raises:
        CaptureError: Another run records to the target, or the earlier run was another.
        TfldbgError: The file cannot be written.
    """

    def __init__(
        self,
        target: Path,
        subgraph: Subgraph,
        identity: Mapping[str, str] | None = None,
        *,
        resume: bool = False,
    ) -> None:
        self._target = target
        self._subgraph = subgraph
        self._producers = producers(subgraph)
        self._journal = Journal(target, subgraph, identity or {}, resume=resume)

    def __enter__(self) -> RunWriter:
        check_target(self._target)
        self._journal.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._journal.__exit__(kind, value, trace)

    def kept(self) -> Iterator[tuple[Batch, Computed]]:
        """Return the batches of the earlier run, one at a time."""
        return self._journal.kept()

    def record(self, batch: Batch, computed: Computed) -> None:
        """Keep one batch, unless it is one of `kept`.

        Raises:
            TfldbgError: The disk is full or fails.
        """
        if batch.start >= self._journal.done:
            self._journal.append(batch, computed)

    def finish(self, evidence: Evidence, measured: Measured) -> None:
        """Write the HDF5 file: all values, the statistics, and what describes the run.

        Args:
            evidence: What the trace found out.
            measured: The statistics by channel.

        Raises:
            TfldbgError: The disk is full or fails; the batches are still kept.
        """
        with replacing(self._target) as temporary, TolerantFile(temporary) as self._disk:
            with undisturbed():
                self._file = h5py_file(self._disk)
            try:
                self._write_values()
                with undisturbed():
                    self._write_results(evidence, measured)
            finally:
                with undisturbed():
                    self._file.close()
            self._check_disk()
        self._journal.remove()

    def _write_values(self) -> None:
        for field, name in _DATASETS.items():
            for index in self._journal.tensors(field):
                layout = self._journal.layout(field, index)
                if layout is None:
                    continue  # HDF5 has no chunks for it
                with undisturbed():
                    dataset = self._dataset(index, name, layout)
                nowhere = (0,) * len(layout.sample)
                chunks = self._journal.chunks(field, index)
                while some := list(islice(chunks, _AT_ONCE)):
                    with undisturbed():
                        for chunk in some:
                            dataset.id.write_direct_chunk((chunk.start, *nowhere), chunk.content)
                    self._check_disk()

    def _dataset(self, index: int, name: str, layout: Layout) -> Any:
        return self._group(index).create_dataset(
            name,
            shape=(layout.count, *layout.sample),
            dtype=layout.dtype,
            maxshape=(None, *layout.sample),
            chunks=(layout.rows, *layout.sample),
            compression="gzip",
            compression_opts=LEVEL,
        )

    def _write_results(self, evidence: Evidence, measured: Measured) -> None:
        self._file.attrs["format"] = schema.FORMAT
        self._file.attrs["format_version"] = schema.FORMAT_VERSION
        self._file.attrs["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
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
        if self._disk.failure is not None:
            raise self._disk.failure


def _scalars(stats: TensorStats) -> dict[str, Any]:
    apart = ("channel_max_abs", "histogram")
    return {k: v for k, v in asdict(stats).items() if k not in apart}
