"""Compare with an emulation of TFLite in float arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tfldbg.compare.against.emulation import Emulation, RoundedRunner
from tfldbg.compare.against.file import free_or_nothing
from tfldbg.compare.ranges.calibrate import (
    FAKE_QUANT_PASS,
    FLOAT_PASS,
    Sharing,
    as_parameters,
    share,
)
from tfldbg.compare.ranges.following import liken, proximity
from tfldbg.compare.ranges.passes import Copy, Pass, fake_quant_pass, float_extents, float_pass
from tfldbg.diagnose.words import short
from tfldbg.errors import RunError, UsageError
from tfldbg.options.against import EMULATED, EMULATIONS, FAKE_QUANT_RANGES, FLOAT_RANGES
from tfldbg.session.float_copies import FloatCopies, float_copies, related_at_rest

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.match.model import Match
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.progress import Progress
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner

_PATHS = {
    EMULATED: "its own arithmetic in float, rounded to codes",
    FLOAT_RANGES: "its own arithmetic in float, rounded with the ranges of a float pass",
    FAKE_QUANT_RANGES: "its own arithmetic in float, rounded with the ranges of a "
    "fake-quantized pass",
}


class WithEmulation:
    """The float copies of the file's own operators, rounded to codes.

    Args:
        kind: One of `tfldbg.compare.sides.EMULATIONS`.
        progress: Is told how far the passes over the data are.

    Raises:
        UsageError: There is no such emulation.
    """

    processes = 4

    def __init__(self, kind: str, progress: Progress) -> None:
        known = next((emulation for emulation in EMULATIONS if emulation == kind), None)
        if known is None:
            raise UsageError(
                f"there is no reference '{kind}'",
                hint=f"choose one of {', '.join(EMULATIONS)}, or a function as "
                "package.module:function; leave --reference out to trace the file against its own "
                "float arithmetic",
            )
        self._kind, self._progress = known, progress
        self._notes: tuple[str, ...] = ()

    def run_on(self, model: ModelSource, given: RunOn) -> RunOn:
        """Return what is given."""
        del model
        return given

    def load(self, job: Job) -> None:
        """Read nothing: the file is there already."""

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Build the float copies, and compute the parameters where they are not the file's."""
        if runner is None:
            return related_at_rest(job), None
        copies = float_copies(job, runner)
        copy, relation, parameters = copy_of(copies, runner), copies.relation, None
        if self._kind != EMULATED:
            found = self._calibrated(copy)
            parameters = as_parameters(found.parameters)
            matching = replace(
                relation.matching, matches=_informed(relation.matching.matches, found)
            )
            relation = replace(relation, matching=matching)
        stack = ExitStack()
        free, notes = free_or_nothing(lambda: RoundedRunner(copy, parameters, stack), copies.first)
        self._notes = (*self._notes, *notes)
        return relation, Emulation(copies.reference(free, stack), job.subgraph)

    def _calibrated(self, copy: Copy) -> Pass:
        """Run the passes over the data, and note how far the file's parameters are from theirs."""
        sharing = share(copy.graph, copy.subgraph, copy.refused)
        try:
            seen = float_extents(copy, sharing, self._progress)
            if self._kind == FLOAT_RANGES:
                source, found = FLOAT_PASS, float_pass(copy, sharing, seen)
            else:
                source = FAKE_QUANT_PASS
                found = fake_quant_pass(copy, sharing, seen, self._progress)
        except RunError as error:
            raise RunError(
                f"no ranges can be measured: {error.message}",
                hint="trace without --reference: every operator is then checked for itself",
            ) from error
        self._notes = _notes(copy, sharing, source, found)
        return found

    def describe(self, run: Run) -> Run:
        """Say what is emulated."""
        return replace(
            run,
            reference_kind=self._kind,
            reference_path=_PATHS[self._kind],
            notes=(*run.notes, *self._notes),
        )


def copy_of(copies: FloatCopies, runner: Runner) -> Copy:
    """Return the float copy of a file as one that runs free over the job's samples."""
    job = copies.job

    def actual(number: int) -> Mapping[int, NDArray[Any]]:
        fresh = job.samples.begins_stream(number)
        made = runner.run(job.samples.codes(number), fresh=fresh)
        return dict(zip(job.exposed.taps, made, strict=True))

    loaded = job.loaded
    return Copy(loaded.path, loaded.graph, loaded.subgraph, copies.refused, job.samples, actual)


def _informed(matches: Mapping[int, Match], found: Pass) -> dict[int, Match]:
    """Put the computed parameters beside the file's; that they differ is no fault."""
    return {
        i: replace(match, parameters="computed", expected=(p.scale, p.zero_point))
        if (p := found.parameters.get(i)) is not None
        else match
        for i, match in matches.items()
    }


def _notes(copy: Copy, sharing: Sharing, source: str, found: Pass) -> tuple[str, ...]:
    tensors = copy.subgraph.tensors
    free = [tensors[i] for i in sharing.free]
    candidate = {i: (p.scale, p.zero_point) for i, p in found.parameters.items()}
    likeness = liken(source, free, candidate)
    if likeness is None:
        return ("no parameters depend on data",)
    where = short(tensors[likeness.farthest].name)
    said = f"the file's parameters beside those of a {source}: {proximity(likeness, where)}"
    if found.settled:
        return (said,)
    return (said, f"the {source} had not settled after {found.rounds} rounds")
