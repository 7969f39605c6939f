"""Let several processes measure parts of the samples, and add up what they counted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfldbg.compare.merging import merge_all
from tfldbg.compare.stream import Recorders, batch_size, running, stream_part
from tfldbg.compare.tally import Measured, Tally
from tfldbg.errors import UsageError
from tfldbg.measures import MEASUREMENTS
from tfldbg.progress import Progress, Silent
from tfldbg.run.child import Limits, within
from tfldbg.session.pool import Pool, in_order

if TYPE_CHECKING:
    from tfldbg.session.request import Ready, Request

_MOST = 4096
"""Samples of one shard: what is lost with a worker, and takes longer than to begin again."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Some of the samples of a trace."""

    request: Request
    unread: Mapping[int, str]
    """Tensors that are not to be read, and why."""
    numbers: range
    limits: Limits
    """Of the child processes that run models."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardCounts:
    """What was counted of a shard."""

    tally: Tally
    watched: Mapping[str, Any]
    """By measurement the recorder that watched the samples."""


def run_shard(shard: Shard) -> ShardCounts:
    """Measure the samples of one shard, as a trace of all of them would.

    Raises:
        TfldbgError: As for `tfldbg.trace`.
    """
    with within(shard.limits), ExitStack() as stack:
        ready = shard.request.ready(stack, Silent(), shard.unread)
        tally, bench = Tally(ready.plan), ready.bench
        tested = running(ready.plan, bench.job.samples, bench.runner, Silent())
        recorder = Recorders(ready.recorders) if ready.recorders else None
        stream_part(tally, tested, ready.reference, recorder, shard.numbers)
        return ShardCounts(tally, ready.watched)


def stream_in_parts(
    pool: Pool, request: Request, ready: Ready, unread: Mapping[int, str], progress: Progress
) -> Measured:
    """Measure every tensor over every sample, as `tfldbg.compare.stream.stream` does.

    Batches are the same as those of one process; what was counted is added up in the order of the
    samples, whichever part is done first.

    Args:
        pool: Who computes the parts.
        request: Of the trace.
        ready: The same trace in this process; its recorders are completed.
        unread: Tensors that are not to be read, and why.
        progress: Is told of every part.

    Raises:
        UsageError: The file has operators that are measured along the samples, in one process.
        TfldbgError: As for `tfldbg.trace`.
    """
    merging = {one.name for one in MEASUREMENTS if one.merges}
    if ready.bodies is not None or not ready.watched.keys() <= merging:
        raise UsageError(
            "what happens inside of recurrent operators and subgraphs is measured by one process",
            hint="leave out --workers and --scheduler",
        )
    samples, elsewhere = ready.bench.job.samples, request.elsewhere
    count = samples.count
    size = batch_size(ready.plan, count, ready.reference)
    parts = shards(count, math.lcm(size, samples.stream_steps), pool.workers)
    asked = [Shard(elsewhere, dict(unread), numbers, pool.limits()) for numbers in parts]
    progress.stage("tracing", count)

    def found() -> Iterator[tuple[int, ShardCounts]]:
        for number, part in pool.each(run_shard, asked):
            progress.advance(len(parts[number]))
            yield number, part

    whole = Tally(ready.plan)
    for part in in_order(found()):
        whole.merge(part.tally)
        for name, recorder in part.watched.items():
            merge_all(dict(ready.watched), {name: recorder})
    return whole.measured()


def shards(count: int, unit: int, workers: int) -> list[range]:
    """Divide samples into parts of about the same size: one for each worker, or more of `_MOST`.

    Args:
        count: How many samples.
        unit: Every part but the last holds a multiple of this.
        workers: How many there are.
    """
    units = -(-count // unit)
    parts = min(units, max(workers, -(-count // _MOST)))
    ends = [min(count, unit * (units * n // parts)) for n in range(parts + 1)]
    return [range(*ends[n : n + 2]) for n in range(parts)]
