"""What a trace tells about recurrent networks, and about the subgraphs that operators run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.compare.bodies.callers import Bodies
from tfldbg.compare.steps import AlongTime, Step, by_step
from tfldbg.diagnose.bodies import collect_bodies
from tfldbg.graph.query import ROLES
from tfldbg.graph.steps import sequences, unrolled

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.stream import Recorder
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.diagnose.traits import Traits
    from tfldbg.run.job import Job


class Recurrent:
    """Watches the stream of a trace.

    Args:
        job: The traced file.
        traits: Of the reference.  Beside other kernels or a recording, which may be of other
            kernels, the float copies of the operators inside would be another question.
        by_step: Whether the errors of each time step are asked for.
        stack: What to close in the end.
    """

    def __init__(self, job: Job, traits: Traits, by_step: bool, stack: ExitStack) -> None:
        self._job, self._by_step = job, by_step
        inside = traits.has_insides and any(op.kind in ROLES for op in job.subgraph.operators)
        self._bodies = Bodies(job, stack) if inside else None
        fused = sequences(job.subgraph) if by_step else ()
        self._along = AlongTime(job, fused, stack) if fused else None

    @property
    def recorders(self) -> tuple[Recorder, ...]:
        """Who must see every batch."""
        return tuple(r for r in (self._bodies, self._along) if r is not None)

    def add_to(self, evidence: Evidence) -> Evidence:
        """Add what was seen."""
        measured = self._bodies.measured() if self._bodies is not None else ()
        steps = self._steps(evidence) if self._by_step else None
        return replace(evidence, steps=steps, bodies=collect_bodies(evidence.run, measured))

    def _steps(self, evidence: Evidence) -> tuple[Step, ...]:
        figures = self._along.figures() if self._along is not None else []
        figures += self._bodies.figures() if self._bodies is not None else ()
        stats: dict[int, list[tuple[TensorStats | None, TensorStats | None, float | None]]] = {}
        for op in evidence.ops:
            stats.setdefault(op.op, []).append((op.local, op.accumulated, op.scale))
        return by_step(unrolled(self._job.subgraph), stats, figures)
