"""Measure how errors compound, whatever the reference is."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tfldbg.compare.compounding.measure import measure
from tfldbg.compare.compounding.operators import Counterpart, Sides, own_copies
from tfldbg.compare.compounding.shares import Compounding
from tfldbg.errors import RunError, UsageError
from tfldbg.session.comparisons import Comparison, first_sample

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.progress import Progress
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner


@runtime_checkable
class Divisible(Protocol):
    """A reference whose operators can be computed on other values than those of a run."""

    def counterpart(self, sides: Sides, stack: ExitStack) -> Counterpart:
        """Return the reference, free and operator by operator.

        Args:
            sides: What is there already.
            stack: What to close in the end.
        """


def divisible(comparison: Comparison) -> Divisible:
    """Return a comparison whose operators can be computed on other values; refuse others.

    Raises:
        UsageError: The reference is a recording, another runtime or an emulation.
    """
    if not isinstance(comparison, Divisible):
        raise UsageError(
            "how errors compound is not measured against a recording, another runtime or an "
            "emulation: their operators cannot be run in float on other values",
            hint="leave --compounding out, or trace with --keras, --against GOOD.tflite or no "
            "reference",
        )
    return comparison


def compounding(
    job: Job,
    comparison: Divisible,
    relation: Relation,
    reference: Reference,
    runner: Runner,
    progress: Progress,
) -> Compounding:
    """Measure what each operator contributes to the error of the final outputs.

    Args:
        job: The traced file.
        comparison: What it is compared with.
        relation: How the two sides are related.
        reference: The running reference.
        runner: The instrumented model.
        progress: Is told of every sample.

    Raises:
        KerasError: The reference cannot compute the data.
    """
    with ExitStack() as stack:
        try:
            first = first_sample(job, runner)
            copies = own_copies(job, first, stack)
            sides = Sides(job, runner, first, reference, relation, copies)
            return measure(sides, comparison.counterpart(sides, stack), stack, progress)
        except RunError as error:
            return Compounding(0, (), (), None, 0.0, (f"not measured: {error.message}",))
