"""Record a run and compare nothing."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from tfldbg.compare.relation import Relation
from tfldbg.compare.stream import stream
from tfldbg.compare.tally import Plan
from tfldbg.diagnose.collect import collect
from tfldbg.match.model import Matching
from tfldbg.progress import Progress, Silent
from tfldbg.run.job import DataSource, Job, ModelSource, Options, prepare
from tfldbg.run.litert import Runner
from tfldbg.session.describe import describe
from tfldbg.session.exposing import protect
from tfldbg.session.observing import Observer, observed
from tfldbg.session.shapes import without_changing_shapes
from tfldbg.store.writer import RunWriter

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Run


def record(
    model: ModelSource,
    path: Path | str,
    *,
    data: DataSource = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Run:
    """Record every tensor of a .tflite file and compare nothing.

    Args:
        model: Path or bytes of the .tflite file.
        path: The HDF5 file to write.
        data: As for `trace`.
        options: As for `trace`.
        progress: Is told how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options.
    """
    protect(Path(path), "--output", model, data)
    chosen, progress = options or Options(), progress or Silent()
    return without_changing_shapes(
        lambda unread: _record(prepare(model, data, chosen, unread), Path(path), progress)
    )


def _record(job: Job, path: Path, progress: Progress) -> Run:
    began = perf_counter()
    plan = Plan(job.subgraph, job.exposed.taps, observed(job.samples))
    with (
        Runner(job.instrumented) as runner,
        RunWriter(path, job.subgraph) as writer,
        Observer(job) as observer,
    ):
        measured = stream(plan, job.samples, runner, None, writer, progress)
        identical = observer.identical(measured)
        timing = {"total_s": perf_counter() - began}
        run = describe(job, identical, timing, runner.delegated)
        alone = Relation(Matching({}, {}, ()), job.skipped)
        writer.finish(collect(job.loaded, run, alone, measured), measured)
    return run
