"""Compare with another .tflite file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.against.file import FileReference, Free, FreeFile, nothing_free, shadow
from tfldbg.compare.against.relate_files import relate_files
from tfldbg.compare.compounding.operators import (
    Counterpart,
    FileCounterpart,
    Sides,
    float_copies,
    ranges_of,
)
from tfldbg.compare.constants.files import Holder
from tfldbg.errors import RunError
from tfldbg.files import sha256
from tfldbg.match.files import pair_file_inputs
from tfldbg.rewrite.emit import is_real
from tfldbg.run.job import Job, load, prepare
from tfldbg.run.room import check_constants
from tfldbg.session.comparisons import first_sample, readable
from tfldbg.session.float_copies import variables_of

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.graph.variables import Source
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.run.litert import Runner


class WithFile:
    """A .tflite file that is right.

    Args:
        source: Path or bytes.
        run_on: The signature, and the names of inputs.
    """

    processes = 4

    def __init__(self, source: ModelSource, run_on: RunOn) -> None:
        self._source = Path(source) if isinstance(source, str) else source
        self._run_on = run_on
        self._notes: tuple[str, ...] = ()

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Read the file and give its inputs the same samples.

        Raises:
            RunError: The files are too large to compare their constants.
        """
        loaded = load(self._source, self._run_on.signature)
        check_constants(job.loaded, loaded)
        numbers = pair_file_inputs(job.loaded.specs, loaded.specs, self._run_on.inputs)
        real = job.samples.real(0, job.samples.count)
        data = {
            loaded.specs[number].label: np.asarray(array)
            for number, array in zip(numbers, real, strict=True)
        }
        count = job.samples.count
        run_on = replace(self._run_on, data=data or None, samples=count, inputs={}, scale=None)
        self._good = prepare(self._source, run_on)
        self._numbers = numbers

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Associate the operators and build the float copies of the other file's."""
        good = self._good
        traced = Holder(job.loaded.graph, job.subgraph)
        reference = Holder(good.loaded.graph, good.subgraph)
        known = (readable(job), readable(good), job.states)
        related = relate_files(traced, reference, self._numbers, *known)
        self._notes, self._related = related.notes, related
        relation = replace(related.relation, reasons={**job.skipped, **related.relation.reasons})
        if runner is None:
            return relation, None
        name = good.loaded.path
        first = first_sample(job, runner)
        built = shadow(name, reference.graph, reference.subgraph, related.steps, first)
        reasons = {**relation.reasons, **built.reasons(related.steps)}
        stack = ExitStack()
        free: Free = nothing_free
        try:
            free = FreeFile(good, related.values, stack)
        except RunError as error:
            self._notes = (*self._notes, f"no accumulated error: {error.message}")
        variables = _variables(good, related.values)
        made = FileReference(name, built.model, related.aliases, free, stack, variables=variables)
        return replace(relation, reasons=reasons), made

    def counterpart(self, sides: Sides, stack: ExitStack) -> Counterpart:
        """Return float copies of the other file's operators, and the ranges of its tensors."""
        good, related = self._good, self._related
        known = related.values.keys()
        steps = [
            step
            for step in related.steps
            if all(t.index in known or not is_real(t) for t in step.feeds.values())
        ]
        path, graph, subgraph = good.loaded.path, good.loaded.graph, good.subgraph
        first, aliases = sides.first, related.aliases
        operators, _ = float_copies(path, graph, subgraph, steps, aliases, first, stack)
        ranges = ranges_of(subgraph, related.values)
        return FileCounterpart(sides.reference, operators, own=False, ranges=ranges)

    def describe(self, run: Run) -> Run:
        """Add the path."""
        return replace(
            run,
            reference_kind="tflite",
            reference_path=self._good.loaded.path,
            reference_sha256=sha256(self._good.loaded.data),
            notes=(*run.notes, *self._notes),
        )


def _variables(good: Job, values: Mapping[int, int]) -> dict[int, Source]:
    """Return where the other file wrote what its variables yield, as tensors of the traced file.

    Args:
        good: The other file.
        values: By tensor of the traced file its counterpart.
    """
    mine = {other: index for index, other in values.items()}
    return {
        mine[index]: replace(source, tensor=mine[source.tensor])
        for index, source in variables_of(good).items()
        if index in mine and source.tensor in mine
    }
