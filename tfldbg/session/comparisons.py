"""What a .tflite file can be compared with, as `tfldbg.session.tracing` sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tfldbg.compare.stream import Reference, run_batch
from tfldbg.compare.tally import Plan
from tfldbg.progress import Silent

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.relation import Relation
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.reference.capture import Capture
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner


class Comparison(Protocol):
    """Something to compare with, in the order in which `tfldbg.session.tracing` asks for it."""

    processes: int
    """How many processes to start for LiteRT before it is known what they run; 0 where the
    reference keeps all processors busy meanwhile."""

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what to run on: what is given, with the data of the reference if it has some."""

    def load(self, job: Job) -> None:
        """Read whatever must be read, and check that it fits the job."""

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Bring both sides together.

        Args:
            job: The traced file.
            runner: Its instrumented model; None to tell only what can be told without running.
        """

    def describe(self, run: Run) -> Run:
        """Add what the reference is."""


def readable(job: Job) -> frozenset[int]:
    """Return the tensors of a job whose values are known, and are numbers."""
    tensors = job.subgraph.tensors
    given = (i for i in job.subgraph.inputs if tensors[i].type != "STRING")
    return frozenset((*job.exposed.taps, *given))


def other_file(capture: Capture, model_sha256: str | None) -> tuple[str, ...]:
    """Say that a recording is of another file, where it tells what it was recorded from.

    Args:
        capture: The recording.
        model_sha256: The file that is compared with it, None where that is unknown.
    """
    recorded = capture.said("model_sha256")
    if not recorded or not model_sha256 or recorded == model_sha256:
        return ()
    return (
        f"'{capture.path}' was recorded from another file, whose constants and options may be "
        "others: compare the files with tfldbg trace MODEL.tflite --against OTHER.tflite",
    )


def first_sample(job: Job, runner: Runner) -> Batch:
    """Run the first sample alone."""
    return some_samples(job, runner, 1)


def some_samples(job: Job, runner: Runner, count: int, shown: int = 0) -> Batch:
    """Run as many samples as there are of ``count``: the first, or where a sample is among them.

    Args:
        job: The traced file.
        runner: Its instrumented model.
        count: How many samples a batch holds.
        shown: A sample to look at; streams are looked at from their begin.
    """
    start = 0 if job.samples.stream_steps > 1 else shown // count * count
    numbers = range(start, min(start + count, job.samples.count))
    plan = Plan(job.subgraph, job.exposed.taps, observed=0)
    return run_batch(plan, job.samples, runner, numbers, Silent())
