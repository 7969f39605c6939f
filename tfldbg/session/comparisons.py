"""What a .tflite file can be compared with, as `tfldbg.session.tracing` sees it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tfldbg.compare.relation import Relation
from tfldbg.compare.stream import Batch, Reference, in_real_units
from tfldbg.diagnose.evidence import Run
from tfldbg.run.job import DataSource, Job, ModelSource
from tfldbg.run.litert import Runner


class Comparison(Protocol):
    """Something to compare with, in the order in which `tfldbg.session.tracing` asks for it."""

    def data(self, model: ModelSource, given: DataSource) -> DataSource:
        """Return the data to run on: what is given, unless the reference brings its own."""

    def load(self, job: Job) -> None:
        """Read whatever must be read, and check that it fits the job."""

    def relate(self, job: Job, runner: Runner | None) -> tuple[Relation, Reference | None]:
        """Bring both sides together.

        Args:
            job: The traced file.
            runner: Its instrumented model; None to tell only what can be told without running.
        """

    def describe(self, run: Run) -> Run:
        """Add what the reference is."""


def readable(job: Job) -> frozenset[int]:
    """Return the tensors of a job whose values are known."""
    return frozenset((*job.exposed.taps, *job.subgraph.inputs))


def first_sample(job: Job, runner: Runner) -> Batch:
    """Run the first sample alone."""
    given = job.samples.codes(0)
    values = (*given, *runner.run(given))
    indices = (*job.subgraph.inputs, *job.exposed.taps)
    codes = {i: np.asarray(a)[None] for i, a in zip(indices, values, strict=True)}
    tensors = job.subgraph.tensors
    return Batch(0, 1, codes, {i: in_real_units(tensors[i], a) for i, a in codes.items()})
