"""Measure the samples of a trace: all in this process, or parts of them in several."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tfldbg.compare import stream
from tfldbg.compare.merging import merge_all
from tfldbg.compare.stream import batch_size
from tfldbg.compare.tally import Tally
from tfldbg.errors import KerasError, UsageError
from tfldbg.measures import MEASUREMENTS
from tfldbg.progress import Progress, Silent
from tfldbg.run.child import limits
from tfldbg.run.litert import Program, Runner
from tfldbg.run.memory import size_of
from tfldbg.run.status import may_end, measuring
from tfldbg.session.elsewhere import NotLoadedError, UnpicklableError, loaded
from tfldbg.session.pool import Pool, local_pool
from tfldbg.session.processes import LostError
from tfldbg.store.packing import divisor_below, samples_of_part
from tfldbg.store.writer import RecordingHere

if TYPE_CHECKING:
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.compare.tally import Plan
    from tfldbg.run.job import Job
    from tfldbg.run.samples import Samples
    from tfldbg.session.request import Ready
    from tfldbg.store.writer import RunWriter

_MOST = 4096
"""The largest number of samples of a part: all are lost if a worker ends."""
_FEW = 20_000_000
"""The number of values, over all samples, for which it takes longer to start a process than to
measure them."""
_WORTH = 100_000_000
"""The number of values that are worth a further process."""
_LEAST = 16
"""The least number of samples of a part."""

_PARTS = 4
"""The number of parts for each process of this machine, so that none waits long for the last."""

_AHEAD = 2
"""The number of parts for each process that may wait to be written."""
_DUMP = "dump"
"""The key of the recorder that compresses all values."""

Measure = Callable[[range], tuple[Tally, Mapping[str, Any]]]
"""A function that measures a part in another process, and returns the counts and the recorders."""


class Again(Protocol):
    """A function that measures samples in this process."""

    def __call__(
        self, numbers: range, progress: Progress, recorder: Recorder | None = None
    ) -> Tally:
        """Measure some samples; the recorder receives every batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """All that a process needs to measure samples.  It can be pickled.

    The models travel as files (`tfldbg.run.placed`); the reference is ready to run.
    """

    plan: Plan
    samples: Samples
    program: Program
    """The instrumented model."""
    reference: Reference | None
    """The reference, None to measure TFLite alone."""
    batch: int = 1
    """The number of samples to compute at a time."""


class _OpenWork:
    """Work whose models this process has loaded."""

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._work: Work = loaded(packed)
        self._runner = Runner(self._work.program).__enter__()

    def measure(self, numbers: range, recorders: Mapping[str, Recorder]) -> Tally:
        """Measure some samples.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        work = self._work
        tested = stream.running(work.plan, work.samples, self._runner, Silent())
        watching = list(recorders.values())
        return stream.measure(work.plan, tested, work.reference, watching, numbers, work.batch)

    def close(self) -> None:
        """Release the models."""
        self._runner.close()
        if self._work.reference is not None:
            self._work.reference.close()


_open: _OpenWork | None = None
"""The work that this process did last, which most often it does again for other samples."""


def _opened(packed: bytes) -> _OpenWork:
    global _open
    if _open is None or _open.packed != packed:
        if _open is not None:
            _open.close()
        _open = None
        _open = _OpenWork(packed)
    return _open


def work_of(ready: Ready) -> Work | None:
    """Return the work of a trace, or None if only this process can do it.

    Args:
        ready: The trace before its first batch.
    """
    job, plan, reference = ready.bench.job, ready.plan, ready.reference
    if _alone(ready):
        return None
    batch = reference.batch or 1
    if reference.in_batches:
        batch = batch_size(plan, job.samples.count, reference)
    return Work(plan, job.samples, job.instrumented, reference, batch)


def _alone(ready: Ready) -> list[str]:
    """Return what only one process can measure."""
    alone = [one.name for one in MEASUREMENTS if one.name in ready.watched and not one.merges]
    if ready.bodies is not None:
        alone.append("insides of recurrent operators and subgraphs")
    return alone


def _measure_packed(
    packed: bytes, watched: bytes, numbers: range
) -> tuple[Tally, Mapping[str, Recorder]]:
    """Measure some samples in a process that runs the models itself, or starts one for that.

    Args:
        packed: The pickled `Work`.
        watched: The pickled recorders, which have recorded nothing, by measurement.
        numbers: The samples.

    Returns:
        The counts, and the recorders.
    """
    if may_end():
        recorders: Mapping[str, Recorder] = pickle.loads(watched)  # noqa: S301
        with measuring():
            return _opened(packed).measure(numbers, recorders), recorders
    with local_pool(1) as pool:  # a worker of a cluster
        (made,) = pool.each(partial(_measure_packed, packed, watched), [numbers])
    return made


def measure_samples(
    pool: Pool | None,
    workers: int | None,
    ready: Ready,
    progress: Progress,
    writer: RunWriter | None,
) -> Tally:
    """Measure all samples of a trace: in the given processes, in new ones, or in this one.

    Args:
        pool: The processes, if the user asked for several.
        workers: The number of processes that the user asked for.
        ready: The trace in this process; its recorders are completed.
        progress: Receives the progress.
        writer: Receives all values, None not to record them.

    Raises:
        UsageError: The file has operators that only one process can measure.
        TfldbgError: As for `tfldbg.trace`.
    """
    job, work = ready.bench.job, work_of(ready)
    if pool is not None and (alone := _alone(ready)):
        if workers != 1:
            raise UsageError(
                f"only one process can measure: {', '.join(alone)}",
                hint="leave out --workers and --scheduler",
            )
        pool = None
    shared = _Shared(job, ready.plan, ready.watched, writer, progress)
    if work is None:
        return shared.here(ready.measure)
    return shared.work(pool, work, ready.measure)


def record_samples(
    job: Job, runner: Runner, plan: Plan, writer: RunWriter, progress: Progress
) -> Tally:
    """Measure and record TFLite alone.

    Args:
        job: The file.
        runner: Its instrumented model in a process of its own.
        plan: The tensors to read.
        writer: The recording.
        progress: Receives the progress.

    Raises:
        RunError: The runtime refuses the file, or crashes.
    """

    def measure(numbers: range, progress: Progress, recorder: Recorder | None = None) -> Tally:
        tested = stream.running(plan, job.samples, runner, progress)
        watching = () if recorder is None else (recorder,)
        return stream.measure(plan, tested, None, watching, numbers)

    work = Work(plan, job.samples, job.instrumented, None)
    return _Shared(job, plan, {}, writer, progress).work(None, work, measure)


class _Shared:
    """The samples of a run that several processes share.

    Args:
        job: The traced file.
        plan: The requested measurements.
        watched: The recorders of this process, which are completed, by measurement.
        writer: Receives all values, None not to record them.
        progress: Receives the progress.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        watched: Mapping[str, Recorder],
        writer: RunWriter | None,
        progress: Progress,
    ) -> None:
        self._job, self._plan, self._watched = job, plan, watched
        self._writer, self._progress = writer, progress

    def work(
        self,
        pool: Pool | None,
        work: Work,
        again: Again,
    ) -> Tally:
        """Let processes do the work: the given ones, or new ones if they are worth it.

        Args:
            pool: The processes, if the user asked for several.
            work: The work.
            again: Measures samples in this process.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        if pool is not None:
            return self._packed(pool, pool.pack(work), work.batch, again)
        in_batches = work.reference is not None and work.reference.in_batches
        if self._job.values < (_WORTH if in_batches else _FEW):  # batches take long to prepare
            return self.here(again)
        with local_pool(_workers(self._job, work.batch)) as new:
            try:
                return self._packed(new, new.pack(work), work.batch, again)
            except (NotLoadedError, UnpicklableError, KerasError):
                # A function or an operation of the user's that only this process knows.
                return self.here(again)

    def here(self, measure: Again) -> Tally:
        """Measure all samples in this process.

        Args:
            measure: Measures samples.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        recorder = None
        if self._writer is not None:
            recorder = RecordingHere(self._writer, _part(self._job))
        tally = measure(range(self._job.samples.count), self._progress, recorder)
        if recorder is not None:
            recorder.finish()
        return tally

    def _packed(self, pool: Pool, packed: bytes, batch: int, again: Again) -> Tally:
        watched: dict[str, Any] = dict(self._watched)
        if self._writer is not None:
            watched[_DUMP] = self._writer.packer(_part(self._job))
        measure = partial(_measure_packed, packed, pickle.dumps(watched))
        return self.measured(pool, measure, batch, again)

    def measured(self, pool: Pool, measure: Measure, batch: int, again: Again) -> Tally:
        """Measure all samples in parts, and merge these in the order of the samples.

        Args:
            pool: The processes.
            measure: Measures a part in another process.
            batch: The number of samples in a batch.
            again: Measures samples in this process, to raise the error of a runtime.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        samples = self._job.samples
        parts = self._parts(pool, math.lcm(batch, samples.stream_steps))
        whole, own = Tally(self._plan), dict[str, Any](self._watched)
        reported = _Reported(pool, parts, self._progress)
        ahead = None if self._writer is None else _AHEAD * pool.workers
        try:
            made = pool.each(measure, parts, reported.part, reported.look, ahead)
            for tally, watched in made:
                whole.merge(tally)
                recorded = dict(watched)
                if self._writer is not None:
                    self._writer.write(recorded.pop(_DUMP).take())
                merge_all(own, recorded)
        except LostError as lost:
            part = next(part for part in parts if lost.sample in part)
            # What corrupts memory may only show some samples later.
            again(range(part.start, min(part.stop, lost.sample + batch)), Silent())
            raise
        return whole

    def _parts(self, pool: Pool, unit: int) -> list[range]:
        count = self._job.samples.count
        if self._writer is not None:
            size = math.lcm(unit, _part(self._job))
            return _ranges(count, size, -(-count // size))
        wanted = pool.workers
        if pool.samples_done is not None:
            wanted *= max(1, min(_PARTS, count // (_LEAST * wanted)))
        return _ranges(count, unit, wanted)


def _part(job: Job) -> int:
    """Return the number of samples to record at a time, which divides a stream."""
    tensors = job.subgraph.tensors
    known = (tensors[i] for i in (*job.subgraph.inputs, *job.exposed.taps) if i >= 0)
    part = samples_of_part(3 * sum(size_of(tensor) for tensor in known))
    steps = job.samples.stream_steps
    return part if steps == 1 else divisor_below(steps, part)


def _workers(job: Job, batch: int = 1) -> int:
    """Return the number of processes that are worth their start, and for which there is memory."""
    units = -(-job.samples.count // job.samples.stream_steps)
    most = min(_processors(), 1 + job.values // _WORTH, units)
    allowed = limits().memory_bytes
    return most if allowed is None else max(1, min(most, allowed // _memory(job, batch)))


def _processors() -> int:
    """Return the number of processors that this process may use: one if it has others beside it."""
    if may_end():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(job: Job, batch: int) -> int:
    """Return an upper estimate of the memory that one process needs, bytes.

    Each of up to five networks holds its float32 weights, once more as XNNPACK packs them, and all
    its tensors for a batch of samples.
    """
    elements = sum(max(t.elements, 0) for t in job.subgraph.tensors)
    return (256 << 20) + 5 * 4 * elements * batch + 10 * 4 * len(job.loaded.data)


class _Reported:
    """Reports the progress of several processes, sample by sample or part by part."""

    def __init__(self, pool: Pool, parts: Sequence[range], progress: Progress) -> None:
        self._pool, self._parts, self._progress = pool, parts, progress
        self._seen = 0

    def part(self, number: int, made: object) -> None:
        """Report a part if samples are not reported."""
        del made
        if self._pool.samples_done is None:
            self._progress.advance(len(self._parts[number]))

    def look(self) -> None:
        """Report the samples since the last look."""
        if self._pool.samples_done is not None:
            done = min(self._pool.samples_done(), self._parts[-1].stop)
            self._progress.advance(max(0, done - self._seen))
            self._seen = max(done, self._seen)


def _ranges(count: int, unit: int, wanted: int) -> list[range]:
    """Divide samples into parts of about the same size, of `_MOST` at most.

    Args:
        count: The number of samples.
        unit: The unit of the size of all parts but the last.
        wanted: The number of parts.
    """
    units = -(-count // unit)
    parts = min(units, max(wanted, -(-count // _MOST)))
    ends = [min(count, unit * (units * n // parts)) for n in range(parts + 1)]
    return [range(*ends[n : n + 2]) for n in range(parts)]
