"""The errors of each time step of a recurrent network, unrolled or fused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

from tfldbg.compare.steps import AlongTime, Step, by_step
from tfldbg.graph.steps import sequences, unrolled
from tfldbg.measures.measurement import Finished, Measurement, Shown, Traced
from tfldbg.measures.steps.section import step_section

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.stream import Recorder
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.section import Section
    from tfldbg.options.measure import Measure
    from tfldbg.run.job import Job


class StepsMeasurement(Measurement):
    """``--by-step``."""

    name = "steps"
    result = tuple[Step, ...]
    keys: ClassVar = {
        "steps": (
            tuple[Step, ...] | None,
            "The time steps of a recurrent network; None without --by-step.",
        )
    }

    def watch(self, measure: Measure, job: Job, stack: ExitStack) -> Recorder | None:
        """Return the recorder of fused operators, which loop over time themselves."""
        fused = sequences(job.subgraph) if measure.by_step else ()
        return AlongTime(job, fused, stack) if fused else None

    def finish(self, traced: Traced) -> Finished:
        """Return the steps of fused and of unrolled networks, and of loops."""
        if not traced.measure.by_step:
            return Finished()
        figures = traced.watched.figures() if isinstance(traced.watched, AlongTime) else []
        figures += traced.bodies.figures() if traced.bodies is not None else ()
        steps = unrolled(traced.bench.job.subgraph)
        return Finished(by_step(steps, _by_operator(traced.evidence.ops), figures))

    def sections(self, result: Result, shown: Shown) -> tuple[Section, ...]:
        """Return one line for each step."""
        del shown
        return step_section(result, result.evidence.measures.get(self.name))


def _by_operator(
    ops: Sequence[OpEvidence],
) -> dict[int, list[tuple[TensorStats | None, TensorStats | None, float | None]]]:
    """Return the statistics and the scale of each output, by operator."""
    stats: dict[int, list[tuple[TensorStats | None, TensorStats | None, float | None]]] = {}
    for op in ops:
        stats.setdefault(op.op, []).append((op.local, op.accumulated, op.scale))
    return stats
