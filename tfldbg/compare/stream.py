"""Run both sides over the samples, batch by batch, and collect statistics.

Memory holds one batch of every tensor, however many samples there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from tfldbg import loops
from tfldbg.compare.batch import Batch, Computed, batch_of, settled
from tfldbg.compare.overlap import Crew, ahead, one_behind
from tfldbg.compare.tally import Plan, Tally, check_shapes
from tfldbg.errors import RunError
from tfldbg.progress import Silent
from tfldbg.run.frames import Frames, numeric

if TYPE_CHECKING:
    from tfldbg.progress import Progress
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner
    from tfldbg.run.samples import Samples

_BATCH_BYTES = 96 << 20
_MOST_SAMPLES = 32


class Reference(Protocol):
    """What a .tflite file is compared with."""

    @property
    def batch(self) -> int | None:
        """The only batch size it takes, None when any will do."""

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            TfldbgError: It cannot compute the data.
        """

    def close(self) -> None:
        """Free what it holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """The side that is judged: a model that runs, or a recording of one."""

    count: int
    """The number of samples."""
    batch: Callable[[range], Batch]
    """Computes or reads some samples."""
    interrupt: Callable[[], None]
    """Ends what a batch waits for."""
    samples: Samples | None = None
    """What the model is given, None where a recording holds it."""


def running(plan: Plan, samples: Samples, runner: Runner, progress: Progress) -> Tested:
    """Return the traced file as it runs; the arguments are those of `run_batch`."""

    def run(numbers: range) -> Batch:
        return run_batch(plan, samples, runner, numbers, progress)

    return Tested(samples.count, run, runner.close, samples)


class Recorder(Protocol):
    """Whoever keeps the batches."""

    def record(self, batch: Batch, computed: Computed) -> None:
        """Keep one batch, `settled`."""


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
        plan: What to read.
        tested: The side that is judged.
        reference: What to compare with, None to record TFLite alone.
        recorders: Receive every batch, one after the other.
        numbers: The samples, which begin where a batch of `batch_size` begins.

    Raises:
        RunError: The runtime dies.
        KerasError: The reference cannot compute the data.
        CaptureError: A recording is damaged.
    """
    loops.keep_memory()
    tally, tensors = Tally(plan), plan.subgraph.tensors
    size = batch_size(plan, tested.count, reference)

    def count(both: tuple[Batch, Computed]) -> None:
        clamp = bool(recorders)
        computed = settled(tensors, *both, clamp=clamp, undecided=plan.undecided)
        batch = both[0]
        tally.take(tested.samples, batch, computed if reference is not None else None, crew)
        if recorders:
            keep((batch, computed))

    def record(both: tuple[Batch, Computed]) -> None:
        for recorder in recorders:
            recorder.record(*both)

    batches = [range(n, min(n + size, numbers.stop)) for n in numbers[::size]]
    # The tested side makes the next batch, a thread counts the last one and another records the one
    # before, while the reference computes.
    with (
        _crew(plan) as crew,
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


def _crew(plan: Plan) -> Crew:
    """Return who counts: one thread alone where functions of the user's are called."""
    return Crew(1) if plan.metrics else Crew()


def batch_size(plan: Plan, count: int, reference: Reference | None = None) -> int:
    """Return how many of ``count`` samples to keep in memory at a time.

    A reference that takes batches of one size alone decides.
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
    """Invoke the model on each sample, in order; the first goes on from where the runner is.

    Args:
        plan: What to read.
        samples: The inputs.
        runner: The instrumented model.
        numbers: Which samples.
        progress: Is told of every sample.

    Raises:
        RunError: The runtime dies, or the samples have different shapes.
    """
    frames, held = Frames[int](len(numbers)), Frames[int](len(numbers))
    indices = (*plan.subgraph.inputs, *plan.read)
    for number in numbers:
        given = samples.codes(number)
        made = _run_sample(runner, given, number, fresh=samples.begins_stream(number))
        frames.add(numeric(dict(zip(indices, (*given, *made), strict=True))))
        held.add(runner.states)
        progress.advance()
    check_shapes(plan.subgraph, frames.shapes)
    codes, states, steps = frames.stacked(), held.stacked(), samples.stream_steps
    return batch_of(plan.subgraph.tensors, numbers, codes, stream_steps=steps, states=states)


def some_samples(job: Job, runner: Runner, count: int, shown: int = 0) -> Batch:
    """Run as many samples as there are of ``count``: the first, or where a sample is among them.

    Args:
        job: The traced file.
        runner: Its instrumented model.
        count: How many samples a batch holds.
        shown: A sample to look at; streams are looked at from their beginning.
    """
    start = 0 if job.samples.stream_steps > 1 else shown // count * count
    numbers = range(start, min(start + count, job.samples.count))
    plan = Plan(job.subgraph, job.exposed.taps, observed=0)
    return run_batch(plan, job.samples, runner, numbers, Silent())


def _run_sample(
    runner: Runner, given: Sequence[NDArray[Any]], number: int, *, fresh: bool
) -> list[NDArray[Any]]:
    """Invoke the model on one sample; what it yields lies where the next one is written.

    Raises:
        RunError: The runtime refuses it, dies of it or does not finish; the message says which.
    """
    try:
        return runner.run(given, fresh=fresh, lend=True)
    except RunError as error:
        raise RunError(f"sample {number}: {error.message}", hint=error.hint) from error
