"""Record a run without a comparison."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from tfldbg.compare.relation import Relation
from tfldbg.compare.tally import Plan
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.describe import describe
from tfldbg.match.model import Matching
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Progress, Silent
from tfldbg.run.child import limited
from tfldbg.run.job import Job, prepare
from tfldbg.run.litert import Runner
from tfldbg.run.observed import observed
from tfldbg.session.exposing import protect
from tfldbg.session.measuring import record_samples
from tfldbg.session.observing import Observer
from tfldbg.session.shapes import without_changing_shapes
from tfldbg.store.writer import RunWriter

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Run
    from tfldbg.options.sources import ModelSource


def record(
    model: ModelSource,
    path: Path | str,
    *,
    run_on: RunOn | None = None,
    progress: Progress | None = None,
) -> Run:
    """Record all tensors of a .tflite file, without a comparison.

    Args:
        model: The path or bytes of the .tflite file.
        path: The HDF5 file to write.
        run_on: The data, and the runtime.
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid.
    """
    run_on, progress = run_on or RunOn(), progress or Silent()
    protect(Path(path), "--output", model, run_on.data)
    with limited(timeout=run_on.timeout, memory=run_on.memory_limit):
        return without_changing_shapes(
            lambda unread: _record(prepare(model, run_on, unread), Path(path), progress)
        )


def _record(job: Job, path: Path, progress: Progress) -> Run:
    began = perf_counter()
    plan = Plan(job.subgraph, job.exposed.taps, observed(job.samples))
    with (
        Runner(job.instrumented) as runner,
        RunWriter(path, job.subgraph) as writer,
        Observer(job) as observer,
    ):
        progress.stage("tracing", job.samples.count)
        measured = record_samples(job, runner, plan, writer, progress).measured()
        identical = observer.identical(measured)
        timing = {"total_s": perf_counter() - began}
        run = describe(job, identical, timing, runner.delegated)
        alone = Relation(Matching({}, {}, ()), job.skipped)
        writer.finish(collect(job.loaded, run, alone, measured), measured)
    return run
