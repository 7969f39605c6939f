"""Measure the samples of a trace: all in this process, or parts of them in several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from tfldbg.compare.merging import merge_all
from tfldbg.compare.stream import batch_size
from tfldbg.compare.tally import Tally
from tfldbg.errors import UsageError
from tfldbg.measures import MEASUREMENTS
from tfldbg.progress import Progress, Silent

if TYPE_CHECKING:
    from tfldbg.session.pool import Pool
    from tfldbg.session.request import Ready, Request

_MOST = 4096
"""The largest number of samples of a part: all are lost if a worker ends."""


def measure_part(
    request: Request, unread: Mapping[int, str], numbers: range
) -> tuple[Tally, Mapping[str, Any]]:
    """Measure some samples in another process, as a trace of all samples would.

    Args:
        request: The trace.
        unread: The tensors not to read, with the reasons.
        numbers: The samples.

    Returns:
        The counts, and the recorder of each measurement that has one.

    Raises:
        TfldbgError: As for `tfldbg.trace`.
    """
    with ExitStack() as stack:
        ready = request.ready(stack, Silent(), unread)
        return ready.measure(numbers, Silent()), ready.watched


def measure_in_parts(
    pool: Pool, request: Request, ready: Ready, unread: Mapping[int, str], progress: Progress
) -> Tally:
    """Measure all samples, as `Ready.measure` does.

    The batches are those of one process.  The parts are merged in the order of the samples,
    independent of which part ends first.

    Args:
        pool: The processes that measure the parts.
        request: The trace.
        ready: The same trace in this process; its recorders are completed.
        unread: The tensors not to read, with the reasons.
        progress: Receives the progress, part by part.

    Raises:
        UsageError: The file has operators that only one process can measure.
        TfldbgError: As for `tfldbg.trace`.
    """
    alone = [one.name for one in MEASUREMENTS if one.name in ready.watched and not one.merges]
    if ready.bodies is not None:
        alone.append("insides of recurrent operators and subgraphs")
    if alone:
        raise UsageError(
            f"only one process can measure: {', '.join(alone)}",
            hint="leave out --workers and --scheduler",
        )
    samples = ready.bench.job.samples
    size = batch_size(ready.plan, samples.count, ready.reference)
    parts = _ranges(samples.count, math.lcm(size, samples.stream_steps), pool.workers)
    work = partial(measure_part, request.elsewhere, dict(unread))
    whole = Tally(ready.plan)
    own: dict[str, Any] = dict(ready.watched)
    for tally, watched in pool.each(work, parts, lambda n, _: progress.advance(len(parts[n]))):
        whole.merge(tally)
        merge_all(own, watched)
    return whole


def _ranges(count: int, unit: int, workers: int) -> list[range]:
    """Divide samples into parts of about the same size: one per worker, or more of `_MOST`.

    Args:
        count: The number of samples.
        unit: The unit of the size of all parts but the last.
        workers: The number of workers.
    """
    units = -(-count // unit)
    parts = min(units, max(workers, -(-count // _MOST)))
    ends = [min(count, unit * (units * n // parts)) for n in range(parts + 1)]
    return [range(*ends[n : n + 2]) for n in range(parts)]
