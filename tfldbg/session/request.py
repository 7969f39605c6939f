"""What is traced, beside what and on what, and how far a process gets before the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tfldbg.against import kind_of
from tfldbg.against.opened import Bench, Opened
from tfldbg.compare.stream import measure, running
from tfldbg.options.against import Against
from tfldbg.options.judge import Judge
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.run.job import prepare
from tfldbg.run.litert import Runner
from tfldbg.run.process import started_ahead
from tfldbg.session.extras import Extras
from tfldbg.session.places import check_places
from tfldbg.session.recurrent import Recurrent

if TYPE_CHECKING:
    from tfldbg.compare.points import PointRecorder
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.compare.tally import Plan, Tally
    from tfldbg.options.sources import ModelSource
    from tfldbg.progress import Progress

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A trace whose first batch can begin."""

    bench: Bench
    opened: Opened
    plan: Plan
    reference: Reference
    """The reference, with the fake-quant emulation beside it where that is asked for."""
    notes: tuple[str, ...]
    """What could not be done."""
    recurrent: Recurrent
    points: PointRecorder | None

    def measure(
        self, numbers: range, progress: Progress, recorder: Recorder | None = None
    ) -> Tally:
        """Measure every tensor over some samples.

        Args:
            numbers: The samples, which begin where a batch begins.
            progress: Is told of every sample.
            recorder: Receives every batch before the recorders of this trace do.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        own = (recorder, self.points, *self.recurrent.recorders)
        recorders = [r for r in own if r is not None]
        tested = running(self.plan, self.bench.job.samples, self.bench.runner, progress)
        return measure(self.plan, tested, self.reference, recorders, numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a trace is asked for.

    Another process can be given one, as far as its parts can be pickled.
    """

    model: ModelSource
    against: Against = field(default_factory=Against)
    run_on: RunOn = field(default_factory=RunOn)
    measure: Measure = field(default_factory=Measure)
    judge: Judge = field(default_factory=Judge)
    dump: Path | str | None = None
    """Where to record every tensor of both sides."""

    @property
    def elsewhere(self) -> Request:
        """The same for a process that may work in another folder."""
        against, run_on, measure = self.against, self.run_on, self.measure
        return replace(
            self,
            model=absolute(self.model),
            against=replace(
                against, keras=absolute(against.keras), against=absolute(against.against)
            ),
            run_on=replace(run_on, data=absolute(run_on.data)),
            measure=replace(measure, labels=absolute(measure.labels)),
        )

    @property
    def extras(self) -> Extras:
        """What is measured besides the verdict."""
        return Extras(self.measure, pictures=self.measure.pictures or self.dump is not None)

    def ready(self, stack: ExitStack, progress: Progress, unread: Mapping[int, str]) -> Ready:
        """Read the file, load the reference, start the runtime and match both.

        Args:
            stack: What to close in the end.
            progress: Is told how far it is.
            unread: Tensors that are not to be read, and why.

        Raises:
            TfldbgError: Something is wrong with a file, the data or the options.
        """
        check_places("trace", self.model, self.against, self.run_on)
        kind, extras = kind_of(self.against), self.extras
        if kind.check is not None:
            kind.check(self.against)
        extras.check(kind.traits, self.run_on.steps)
        stack.enter_context(started_ahead(kind.processes))
        run_on = self.run_on
        if kind.run_on is not None:
            run_on = kind.run_on(self.model, self.against, run_on)
        job = prepare(self.model, run_on, unread)
        plan = extras.plan(job, self.run_on.data)
        progress.stage("loading the reference")
        runner = Runner(job.instrumented).start()  # it loads while the reference does
        stack.callback(runner.close)
        bench = Bench(job, runner, self.against, self.run_on, progress)
        opened = kind.open(bench)
        reference, notes = extras.emulated(bench, opened)
        stack.callback(reference.close)
        recurrent = Recurrent(job, kind.traits, self.measure.by_step, stack)
        return Ready(bench, opened, plan, reference, notes, recurrent, extras.points(job))


def absolute(source: Source) -> Source | str:
    """Return the path of what exists as one that is right in every folder."""
    if isinstance(source, (str, PathLike)) and Path(source).exists():
        return str(Path(source).absolute())
    return source
