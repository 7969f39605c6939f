"""The float copies of a file's own operators, which several kinds of reference use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tfldbg.compare.copies import FileReference, Free, Shadow, TwinsRunner, shadow
from tfldbg.compare.float_kernels import float_shadow, whole_kernels
from tfldbg.compare.ranges.passes import Copy
from tfldbg.compare.relation import Relation
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import Steps, own_steps

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.options.runtimes import Kernels
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner

_WORTH = 20_000_000
"""The number of values over all samples for which XNNPACK saves more time than comparing it with
the other kernels takes."""


@dataclass(frozen=True, slots=True, eq=False)
class FloatCopies:
    """Separate float copies of the operators of a file."""

    job: Job
    plan: Steps
    built: Shadow
    first: Batch
    """The first sample."""

    @property
    def refused(self) -> dict[int, str]:
        """The reasons why operators have no float copy."""
        return {**self.plan.refused, **self.built.refused}

    @property
    def relation(self) -> Relation:
        """The relation in which each tensor is matched with itself."""
        reasons = {**self.job.skipped, **self.plan.reasons, **self.built.reasons(self.plan.steps)}
        return Relation(match_itself(self.job.subgraph), reasons)

    @property
    def kernels(self) -> Kernels:
        """The kernels for float copies of the whole file."""
        return whole_kernels(self.built)

    def reference(self, free: Free | None) -> FileReference:
        """Return the reference from these copies and a free-running part.

        Raises:
            RunError: The runtime refuses the copies.
        """
        aliases, variables = self.plan.aliases, self.job.sources
        return FileReference(self.built, aliases, free, variables=variables)


def float_copies(job: Job, first: Batch) -> FloatCopies:
    """Build the float copies of a file's operators.

    Args:
        job: The file.
        first: The first sample as the file computes it.
    """
    plan = own_steps(job.subgraph, job.readable, states=job.states)
    build = float_shadow if job.values >= _WORTH else shadow
    built = build(job.loaded, plan.steps, first)
    return FloatCopies(job, plan, built, first)


def free_copies(copies: FloatCopies) -> TwinsRunner:
    """Return the free-running float copies of a file.

    Args:
        copies: The separate operators.

    Raises:
        RunError: The runtime refuses the copies.
    """
    return TwinsRunner(copies.job, copies.refused, copies.kernels)


def copy_of(copies: FloatCopies, runner: Runner) -> Copy:
    """Return the float copy of a file that runs free on the job's samples."""
    job = copies.job

    def actual(number: int) -> Mapping[int, NDArray[Any]]:
        fresh = job.samples.begins_stream(number)
        made = runner.run(job.samples.codes(number), fresh=fresh)
        return dict(zip(job.exposed.taps, made, strict=True))

    return Copy(job, copies.refused, actual)


def related_at_rest(job: Job) -> Relation:
    """Return the relation of a file to itself before anything has run."""
    reasons = {**job.skipped, **own_steps(job.subgraph, job.readable).reasons}
    return Relation(match_itself(job.subgraph), reasons)
