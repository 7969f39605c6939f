"""Pairs of values of each tensor, for scatter plots."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tfldbg.measures.measurement import Finished, Measurement, Traced
from tfldbg.measures.pictures.points import PicturePairs, PointRecorder

if TYPE_CHECKING:
    from tfldbg.compare.stream import Recorder
    from tfldbg.options.measure import Measure
    from tfldbg.run.job import Job


class PicturesMeasurement(Measurement):
    """The data of the pictures of ``--html``, which a recording always holds."""

    name = "pictures"
    result = PicturePairs
    merges = True

    def watch(self, measure: Measure, job: Job, stack: ExitStack) -> Recorder | None:
        """Return the recorder of pairs of values."""
        del stack
        return PointRecorder(job.samples.count) if measure.pictures else None

    def finish(self, traced: Traced) -> Finished:
        """Return the pairs of the operators' outputs."""
        if not isinstance(traced.watched, PointRecorder):
            return Finished()
        return Finished(traced.watched.sides({op.tensor for op in traced.evidence.ops}))
