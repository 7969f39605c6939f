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
from tfldbg.compare.overlap import ahead, one_behind
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
    interrupt: Callable[[], None]
    """The function that ends a running call of ``batch``."""
    samples: Samples | None = None
    """The inputs of the model, None if a recording holds them."""


def running(plan: Plan, samples: Samples, runner: Runner, progress: Progress) -> Tested:
    """Return the running traced file as the tested side; the arguments are those of `run_batch`."""

    def run(numbers: range) -> Batch:
        return run_batch(plan, samples, runner, numbers, progress)

    return Tested(samples.count, run, runner.close, samples)


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
) -> Tally:
    """Measure every tensor over some samples.

    Tallies of ranges that follow each other can be merged.

    Args:
        plan: The tensors to read.
        tested: The side that is judged.
        reference: The reference, None to record TFLite alone.
        recorders: Receive every batch, one after the other.
        numbers: The samples, which begin where a batch of `batch_size` begins.

    Raises:
        RunError: The runtime crashes.
        KerasError: The reference cannot compute the data.
        CaptureError: A recording is damaged.
    """
    size = batch_size(plan, tested.count, reference)
    if own_status() is not None:  # values would be overwritten while a thread counts them
        return measure_alone(plan, tested, reference, recorders, numbers, size)
    loops.keep_memory()
    tally, tensors = Tally(plan), plan.subgraph.tensors

    def count(both: tuple[Batch, Computed]) -> None:
        clamp = bool(recorders)
        computed = settled(tensors, *both, clamp=clamp, undecided=plan.undecided)
        batch = both[0]
        tally.take(tested.samples, batch, computed if reference is not None else None)
        if recorders:
            keep((batch, computed))

    def record(both: tuple[Batch, Computed]) -> None:
        for recorder in recorders:
            recorder.record(*both)

    batches = [range(n, min(n + size, numbers.stop)) for n in numbers[::size]]
    # While the reference computes, the tested side makes the next batch, a thread counts the
    # previous one, and another thread records the one before that.
    with (
        ahead(tested.batch, batches, tested.interrupt) as made,
        one_behind(record) as keep,
        one_behind(count) as hand,
    ):
        for batch in made:
            tally.check(batch)
            computed = Computed({}, {})
            if reference is not None:
                began = perf_counter()
                computed = reference.compute(batch)
                tally.reference_s += perf_counter() - began
            hand((batch, computed))
    return tally


def measure_alone(
    plan: Plan,
    tested: Tested,
    reference: Reference | None,
    recorders: Sequence[Recorder],
    numbers: range,
    size: int = 1,
) -> Tally:
    """Measure every tensor over some samples, in a process that runs both sides itself.

    Values stay where the sides have computed them, and are counted at once.

    Args:
        plan: As for `measure`.
        tested: As for `measure`.
        reference: As for `measure`.
        recorders: As for `measure`.
        numbers: The samples.
        size: The number of samples in a batch, unless the reference decides.

    Raises:
        TfldbgError: As for `measure`.
    """
    loops.keep_memory()
    tally, tensors, status = Tally(plan), plan.subgraph.tensors, own_status()
    size = size if reference is None else reference.batch or size
    for start in numbers[::size]:
        some = range(start, min(start + size, numbers.stop))
        if status is not None:
            status.compute(start)
        batch = tested.batch(some)
        tally.check(batch)
        began = perf_counter()
        computed = Computed({}, {}) if reference is None else reference.compute(batch)
        tally.reference_s += perf_counter() - began
        computed = settled(
            tensors, batch, computed, clamp=bool(recorders), undecided=plan.undecided
        )
        tally.take(tested.samples, batch, computed if reference is not None else None)
        for recorder in recorders:
            recorder.record(batch, computed)
        if status is not None:
            status.advance(len(some))
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
) -> Batch:
    """Invoke the model on each sample in order, continuing from the state of the runner.

    Args:
        plan: The requested measurements.
        samples: The inputs.
        runner: The instrumented model.
        numbers: The numbers of the samples.
        progress: Receives the progress, sample by sample.

    Raises:
        RunError: The runtime crashes, or the samples have different shapes.
    """
    indices = (*plan.subgraph.inputs, *plan.read)
    if len(numbers) == 1 and runner.lends:
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
