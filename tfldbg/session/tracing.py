"""Trace: run a file beside its reference and judge every operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from numbers import Integral
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tfldbg.compare.sides import EMULATIONS
from tfldbg.compare.stream import Recorders, stream
from tfldbg.compare.worst import examine
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Thresholds
from tfldbg.errors import MatchError, UsageError
from tfldbg.progress import Progress, Silent
from tfldbg.run.job import DataSource, ModelSource, Options
from tfldbg.run.runtimes import Delegate, delegate_of
from tfldbg.session.describe import describe
from tfldbg.session.exposing import protect
from tfldbg.session.extras import Extras
from tfldbg.session.metrics import Metrics, find_metrics
from tfldbg.session.observing import Observer
from tfldbg.session.pool import Pool, open_pool
from tfldbg.session.request import TraceRequest
from tfldbg.session.result import Trace
from tfldbg.session.shapes import without_changing_shapes
from tfldbg.session.sharding import stream_in_parts
from tfldbg.session.trying import with_trials
from tfldbg.store.reader import read_evidence
from tfldbg.store.writer import RunWriter

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Evidence
    from tfldbg.reference.function import ReferenceFunction
    from tfldbg.run.labels import LabelSource


def trace(
    model: ModelSource,
    *,
    keras: Any = None,
    against: ModelSource | None = None,
    against_runtime: str | None = None,
    reference: str | ReferenceFunction | None = None,
    data: DataSource = None,
    samples: int | None = None,
    steps: int = 1,
    seed: int = 0,
    runtime: str = "xnnpack",
    signature: str | None = None,
    inputs: Mapping[str, str] | None = None,
    unsafe: bool = False,
    dump: Path | str | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
    labels: LabelSource = None,
    top_k: int = 5,
    tolerance: float | None = None,
    worst: int = 0,
    histograms: bool = False,
    compounding: bool = False,
    by_step: bool = False,
    pictures: bool = False,
    metrics: Metrics = None,
    delegate: Delegate | Path | str | None = None,
    delegate_options: Mapping[str, str] | Sequence[str] | None = None,
    cached: bool = True,
    workers: int | None = None,
    scheduler: str | None = None,
    scale: tuple[float, float] | None = None,
) -> Trace:
    """Find the first operator of a .tflite file that differs from its reference.

    Without a reference, every operator is checked against its own float arithmetic.

    Args:
        model: Path or bytes of the .tflite file.
        keras: Path of the Keras model (.h5, .keras, SavedModel folder), or a live model.
        against: Path or bytes of a sound .tflite file made from the same model.
        against_runtime: Other kernels to compare with on the same file.
        reference: An emulation to compare with, made from the file itself: ``"emulated"``,
            ``"float-ranges"`` or ``"fake-quant-ranges"``.  Or a function of your own that maps
            inputs by name, (n, ...) float32 in real units, to tensors by name, first axis samples;
            or its name: an entry point of the group ``tfldbg.references``, or
            ``"module:function"``.
        data: Path of the input data (arrays, or a folder of pictures), an array for a single input,
            or arrays by input name; float arrays in real units, integer arrays in the input's own
            type as codes; first axis samples.  None draws random samples.
        samples: At most so many samples, 64 by default, or as many more as make streams whole.
        steps: How many samples in a row are the steps of one stream: a model's state is reset
            before each stream and kept from step to step.  1 resets it before every sample.
        seed: Of the random samples.
        runtime: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` kernels of LiteRT, ``"tf"`` for the
            interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for Microcontrollers.
        signature: Which signature, where there are several.
        inputs: Input name to array name or to the reference's input name.
        unsafe: Allow Keras files and SavedModels that can run code or reach other files.
        dump: Where to record every tensor of both sides (HDF5).
        thresholds: How much of an operator's own error arithmetic explains.
        progress: Is told how far the work is.
        labels: The right class of every sample, for the accuracy of each side: the name of an array
            of ``data``, a path, or an array; class numbers or one-hot.
        top_k: How many of the largest values count for top-k accuracy.
        tolerance: By how much final outputs may differ, real units; 0.01 by default.  Never decides
            the verdict.
        worst: How many of the samples with the largest final error to compare operator by operator.
        histograms: Whether to count a histogram of every operator's errors.
        compounding: Measure which operators account for the error of the final outputs.
        by_step: Whether to tell the errors of each time step of a recurrent network.
        pictures: Whether to keep what the pictures of `Trace.to_html` are drawn from, histograms
            and pairs of values; a dump always holds them.
        metrics: Metrics of your own, measured for every operator: functions by name, or names of
            entry points of the group ``tfldbg.metrics`` or of functions, ``"module:function"``.  A
            function is called with the reference's and TFLite's values of one sample of a tensor,
            float32 in real units, and returns a number.
        delegate: Path of an external delegate, a shared library that takes operators over from the
            runtime; or what `delegate_of` makes of it.
        delegate_options: What it is given, by key, or as ``"KEY=VALUE"``.
        cached: Whether what an earlier run kept of the same Keras file may be used, and this run's
            be kept; `tfldbg cache` shows where.
        workers: How many processes of this machine share the samples; this one alone by default.
            What is measured is the same, up to the last digits of sums.
        scheduler: The address of a Dask cluster whose workers share the samples.
        scale: The real values that 0 and 255 of pictures, and of uint8 data, stand for.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options; the message says what.
    """
    _check_files(model, against, dump)
    whole = {"steps": steps, "seed": seed, "top_k": top_k, "worst": worst}
    optional = {"samples": samples, "workers": workers}
    for name, value in {**whole, **{n: v for n, v in optional.items() if v is not None}}.items():
        check_whole(name, value)
    extras = Extras(
        labels,
        top_k,
        tolerance,
        worst,
        histograms,
        compounding,
        by_step,
        pictures=pictures or dump is not None,
        metrics=find_metrics(metrics),
    )
    if not isinstance(delegate, Delegate):
        delegate = delegate_of(delegate, delegate_options)
    given = inputs or {}
    options = Options(
        samples, seed, runtime, signature, given, unsafe, steps, delegate, cached, scale
    )
    target = _as_path(dump)
    if dump == "-":
        raise UsageError("a recording cannot go to stdout", hint="name a file: --dump run.h5")
    protect(target, "--dump", model, keras, against, data, labels)
    if target is not None and (scheduler is not None or workers not in (None, 1)):
        raise UsageError(
            "a recording is written by one process",
            hint="leave out --dump, or --workers and --scheduler",
        )
    progress = progress or Silent()
    request = TraceRequest(model, keras, against, against_runtime, reference, data, options, extras)
    with open_pool(workers, scheduler) as pool:
        evidence = without_changing_shapes(
            lambda unread: _trace(request, pool, target, progress, unread)
        )
    return Trace(
        evidence, diagnose(evidence, thresholds or Thresholds()), recording=_absolute(target)
    )


def _check_files(model: object, against: object, dump: object) -> None:
    """Refuse what is no file, before anything is opened."""
    hint = "give a path, or the bytes of a .tflite file"
    if not isinstance(model, (str, PathLike, bytes)):
        raise UsageError(f"the model is of type {type(model).__name__}", hint=hint)
    if against is not None and not isinstance(against, (str, PathLike, bytes)):
        raise UsageError(f"against is of type {type(against).__name__}", hint=hint)
    if dump is not None and not isinstance(dump, (str, PathLike)):
        raise UsageError(f"dump is of type {type(dump).__name__}", hint="give a path: 'run.h5'")


def check_whole(name: str, value: object) -> None:
    """Refuse an option that is no whole number.

    Raises:
        UsageError: It is something else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}", hint=f"give a whole number: {name}=1")


def _trace(
    request: TraceRequest,
    pool: Pool | None,
    target: Path | None,
    progress: Progress,
    unread: Mapping[int, str],
) -> Evidence:
    began = perf_counter()
    with ExitStack() as stack:
        ready = request.ready(stack, progress, unread)
        job, runner, reference, extras = ready.job, ready.runner, ready.reference, request.extras
        writer = None
        if target is not None:
            writer = stack.enter_context(RunWriter(target, job.subgraph))
        observer = stack.enter_context(Observer(job))
        prepared = perf_counter()
        if pool is not None:
            measured = stream_in_parts(pool, request, ready, unread, progress)
        else:
            watching = ready.recorders if writer is None else (writer, *ready.recorders)
            recorder = Recorders(watching) if watching else None
            measured = stream(ready.plan, job.samples, runner, reference, recorder, progress)
        numbers = measured.finals.worst_samples
        worst = examine(ready.plan, job.samples, runner, reference, numbers, progress)
        streamed = perf_counter()
        identical = observer.identical(measured)
        shares = extras.shares(job, runner, ready.comparison, ready.relation, reference, progress)
        timing = {
            "load_s": prepared - began,
            "reference_s": measured.reference_s,
            "stream_s": streamed - prepared,
            **({"compounding_s": perf_counter() - streamed} if shares else {}),
            "total_s": perf_counter() - began,
        }
        run = ready.comparison.describe(describe(job, identical, timing, runner.delegated))
        evidence = collect(job.loaded, run, ready.relation, measured)
        evidence = extras.add(evidence, worst, ready.notes, shares, ready.points)
        evidence = with_trials(evidence, job, runner, reference)
        evidence = ready.recurrent.add_to(evidence)
        compared = any(op.local or op.expected_shape for op in evidence.ops)
        if run.reference_kind not in ("self", *EMULATIONS) and not compared:
            raise MatchError(
                "no operator of the file could be compared with the reference",
                hint="give the model that the file was made from",
            )
        if writer is not None:
            writer.finish(evidence, measured)
    return evidence


def load_trace(path: Path | str, *, thresholds: Thresholds | None = None) -> Trace:
    """Read a recorded trace and judge it again, with other thresholds if asked.

    Raises:
        CaptureError: The file is no recorded run, or of another version.
    """
    evidence = read_evidence(Path(path))
    found = diagnose(evidence, thresholds or Thresholds())
    return Trace(evidence, found, recording=_absolute(Path(path)))


def _as_path(path: Path | str | None) -> Path | None:
    return Path(path) if path is not None else None


def _absolute(path: Path | None) -> Path | None:
    """Return a path that stays right when the working directory changes."""
    return path.absolute() if path is not None else None
