"""The interface of references: opening one, and the opened reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tfldbg.compare.stream import some_samples
from tfldbg.compare.tally import NOTHING
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.describe import describe
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.words import op_name
from tfldbg.errors import RunError
from tfldbg.options.judge import Thresholds

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.counterparts import Counterpart, Sides
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Reference
    from tfldbg.diagnose.evidence import Run
    from tfldbg.diagnose.traits import Traits
    from tfldbg.options.against import Against, ReferenceKind
    from tfldbg.options.run_on import RunOn
    from tfldbg.options.sources import ModelSource
    from tfldbg.progress import Progress
    from tfldbg.run.job import Job
    from tfldbg.run.litert import Runner


@dataclass(frozen=True, slots=True)
class About:
    """The description of a reference in a run."""

    kind: ReferenceKind
    """The kind in the JSON of ``trace``."""
    path: str
    """Its path, or a description."""
    traits: Traits
    sha256: str | None = None
    data: str | None = None
    """The source of the data, if it came with the reference."""
    runtime: str | None = None
    """The runtime that computed it, if it is the same file under other kernels."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of the packages that loaded it."""

    def described(self, run: Run) -> Run:
        """Return the description of a run with this reference."""
        return replace(
            run,
            reference_kind=self.kind,
            reference_path=self.path,
            reference_sha256=self.sha256,
            reference_runtime=self.runtime,
            data=run.data if self.data is None else self.data,
            versions={**run.versions, **self.versions},
            traits=self.traits,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A reference that is ready to compute, and its relation to the file."""

    about: About
    relation: Relation
    reference: Reference
    """The reference, which the caller closes; it can be pickled, for other processes."""
    notes: tuple[str, ...] = ()
    """Notes on it for the user."""
    counterpart: Callable[[Sides, ExitStack], Counterpart] | None = None
    """The function that returns the reference as free-running and single operators, if it can be
    divided.  The stack closes what it opens."""
    read: Callable[[Batch], Batch] | None = None
    """The function that returns the values that the operators read, if they are not the file's."""

    def described(self, run: Run) -> Run:
        """Return the description of a run with this reference and its notes."""
        run = self.about.described(run)
        return replace(run, notes=(*run.notes, *self.notes))


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of reference, with the function that opens one."""

    traits: Traits
    open: Callable[[Bench], Opened]
    """The function that opens the reference of a bench.  It must call `Bench.start` before it reads
    a value of the file."""
    check: Callable[[Against], None] | None = None
    """The function that refuses an invalid reference before a file is read."""
    run_on: Callable[[ModelSource, Against, RunOn], RunOn] | None = None
    """The function that returns the data to run on, if the reference holds data and none is
    given."""


class Bench:
    """The traced file and its samples, for opening a reference.

    Args:
        job: The file and its samples.
        runner: Its instrumented model, which may still be loading.
        against: The requested reference.
        given: The user's options for data and runtime.
        progress: Receives the progress.
    """

    def __init__(
        self, job: Job, runner: Runner, against: Against, given: RunOn, progress: Progress
    ) -> None:
        self.job, self.runner, self.against, self.given = job, runner, against, given
        self.progress = progress

    def start(self, about: About, at_rest: Callable[[], Relation]) -> None:
        """Wait until the runtime has loaded the file.

        Args:
            about: The reference.
            at_rest: Returns the relation that is known without running the file, to name the first
                operator that differs if the runtime refuses the file.

        Raises:
            RunError: The runtime refuses the file.
        """
        try:
            self.runner.__enter__()
        except RunError as error:
            run = about.described(describe(self.job, True, {}))
            evidence = collect(self.job.loaded, run, at_rest(), NOTHING)
            found = diagnose(evidence, Thresholds()).divergences
            if not found:
                raise
            name = op_name(found[0].op, found[0].kind, found[0].tensor)
            raise RunError(
                f"{error.message}; without running it, {name} is the first that differs from the "
                f"reference: {found[0].message}",
                hint=error.hint,
            ) from error
        self.progress.stage("matching")

    @cached_property
    def first(self) -> Batch:
        """The first sample as the file computes it, which is run once per trace.

        Raises:
            RunError: The runtime crashes.
        """
        return some_samples(self.job, self.runner, 1)
