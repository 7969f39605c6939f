"""Compare with the file's own float arithmetic."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.compare.against.file import TwinsRunner, free_or_nothing
from tfldbg.session.comparisons import readable
from tfldbg.session.float_copies import float_copies, related_at_rest

if TYPE_CHECKING:
    from tfldbg.compare.compounding.operators import Counterpart, Sides
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner


_MANY = 32
"""Samples from which a process for each copy saves more than it takes to start."""
_SMALL = 64 << 20
"""Bytes of a file up to which its weights may be in memory, as float32, once for each copy."""


class WithItself:
    """The float copies of the file's own operators."""

    processes = 4

    def __init__(self) -> None:
        self._notes: tuple[str, ...] = ()

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Read nothing: the file is there already."""

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Build the float copies."""
        if runner is None:
            return related_at_rest(job), None
        copies = float_copies(job, runner)
        name, graph, subgraph = job.loaded.path, job.loaded.graph, job.subgraph
        stack = ExitStack()
        known = readable(job)
        free, self._notes = free_or_nothing(
            lambda: TwinsRunner(
                name,
                graph,
                subgraph,
                copies.refused,
                stack,
                readable=known,
                streams=job.samples.stream_steps > 1,
                apart=_pays_off(job),
            ),
            copies.first,
        )
        return copies.relation, copies.reference(free, stack)

    def counterpart(self, sides: Sides, stack: ExitStack) -> Counterpart:
        """Return the float copies; the float copy of the whole file reads the file's own inputs."""
        from tfldbg.compare.compounding.operators import FileCounterpart

        del stack
        job, copies = sides.job, sides.copies
        given = (job.subgraph.operators[i] for i in copies.refused)
        same = {*job.subgraph.inputs, *(out for op in given for out in op.outputs)}
        return FileCounterpart(sides.reference, copies.operators, own=True, same=same)

    def describe(self, run: Run) -> Run:
        """Say that there is no other file."""
        return replace(
            run,
            reference_kind="self",
            reference_path="its own float arithmetic",
            notes=(*run.notes, *self._notes),
        )


def _pays_off(job: Job) -> bool:
    """Whether to run each float copy of the whole file in a process of its own."""
    return job.samples.count >= _MANY and len(job.loaded.graph.data) <= _SMALL
