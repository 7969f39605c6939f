"""What is traced, beside what and on what, and how far a process gets before the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tfldbg.compare.sides import EMULATIONS
from tfldbg.compare.tally import NOTHING, Plan
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.words import op_name
from tfldbg.errors import RunError, UsageError
from tfldbg.plugins import REFERENCES, load_plugin, plugin_names
from tfldbg.reference.capture import is_recording
from tfldbg.run.job import DataSource, Job, ModelSource, Options, prepare
from tfldbg.run.litert import Runner
from tfldbg.run.process import started_ahead
from tfldbg.session.describe import describe
from tfldbg.session.places import check_places
from tfldbg.session.recurrent import Recurrent

if TYPE_CHECKING:
    from tfldbg.compare.points import PointRecorder
    from tfldbg.compare.relation import Relation
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.progress import Progress
    from tfldbg.reference.function import ReferenceFunction
    from tfldbg.session.comparisons import Comparison
    from tfldbg.session.extras import Extras

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
class TraceRequest:
    """What a trace is asked for; each part means what it means for `tfldbg.trace`.

    Another process can be given one, as far as its parts can be pickled.
    """

    model: ModelSource
    keras: Any
    against: ModelSource | None
    against_runtime: str | None
    reference: str | ReferenceFunction | None
    data: DataSource
    options: Options
    extras: Extras

    @property
    def elsewhere(self) -> TraceRequest:
        """The same for a process that may work in another folder."""
        return replace(
            self,
            model=absolute(self.model),
            keras=absolute(self.keras),
            against=absolute(self.against),
            data=absolute(self.data),
            extras=replace(self.extras, labels=absolute(self.extras.labels)),
        )

    def comparison(self, progress: Progress) -> Comparison:
        """Return what to compare with, before it is loaded.

        Raises:
            UsageError: There are several, or it is of no kind that is known.
            PluginError: A function cannot be loaded.
        """
        named = {
            "--keras": self.keras,
            "--against": self.against,
            "--against-runtime": self.against_runtime,
            "--reference": self.reference,
        }
        given = [name for name, value in named.items() if value is not None]
        if len(given) > 1:
            raise UsageError(
                f"a trace has one reference, and there are {len(given)}: {', '.join(given)}",
                hint="keep one of them, and trace again for the other",
            )
        # Only what is wanted is imported: that takes a tenth of the time of a short trace.
        if self.keras is not None:
            from tfldbg.session.with_keras import WithKeras

            return WithKeras(self.keras, self.options)
        if is_recording(self.against):
            from tfldbg.session.with_capture import WithCapture

            return WithCapture(str(self.against), self.options)
        if self.against is not None:
            from tfldbg.session.with_file import WithFile

            return WithFile(self.against, self.options)
        if self.reference is not None:
            return _named_reference(self.reference, self.options, progress)
        if self.against_runtime is not None:
            from tfldbg.session.with_runtime import WithRuntime

            return WithRuntime(self.against_runtime)
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
        check_places("trace", self.model, keras=self.keras, against=self.against, data=self.data)
        comparison, extras = self.comparison(progress), self.extras
        extras.check(comparison, self.options.stream_steps)
        stack.enter_context(started_ahead(comparison.processes))
        job = prepare(self.model, comparison.data(self.model, self.data), self.options, unread)
        plan = extras.plan(job, self.data)
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
        recurrent = Recurrent(job, comparison, extras.by_step, stack)
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
    reference: str | ReferenceFunction, options: Options, progress: Progress
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
        return WithFunction(name, reference, options)
    if reference not in EMULATIONS and (":" in reference or reference in plugin_names(REFERENCES)):
        from tfldbg.session.with_function import WithFunction

        return WithFunction(reference, load_plugin(REFERENCES, reference), options)
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
