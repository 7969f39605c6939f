"""Trace a file: run it with its reference, and judge each operator."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from tfldbg.diagnose.bodies import collect_bodies
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.describe import describe
from tfldbg.diagnose.locate import diagnose
from tfldbg.errors import MatchError, UsageError
from tfldbg.measures import MEASUREMENTS
from tfldbg.measures.measurement import Traced
from tfldbg.options.judge import Thresholds
from tfldbg.progress import Progress, Silent
from tfldbg.run.child import limited
from tfldbg.session.exposing import protect
from tfldbg.session.measuring import measure_samples
from tfldbg.session.observing import Observer
from tfldbg.session.pool import Pool, open_pool
from tfldbg.session.result import Trace
from tfldbg.session.shapes import without_changing_shapes
from tfldbg.session.trying import with_trials
from tfldbg.store.reader import read_evidence
from tfldbg.store.writer import RunWriter

if TYPE_CHECKING:
    from tfldbg.compare.tally import Measured
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.session.request import Ready, Request


def trace(request: Request, progress: Progress | None = None) -> Trace:
    """Find the first operator of a .tflite file that differs from its reference.

    Args:
        request: The file, the reference, and the measurements.
        progress: Receives the progress.

    Raises:
        TfldbgError: A file, the data or the options are invalid; the message tells the reason.
    """
    _check(request)
    run_on, progress = request.run_on, progress or Silent()
    with (
        limited(timeout=run_on.timeout, memory=run_on.memory_limit),
        open_pool(run_on.workers, run_on.scheduler) as pool,
    ):
        evidence = without_changing_shapes(lambda unread: _trace(request, pool, progress, unread))
    found = diagnose(evidence, request.judge.thresholds)
    return Trace(evidence, found, recording=_absolute(request.dump))


def _check(request: Request) -> None:
    """Check the request before a file is opened.

    Raises:
        UsageError: The request is invalid.
    """
    against, run_on, measure = request.against, request.run_on, request.measure
    _check_files(request.model, against.against, request.dump)
    if request.dump is None:
        if request.dump_exact:
            raise UsageError(
                "--dump-exact is given without --dump", hint="give both: --dump run.h5 --dump-exact"
            )
        return
    if str(request.dump) == "-":
        raise UsageError("a recording cannot go to stdout", hint="name a file: --dump run.h5")
    read = (request.model, against.keras, against.against, run_on.data, measure.labels)
    protect(Path(request.dump), "--dump", *read)


def _check_files(model: object, against: object, dump: object) -> None:
    """Refuse objects that are not files, before anything is opened."""
    hint = "give a path, or the bytes of a .tflite file"
    if not isinstance(model, (str, PathLike, bytes)):
        raise UsageError(f"the model is of type {type(model).__name__}", hint=hint)
    if against is not None and not isinstance(against, (str, PathLike, bytes)):
        raise UsageError(f"against is of type {type(against).__name__}", hint=hint)
    if dump is not None and not isinstance(dump, (str, PathLike)):
        raise UsageError(f"dump is of type {type(dump).__name__}", hint="give a path: 'run.h5'")


def _trace(
    request: Request, pool: Pool | None, progress: Progress, unread: Mapping[int, str]
) -> Evidence:
    began = perf_counter()
    with ExitStack() as stack:
        ready = request.ready(stack, progress, unread)
        bench, opened = ready.bench, ready.opened
        writer = None
        if request.dump is not None:
            target, exact = Path(request.dump), request.dump_exact
            writer = stack.enter_context(RunWriter(target, bench.job.subgraph, exact=exact))
        observer = stack.enter_context(Observer(bench.job))
        prepared = perf_counter()
        measured = _measured(request, ready, pool, writer, progress)
        timing = {
            "load_s": prepared - began,
            "reference_s": measured.reference_s,
            "stream_s": perf_counter() - prepared,
        }
        identical = observer.identical(measured)
        run = opened.described(describe(bench.job, identical, timing, bench.runner.delegated))
        evidence = collect(bench.job.loaded, run, opened.relation, measured)
        evidence = _complete(evidence, ready, measured, began)
        evidence = with_trials(evidence, ready, request.judge.thresholds)
        compared = any(op.local or op.expected_shape for op in evidence.ops)
        if not run.traits.of_the_file and not compared:
            raise MatchError(
                "no operator of the file could be compared with the reference",
                hint="give the model that the file was made from",
            )
        if writer is not None:
            writer.finish(evidence, measured)
    return evidence


def _measured(
    request: Request,
    ready: Ready,
    pool: Pool | None,
    writer: RunWriter | None,
    progress: Progress,
) -> Measured:
    """Compare all samples, in this process or in several."""
    count = ready.bench.job.samples.count
    progress.stage("tracing", count)
    return measure_samples(pool, request.run_on.workers, ready, progress, writer).measured()


def _complete(evidence: Evidence, ready: Ready, measured: Measured, began: float) -> Evidence:
    """Return the evidence with the results of all measurements and the subgraphs of operators."""
    timing, notes, results = dict(evidence.run.timing), list(ready.notes), {}
    traced = Traced(
        measure=ready.options,
        bench=ready.bench,
        opened=ready.opened,
        reference=ready.reference,
        plan=ready.plan,
        measured=measured,
        evidence=evidence,
        bodies=ready.bodies,
    )
    for one in MEASUREMENTS:
        start = perf_counter()
        finished = one.finish(replace(traced, watched=ready.watched.get(one.name)))
        notes += finished.notes
        if finished.result is not None:
            results[one.name] = finished.result
            timing |= {f"{one.name}_s": perf_counter() - start} if one.timed else {}
    inside = ready.bodies.measured() if ready.bodies is not None else ()
    timing["total_s"] = perf_counter() - began
    run = replace(evidence.run, timing=timing, notes=(*evidence.run.notes, *notes))
    return replace(
        evidence,
        run=run,
        tolerance=ready.options.tolerance,
        bodies=collect_bodies(evidence.run, inside),
        measures=results,
    )


def load_trace(path: Path | str, *, thresholds: Thresholds | None = None) -> Trace:
    """Read a recorded trace and judge it again, with other thresholds if given.

    Raises:
        CaptureError: The file is not a recorded run, or of another version.
    """
    evidence = read_evidence(Path(path))
    found = diagnose(evidence, thresholds or Thresholds())
    return Trace(evidence, found, recording=_absolute(Path(path)))


def _absolute(path: Path | str | None) -> Path | None:
    """Return an absolute path, which stays valid if the working directory changes."""
    return Path(path).absolute() if path is not None else None
