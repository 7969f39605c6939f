"""Measure the samples of a trace: all in this process, or parts of them in several."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tfldbg.compare import stream
from tfldbg.compare.merging import merge_all
from tfldbg.compare.stream import batch_size
from tfldbg.compare.tally import Tally
from tfldbg.errors import UsageError
from tfldbg.measures import MEASUREMENTS
from tfldbg.progress import Progress, Silent
from tfldbg.run.child import limits
from tfldbg.run.litert import Program, Runner
from tfldbg.run.status import may_end, measuring
from tfldbg.session.pool import Pool, local_pool
from tfldbg.session.processes import LostError

if TYPE_CHECKING:
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.compare.tally import Plan
    from tfldbg.run.samples import Samples
    from tfldbg.session.request import Ready, Request

_MOST = 4096
"""The largest number of samples of a part: all are lost if a worker ends."""
_FEW = 8
"""The number of samples up to which it takes longer to start a process than to measure them."""
_WORTH = 16
"""The number of samples that are worth a process."""

_PARTS = 4
"""The number of parts for each process of this machine, so that none waits long for the last."""

Measure = Callable[[range], tuple[Tally, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """All that a process needs to measure samples.  It can be pickled.

    The models travel as files (`tfldbg.run.placed`); the reference is ready to run.
    """

    plan: Plan
    samples: Samples
    program: Program
    """The instrumented model."""
    reference: Reference


class _OpenWork:
    """Work whose models this process has loaded."""

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._work: Work = pickle.loads(packed)  # noqa: S301  (of the session that gives it)
        self._runner = Runner(self._work.program).__enter__()

    def measure(self, numbers: range, recorders: Mapping[str, Recorder]) -> Tally:
        """Measure some samples.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        work = self._work
        tested = stream.running(work.plan, work.samples, self._runner, Silent())
        watching = list(recorders.values())
        return stream.measure_alone(work.plan, tested, work.reference, watching, numbers)

    def close(self) -> None:
        """Release the models."""
        self._runner.close()
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
    movable = ready.opened.movable and not _alone(ready)
    job = ready.bench.job
    if not movable:
        return None
    return Work(ready.plan, job.samples, job.instrumented, ready.reference)


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


def _measure_again(
    request: Request, unread: Mapping[int, str], numbers: range
) -> tuple[Tally, Mapping[str, Any]]:
    """Prepare a trace once more in another process, and measure some samples.

    Args:
        request: The trace.
        unread: The tensors not to read, with the reasons.
        numbers: The samples.

    Raises:
        TfldbgError: As for `tfldbg.trace`.
    """
    with measuring(), ExitStack() as stack:
        ready = request.ready(stack, Silent(), unread)
        return ready.measure(numbers, Silent()), ready.watched


def measure_samples(
    pool: Pool | None,
    request: Request,
    ready: Ready,
    unread: Mapping[int, str],
    progress: Progress,
) -> Tally:
    """Measure all samples: in the given processes, in new ones, or in this one.

    Args:
        pool: The processes, if the user asked for several.
        request: The trace.
        ready: The same trace in this process; its recorders are completed.
        unread: The tensors not to read, with the reasons.
        progress: Receives the progress.

    Raises:
        UsageError: The file has operators that only one process can measure.
        TfldbgError: As for `tfldbg.trace`.
    """
    count, work = ready.bench.job.samples.count, work_of(ready)
    if pool is not None:
        if alone := _alone(ready):
            raise UsageError(
                f"only one process can measure: {', '.join(alone)}",
                hint="leave out --workers and --scheduler",
            )
        if work is None:
            part = partial(_measure_again, request.elsewhere, dict(unread))
            return _in_parts(pool, part, ready, progress)
        part = partial(_measure_packed, pool.pack(work), pickle.dumps(ready.watched))
        return _in_parts(pool, part, ready, progress)
    if work is None or count <= _FEW:
        return ready.measure(range(count), progress)
    with local_pool(_workers(ready)) as new:
        try:
            packed = new.pack(work)
        except UsageError:  # a function of the user's that only this process knows
            return ready.measure(range(count), progress)
        part = partial(_measure_packed, packed, pickle.dumps(ready.watched))
        return _in_parts(new, part, ready, progress)


def _workers(ready: Ready) -> int:
    """Return the number of processes that are worth their start, and for which there is memory."""
    samples = ready.bench.job.samples
    units = -(-samples.count // samples.stream_steps)
    most = min(_processors(), max(1, samples.count // _WORTH), units)
    allowed, needed = limits().memory_bytes, _memory(ready)
    return most if allowed is None else max(1, min(most, allowed // needed))


def _processors() -> int:
    """Return the number of processors that this process may use: one if it has others beside it."""
    if may_end():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(ready: Ready) -> int:
    """Return an upper estimate of the memory that one process needs, bytes.

    Each of up to five networks holds its float32 weights, once more as XNNPACK packs them, and all
    its tensors.
    """
    job = ready.bench.job
    elements = sum(t.elements for t in job.subgraph.tensors)
    return (256 << 20) + 5 * 4 * elements + 10 * 4 * len(job.loaded.data)


def _in_parts(pool: Pool, part: Measure, ready: Ready, progress: Progress) -> Tally:
    """Measure all samples in parts, and merge these in the order of the samples.

    Args:
        pool: The processes.
        part: Measures a part in another process.
        ready: The trace in this process; its recorders are completed.
        progress: Receives the progress.

    Raises:
        TfldbgError: As for `tfldbg.trace`.
    """
    samples = ready.bench.job.samples
    size = batch_size(ready.plan, samples.count, ready.reference)
    unit = math.lcm(size if ready.reference.batch else 1, samples.stream_steps)
    wanted = pool.workers
    if pool.samples_done is not None:
        wanted *= max(1, min(_PARTS, samples.count // (_WORTH * wanted)))
    parts = _ranges(samples.count, unit, wanted)
    whole = Tally(ready.plan)
    own: dict[str, Any] = dict(ready.watched)
    reported = _Reported(pool, parts, progress)
    try:
        for tally, watched in pool.each(part, parts, reported.part, reported.look):
            whole.merge(tally)
            merge_all(own, watched)
    except LostError as lost:
        start = samples.stream_start(lost.sample)
        ready.measure(range(start, lost.sample + 1), Silent())  # raises the error of the runtime
        raise
    return whole


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
