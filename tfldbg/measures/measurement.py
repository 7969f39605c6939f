"""The interface of additional measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from tfldbg.against.opened import Bench, Opened
    from tfldbg.compare.bodies.callers import Bodies
    from tfldbg.compare.stream import Recorder, Reference
    from tfldbg.compare.tally import Measured, Plan
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.diagnose.result import Result
    from tfldbg.diagnose.traits import Traits
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure
    from tfldbg.options.sources import DataSource
    from tfldbg.run.job import Job


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A trace whose samples have all been compared."""

    measure: Measure
    """The options."""
    bench: Bench
    opened: Opened
    reference: Reference
    plan: Plan
    measured: Measured
    evidence: Evidence
    """The evidence of the verdict."""
    bodies: Bodies | None
    """The recorder of the subgraphs that operators run."""
    watched: Recorder | None = None
    """The recorder that `Measurement.watch` returned."""


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The outcome of one measurement."""

    result: Any = None
    """The result, None if nothing was measured."""
    notes: tuple[str, ...] = ()
    """Notes for the user, such as why nothing was measured."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts of a result that a report shows."""

    everything: bool
    """True to show all operators."""
    chosen: Sequence[int] | None
    """The numbers of the operator outputs in the table, None for all."""
    histograms: bool
    """True to also show the histograms of the errors."""


class Measurement(ABC):
    """An additional measurement of a trace.

    A measurement is a folder of `tfldbg.measures`, and is listed there.
    """

    name: str
    """The key of the result in the evidence."""
    result: Any
    """The type of the result, from which recordings are read; None if the statistics of the
    operators hold it."""
    keys: ClassVar[Mapping[str, tuple[Any, str]]] = MappingProxyType({})
    """The type and the description of each key that it adds to the JSON of a trace."""
    merges = False
    """True if its recorder has a method ``merge``, for several processes that share the samples."""
    timed = False
    """True to include the time of the measurement in the JSON of the trace."""

    def plan(self, plan: Plan, measure: Measure, job: Job, data: DataSource) -> Plan:
        """Return the plan of the stream, extended by this measurement.

        Args:
            plan: The plan so far.
            measure: The options.
            job: The traced file.
            data: The data as the user gave it.

        Raises:
            TfldbgError: An option does not fit the file or the data.
        """
        del measure, job, data
        return plan

    def check(self, measure: Measure, traits: Traits, steps: int) -> None:
        """Check, before anything runs, that a reference and streams allow the measurement.

        Args:
            measure: The options.
            traits: The traits of the reference.
            steps: The number of samples in a stream.

        Raises:
            UsageError: The reference or the stream does not allow it.
        """
        del measure, traits, steps

    def watch(self, measure: Measure, job: Job, stack: ExitStack) -> Recorder | None:
        """Return a recorder that must receive all batches, or None."""
        del measure, job, stack
        return None

    @abstractmethod
    def finish(self, traced: Traced) -> Finished:
        """Return the result after the last sample."""

    def json(self, result: Result) -> dict[str, Any]:
        """Return the values of ``keys``; dataclasses and tuples become JSON's objects and lists."""
        return {key: result.evidence.measures.get(self.name) for key in self.keys}

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return the sections of a report, none if nothing was measured."""
        del result, shown
        return ()
