"""Run both sides over the samples, batch by batch, and collect statistics.

Memory holds one batch of all tensors, for any number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops
from tfldbg.compare.batch import Batch, Computed, batch_of, settled
from tfldbg.compare.tally import Plan, Tally, check_shapes
from tfldbg.errors import RunError
from tfldbg.progress import Silent
from tfldbg.run.frames import Frames, numeric
from tfldbg.run.status import own_status

if TYPE_CHECKING:
    from tfldbg.progress import Progress
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner
    from tfldbg.run.samples import Samples

_BATCH_BYTES = 96 << 20
_MOST_SAMPLES = 32


class Reference(Protocol):
    """The reference of a .tflite file."""

    @property
    def batch(self) -> int | None:
        """The batch size that it requires, None for any."""

    @property
    def in_batches(self) -> bool:
        """True if it computes several samples at a time faster than one after the other."""

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            TfldbgError: It cannot compute the data.
        """

    def close(self) -> None:
        """Release its resources."""


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """The tested side: a running model, or a recording of one."""

    count: int
    """The number of samples."""
    batch: Callable[[range], Batch]
    """The function that computes or reads some samples."""
    samples: Samples | None = None
    """The inputs of the model, None if a recording holds them."""


def running(plan: Plan, samples: Samples, runner: Runner, progress: Progress) -> Tested:
    """Return the running traced file as the tested side; the arguments are those of `run_batch`."""

    def run(numbers: range) -> Batch:
        return run_batch(plan, samples, runner, numbers, progress, lend=True)

    return Tested(samples.count, run, samples)


class Recorder(Protocol):
    """An object that keeps batches."""

    def record(self, batch: Batch, computed: Computed) -> None:
        """Keep one batch of `settled` values."""


def measure(
    plan: Plan,
    tested: Tested,
    reference: Reference | None,
    recorders: Sequence[Recorder],
    numbers: range,
    size: int | None = None,
) -> Tally:
    """Measure every tensor over some samples.

    In a process that runs the models itself, values stay where they were computed, and are counted
    at once.  Tallies of ranges that follow each other can be merged.

    Args:
        plan: The tensors to read.
        tested: The side that is judged.
        reference: The reference, None to record TFLite alone.
        recorders: Receive every batch, one after the other.
        numbers: The samples, which begin where a batch begins.
        size: The number of samples in a batch, by default that of `batch_size`.

    Raises:
        RunError: The runtime crashes.
        KerasError: The reference cannot compute the data.
        CaptureError: A recording is damaged.
    """
    loops.keep_memory()
    tally, tensors, status = Tally(plan), plan.subgraph.tensors, own_status()
    size = size or batch_size(plan, tested.count, reference)
    for start in numbers[::size]:
        if status is not None:
            status.compute(start)
        batch = tested.batch(range(start, min(start + size, numbers.stop)))
        tally.check(batch)
        began = perf_counter()
        computed = Computed({}, {}) if reference is None else reference.compute(batch)
        tally.reference_s += perf_counter() - began
        clamp = bool(recorders)
        computed = settled(tensors, batch, computed, clamp=clamp, undecided=plan.undecided)
        tally.take(tested.samples, batch, computed if reference is not None else None)
        for recorder in recorders:
            recorder.record(batch, computed)
        if status is not None:
            status.advance(batch.count)
    return tally


def batch_size(plan: Plan, count: int, reference: Reference | None = None) -> int:
    """Return the number of samples, of ``count``, to keep in memory at a time.

    A reference with a fixed batch size decides.
    """
    if reference is not None and reference.batch:
        return reference.batch
    elements = sum(plan.subgraph.tensors[i].elements for i in plan.read)
    return max(1, min(count, _MOST_SAMPLES, _BATCH_BYTES // (4 * max(elements, 1))))


def run_batch(
    plan: Plan,
    samples: Samples,
    runner: Runner,
    numbers: range,
    progress: Progress,
    *,
    lend: bool = False,
) -> Batch:
    """Invoke the model on each sample in order, continuing from the state of the runner.

    Args:
        plan: The requested measurements.
        samples: The inputs.
        runner: The instrumented model.
        numbers: The numbers of the samples.
        progress: Receives the progress, sample by sample.
        lend: True if the values of a single sample may be overwritten by the next run.

    Raises:
        RunError: The runtime crashes, or the samples have different shapes.
    """
    indices = (*plan.subgraph.inputs, *plan.read)
    if lend and len(numbers) == 1 and runner.lends:
        return _lent(plan, samples, runner, numbers, indices)
    frames, held = Frames[int](len(numbers)), Frames[int](len(numbers))
    for number in numbers:
        given = samples.codes(number)
        made = _run_sample(runner, given, number, fresh=samples.begins_stream(number))
        frames.add(numeric(dict(zip(indices, (*given, *made), strict=True))))
        held.add(runner.states)
        progress.advance()
    check_shapes(plan.subgraph, frames.shapes)
    codes, states, steps = frames.stacked(), held.stacked(), samples.stream_steps
    return batch_of(plan.subgraph.tensors, numbers, codes, stream_steps=steps, states=states)


def _lent(
    plan: Plan, samples: Samples, runner: Runner, numbers: range, indices: Sequence[int]
) -> Batch:
    """Invoke the model on one sample; the next run overwrites the values."""
    (number,) = numbers
    given = samples.codes(number)
    made = _run_sample(runner, given, number, fresh=samples.begins_stream(number))
    values = zip(indices, (*given, *made), strict=True)
    codes = {i: array[np.newaxis] for i, array in values if array.dtype != object}
    states = {i: array[np.newaxis] for i, array in runner.states.items()}
    tensors, steps = plan.subgraph.tensors, samples.stream_steps
    return batch_of(tensors, numbers, codes, stream_steps=steps, states=states)


def some_samples(job: Job, runner: Runner, count: int, shown: int = 0) -> Batch:
    """Run up to ``count`` samples: the first ones, or the batch that contains a sample.

    Args:
        job: The traced file.
        runner: Its instrumented model.
        count: The number of samples in a batch.
        shown: The sample to include; streams are run from their beginning.
    """
    start = 0 if job.samples.stream_steps > 1 else shown // count * count
    numbers = range(start, min(start + count, job.samples.count))
    plan = Plan(job.subgraph, job.exposed.taps, observed=0)
    return run_batch(plan, job.samples, runner, numbers, Silent())


def _run_sample(
    runner: Runner, given: Sequence[NDArray[Any]], number: int, *, fresh: bool
) -> list[NDArray[Any]]:
    """Invoke the model on one sample; its results are overwritten by those of the next one.

    Raises:
        RunError: The runtime refuses the sample, crashes or does not finish, as the message tells.
    """
    try:
        return runner.run(given, fresh=fresh, lend=True)
    except RunError as error:
        raise RunError(f"sample {number}: {error.message}", hint=error.hint) from error
