"""The request of a trace, and its preparation before the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tfldbg.against import chosen_kind
from tfldbg.against.opened import Bench, Opened
from tfldbg.compare import stream
from tfldbg.compare.bodies.callers import Bodies
from tfldbg.compare.emulation import with_emulation
from tfldbg.compare.tally import Plan
from tfldbg.compare.undecided import comparisons
from tfldbg.graph.query import ROLES
from tfldbg.measures import MEASUREMENTS
from tfldbg.options.against import Against
from tfldbg.options.judge import Judge
from tfldbg.options.measure import Measure
from tfldbg.options.run_on import RunOn
from tfldbg.run.job import Job, prepare
from tfldbg.run.litert import Runner
from tfldbg.run.observed import observed
from tfldbg.run.process import one_process
from tfldbg.session.places import check_places

if TYPE_CHECKING:
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.compare.tally import Tally
    from tfldbg.diagnose.traits import Traits
    from tfldbg.options.sources import DataSource, ModelSource
    from tfldbg.progress import Progress

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A trace that is ready for its first batch."""

    options: Measure
    """The additional measurements."""
    bench: Bench
    opened: Opened
    plan: Plan
    reference: Reference
    """The reference, with the fake-quant emulation if requested."""
    notes: tuple[str, ...]
    """Notes for the user about limitations of the run."""
    bodies: Bodies | None
    """The recorder of the subgraphs that operators run."""
    watched: Mapping[str, Recorder]
    """The recorder of each measurement that has one."""

    def measure(
        self, numbers: range, progress: Progress, recorder: Recorder | None = None
    ) -> Tally:
        """Measure all tensors over some samples.

        Args:
            numbers: The samples, which begin where a batch begins.
            progress: Receives the progress, sample by sample.
            recorder: Receives each batch before the recorders of this trace.

        Raises:
            TfldbgError: As for `tfldbg.trace`.
        """
        own = (recorder, *self.watched.values(), self.bodies)
        recorders = [r for r in own if r is not None]
        tested = stream.running(self.plan, self.bench.job.samples, self.bench.runner, progress)
        return stream.measure(self.plan, tested, self.reference, recorders, numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """The request of a trace.

    It can be passed to another process if its parts can be pickled.
    """

    model: ModelSource
    against: Against = field(default_factory=Against)
    run_on: RunOn = field(default_factory=RunOn)
    measure: Measure = field(default_factory=Measure)
    judge: Judge = field(default_factory=Judge)
    dump: Path | str | None = None
    """The file for a recording of all tensors of both sides."""
    dump_exact: bool = False
    """True to record the reference's own values instead of rounded errors."""

    @property
    def elsewhere(self) -> Request:
        """The request for a process that may run in another folder."""
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
    def measured(self) -> Measure:
        """The requested measurements, to which a recording adds the data of pictures."""
        pictures = self.measure.pictures or self.dump is not None
        return replace(self.measure, pictures=pictures)

    def ready(self, stack: ExitStack, progress: Progress, unread: Mapping[int, str]) -> Ready:
        """Read the file, load the reference, start the runtime and match both.

        Args:
            stack: The stack to close at the end.
            progress: Receives the progress.
            unread: The tensors not to read, with the reasons.

        Raises:
            TfldbgError: A file, the data or the options are invalid.
        """
        check_places("trace", self.model, self.against, self.run_on)
        kind, measure = chosen_kind(self.against), self.measured
        if kind.check is not None:
            kind.check(self.against)
        for one in MEASUREMENTS:
            one.check(measure, kind.traits, self.run_on.steps)
        stack.enter_context(one_process())
        run_on = self.run_on
        if kind.run_on is not None:
            run_on = kind.run_on(self.model, self.against, run_on)
        job = prepare(self.model, run_on, unread)
        plan = _plan(job, measure, self.run_on.data)
        progress.stage("loading the reference")
        runner = Runner(job.instrumented).start()  # it loads while the reference does
        stack.callback(runner.close)
        bench = Bench(job, runner, self.against, self.run_on, progress)
        opened = kind.open(bench)
        reference, notes = _emulated(bench, opened, measure)
        stack.callback(reference.close)
        bodies, watched = _watched(job, kind.traits, measure, stack)
        return Ready(measure, bench, opened, plan, reference, notes, bodies, watched)


def _plan(job: Job, measure: Measure, data: DataSource) -> Plan:
    """Return the plan of the stream.

    Raises:
        DataError: The labels do not fit.
    """
    subgraph, kept = job.subgraph, observed(job.samples)
    undecided = comparisons(job.loaded.graph, subgraph)
    plan = Plan(subgraph, job.exposed.taps, kept, undecided=undecided)
    for one in MEASUREMENTS:
        plan = one.plan(plan, measure, job, data)
    return plan


def _emulated(bench: Bench, opened: Opened, measure: Measure) -> tuple[Reference, tuple[str, ...]]:
    """Add the fake-quant emulation to the reference, if it is requested.

    Returns:
        The reference, and a note if the emulation cannot run.
    """
    wanted = measure.labels is not None or measure.tolerance is not None
    if not wanted:
        return opened.reference, ()
    both, reason = with_emulation(bench.job, opened.reference, bench.first)
    return both, () if reason is None else (reason,)


def _watched(
    job: Job, traits: Traits, measure: Measure, stack: ExitStack
) -> tuple[Bodies | None, dict[str, Recorder]]:
    """Return the recorder of subgraphs that operators run, and those of measurements.

    Against other kernels or a recording, subgraphs are not traced, since a comparison with float
    copies would answer another question.
    """
    inside = traits.has_insides and any(op.kind in ROLES for op in job.subgraph.operators)
    bodies = Bodies(job, stack) if inside else None
    watching = ((one.name, one.watch(measure, job, stack)) for one in MEASUREMENTS)
    return bodies, {name: recorder for name, recorder in watching if recorder is not None}


def absolute(source: Source) -> Source | str:
    """Return an existing path as an absolute one, and other sources unchanged."""
    if isinstance(source, (str, PathLike)) and Path(source).exists():
        return str(Path(source).absolute())
    return source
