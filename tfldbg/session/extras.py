"""What a trace is asked for besides the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tfldbg.compare.emulation import with_emulation
from tfldbg.compare.outputs import TOLERANCE, Wanted
from tfldbg.compare.points import PointRecorder
from tfldbg.compare.sides import REFERENCE, TFLITE
from tfldbg.compare.tally import Plan
from tfldbg.compare.undecided import comparisons
from tfldbg.errors import UsageError
from tfldbg.run.labels import read_labels
from tfldbg.run.observed import observed
from tfldbg.session.metrics import find_metrics

if TYPE_CHECKING:
    from tfldbg.against.opened import Bench, Opened
    from tfldbg.compare.compounding.shares import Compounding
    from tfldbg.compare.stream import Reference
    from tfldbg.compare.worst import WorstSample
    from tfldbg.diagnose.evidence import Evidence, OpEvidence
    from tfldbg.diagnose.traits import Traits
    from tfldbg.options.measure import Measure
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Job


@dataclass(frozen=True, slots=True, eq=False)
class Extras:
    """What a trace measures besides the verdict."""

    measure: Measure
    pictures: bool
    """Whether to measure what `tfldbg.report.html` draws: histograms and pairs of values."""

    def plan(self, job: Job, data: DataSource) -> Plan:
        """Say what to measure.

        Args:
            job: The traced file.
            data: As the user gave it.

        Raises:
            DataError: The labels do not fit.
            UsageError: There is no metric of a name.
            PluginError: A metric cannot be loaded.
        """
        labels = None
        if self.measure.labels is not None:
            labels = read_labels(self.measure.labels, data, job.loaded, job.samples)
        tolerance = TOLERANCE if self.measure.tolerance is None else self.measure.tolerance
        wanted = Wanted(tolerance, labels, self.measure.top_k, self.measure.worst)
        histograms = self.measure.histograms or self.pictures
        kept = observed(job.samples)
        undecided = comparisons(job.loaded.graph, job.subgraph)
        taps, metrics = job.exposed.taps, find_metrics(self.measure.metrics)
        return Plan(job.subgraph, taps, kept, wanted, histograms, metrics, undecided)

    def points(self, job: Job) -> PointRecorder | None:
        """Return who keeps pairs of values, where pictures are asked for."""
        return PointRecorder(job.samples.count) if self.pictures else None

    @property
    def emulates(self) -> bool:
        """Whether the fake-quant emulation is asked for."""
        return self.measure.labels is not None or self.measure.tolerance is not None

    def emulated(self, bench: Bench, opened: Opened) -> tuple[Reference, tuple[str, ...]]:
        """Let the fake-quant emulation run beside the reference, where it is asked for.

        Returns:
            What to compare with, and notes on what could not be done.
        """
        if not self.emulates or opened.emulates:
            return opened.reference, ()
        both, reason = with_emulation(bench.job, opened.reference, bench.first)
        return both, () if reason is None else (reason,)

    def check(self, traits: Traits, steps: int) -> None:
        """Refuse what a reference, or streams, do not allow.

        Args:
            traits: Of the reference.
            steps: How many samples make a stream.

        Raises:
            UsageError: Compounding is asked for, and the reference's operators cannot be computed
                on other values; or errors compound through the state.
        """
        if not self.measure.compounding:
            return
        if not traits.divisible:
            raise UsageError(
                "how errors compound is not measured against a recording, another runtime or an "
                "emulation: their operators cannot be run in float on other values",
                hint="leave --compounding out, or trace with --keras, --against GOOD.tflite or no "
                "reference",
            )
        if steps > 1:
            raise UsageError(
                "--compounding follows errors through one run of the model, and not from step to "
                "step of a stream",
                hint="leave out --steps or --compounding",
            )

    def shares(self, bench: Bench, opened: Opened, reference: Reference) -> Compounding | None:
        """Measure how errors compound, where it is asked for."""
        if not self.measure.compounding or opened.counterpart is None:
            return None
        from tfldbg.session.compounding import compounding

        return compounding(bench, opened, reference)

    def add(
        self,
        evidence: Evidence,
        worst: tuple[WorstSample, ...],
        notes: tuple[str, ...],
        shares: Compounding | None = None,
        points: PointRecorder | None = None,
    ) -> Evidence:
        """Complete the evidence, and note what was asked for and is not there.

        Args:
            evidence: What the trace measured.
            worst: The samples that were looked at one by one.
            notes: What could not be done.
            shares: How errors compound.
            points: Who kept pairs of values.
        """
        if self.measure.worst and not worst:
            notes = (*notes, f"no worst samples: {_why_none(evidence)}")
        stats = [s for o in evidence.ops for s in (o.local, o.accumulated) if s is not None]
        if self.measure.histograms and not any(s.histogram for s in stats):
            notes = (*notes, "no histograms: no tensor that was compared is quantized")
        run = replace(evidence.run, notes=(*evidence.run.notes, *notes))
        return replace(
            evidence,
            run=run,
            ops=_with_points(evidence, points) if points else evidence.ops,
            worst=worst,
            tolerance=self.measure.tolerance,
            compounding=shares,
        )


def _with_points(evidence: Evidence, points: PointRecorder) -> tuple[OpEvidence, ...]:
    local, accumulated = points.local(), points.accumulated()
    return tuple(
        replace(o, local_points=local.get(o.tensor), accumulated_points=accumulated.get(o.tensor))
        for o in evidence.ops
    )


def _why_none(evidence: Evidence) -> str:
    pairs = [(p.test, p.against) for output in evidence.outputs for p in output.pairs]
    if (TFLITE, REFERENCE) in pairs:
        return "the final outputs equal the reference's in every sample"
    return "no final output has a counterpart in the reference"
