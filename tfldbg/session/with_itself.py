"""Compare with the file's own float arithmetic."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from tfldbg.compare.against_file import FileReference, shadow, twins_or_nothing
from tfldbg.compare.operators import Counterpart, FileCounterpart, Sides
from tfldbg.compare.relation import Relation
from tfldbg.compare.stream import Reference
from tfldbg.diagnose.evidence import Run
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import own_steps
from tfldbg.run.job import DataSource, Job, ModelSource
from tfldbg.run.litert import Runner
from tfldbg.session.comparisons import first_sample, readable


class WithItself:
    """The float copies of the file's own operators."""

    def __init__(self) -> None:
        self._notes: tuple[str, ...] = ()

    def data(self, model: ModelSource, given: DataSource) -> DataSource:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Read nothing: the file is there already."""

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Build the float copies."""
        subgraph, graph = job.subgraph, job.loaded.graph
        plan = own_steps(subgraph, readable(job))
        matching = match_itself(subgraph)
        reasons = {**job.skipped, **plan.reasons}
        if runner is None:
            return Relation(matching, reasons), None
        name, first = job.loaded.path, first_sample(job, runner)
        built = shadow(name, graph, subgraph, plan.steps, first)
        refused = {**plan.refused, **built.refused}
        reasons.update(built.reasons(plan.steps))
        stack = ExitStack()
        free, self._notes = twins_or_nothing(name, graph, subgraph, refused, first, stack)
        reference = FileReference(name, built.model, plan.aliases, free, stack)
        return Relation(matching, reasons), reference

    def counterpart(self, sides: Sides, stack: ExitStack) -> Counterpart:
        """Return the float copies; the float copy of the whole file reads the file's own inputs."""
        del stack
        job, copies = sides.job, sides.copies
        given = (job.subgraph.operators[i] for i in copies.refused)
        same = {*job.subgraph.inputs, *(out for op in given for out in op.outputs)}
        return FileCounterpart(sides.reference, copies.operators, own=True, same=same)

    def describe(self, run: Run) -> Run:
        """Say that there is no other file."""
        return replace(
            run, reference_kind="self", reference_path="its own float arithmetic", notes=self._notes
        )
