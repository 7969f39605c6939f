"""What is traced, beside what and on what, and how far a process gets before the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tfldbg.compare.tally import NOTHING, Plan
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.words import op_name
from tfldbg.errors import RunError, UsageError
from tfldbg.options.against import EMULATIONS, Against
from tfldbg.options.judge import Judge, Thresholds
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.plugins import REFERENCES, load_plugin, plugin_names
from tfldbg.run.job import Job, prepare
from tfldbg.run.litert import Runner
from tfldbg.run.process import started_ahead
from tfldbg.session.describe import describe
from tfldbg.session.extras import Extras
from tfldbg.session.places import check_places
from tfldbg.session.recurrent import Recurrent

if TYPE_CHECKING:
    from tfldbg.compare.points import PointRecorder
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.options.sources import ModelSource, ReferenceFunction
    from tfldbg.progress import Progress
    from tfldbg.session.comparisons import Comparison

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A trace whose first batch can begin."""

    job: Job
    comparison: Comparison
    plan: Plan
    runner: Runner
    relation: Relation
    reference: Reference | None
    notes: tuple[str, ...]
    """What could not be done."""
    recurrent: Recurrent
    points: PointRecorder | None

    @property
    def recorders(self) -> tuple[Recorder, ...]:
        """Who must see every batch."""
        points = () if self.points is None else (self.points,)
        return (*points, *self.recurrent.recorders)


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

    def comparison(self, progress: Progress) -> Comparison:
        """Return what to compare with, before it is loaded.

        Raises:
            UsageError: There are several, or it is of no kind that is known.
            PluginError: A function cannot be loaded.
        """
        kind, against, run_on = self.against.kind, self.against, self.run_on
        # Only what is wanted is imported: that takes a tenth of the time of a short trace.
        if kind == "keras":
            from tfldbg.session.with_keras import WithKeras

            return WithKeras(against, run_on)
        if kind == "capture":
            from tfldbg.session.with_capture import WithCapture

            return WithCapture(str(against.against), run_on)
        if against.against is not None:
            from tfldbg.session.with_file import WithFile

            return WithFile(against.against, run_on)
        if against.reference is not None:
            return _named_reference(against.reference, run_on, progress)
        if against.against_runtime is not None:
            from tfldbg.session.with_runtime import WithRuntime

            return WithRuntime(against.against_runtime)
        from tfldbg.session.with_itself import WithItself

        return WithItself()

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
        comparison, extras = self.comparison(progress), self.extras
        extras.check(comparison, self.run_on.steps)
        stack.enter_context(started_ahead(comparison.processes))
        job = prepare(self.model, comparison.run_on(self.model, self.run_on), unread)
        plan = extras.plan(job, self.run_on.data)
        progress.stage("loading the reference")
        runner = Runner(job.instrumented).start()  # it loads while the reference does
        stack.callback(runner.close)
        comparison.load(job)
        _enter(runner, job, comparison)
        progress.stage("matching")
        relation, reference = comparison.relate(job, runner)
        notes: tuple[str, ...] = ()
        if reference is not None:
            reference, notes = extras.emulated(job, runner, comparison, reference)
            stack.callback(reference.close)
        recurrent = Recurrent(job, comparison, self.measure.by_step, stack)
        return Ready(
            job,
            comparison,
            plan,
            runner,
            relation,
            reference,
            notes,
            recurrent,
            extras.points(job),
        )


def absolute(source: Source) -> Source | str:
    """Return the path of what exists as one that is right in every folder."""
    if isinstance(source, (str, PathLike)) and Path(source).exists():
        return str(Path(source).absolute())
    return source


def _named_reference(
    reference: str | ReferenceFunction, run_on: RunOn, progress: Progress
) -> Comparison:
    if not isinstance(reference, str):
        if not callable(reference):
            raise UsageError(
                f"the reference is of type {type(reference).__name__}, expected a function or "
                "a name",
                hint="a model or a file is given with keras= or against=",
            )
        from tfldbg.session.with_function import WithFunction

        name = getattr(reference, "__qualname__", type(reference).__qualname__)
        return WithFunction(name, reference, run_on)
    if reference not in EMULATIONS and (":" in reference or reference in plugin_names(REFERENCES)):
        from tfldbg.session.with_function import WithFunction

        return WithFunction(reference, load_plugin(REFERENCES, reference), run_on)
    from tfldbg.session.with_emulation import WithEmulation

    return WithEmulation(reference, progress)


def _enter(runner: Runner, job: Job, comparison: Comparison) -> None:
    """Enter the runtime; if it refuses the file, add what can be told without running it."""
    try:
        runner.__enter__()
    except RunError as error:
        relation, _ = comparison.relate(job, None)
        run = comparison.describe(describe(job, True, {}))
        found = diagnose(collect(job.loaded, run, relation, NOTHING), Thresholds()).divergences
        if not found:
            raise
        name = op_name(found[0].op, found[0].kind, found[0].tensor)
        raise RunError(
            f"{error.message}; without running it, {name} is the first that differs from the "
            f"reference: {found[0].message}",
            hint=error.hint,
        ) from error
