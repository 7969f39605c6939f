"""Trace: run a file beside its reference and judge every operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

from tfldbg.compare.against.emulation import EMULATIONS
from tfldbg.compare.stream import NOTHING, Recorders, stream
from tfldbg.compare.worst import examine
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.evidence import Evidence
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.words import op_name
from tfldbg.errors import MatchError, RunError, UsageError
from tfldbg.plugins import REFERENCES, load_plugin, plugin_names
from tfldbg.progress import Progress, Silent
from tfldbg.reference.capture import is_recording
from tfldbg.reference.function import ReferenceFunction
from tfldbg.run.job import DataSource, Job, ModelSource, Options, prepare
from tfldbg.run.labels import LabelSource
from tfldbg.run.litert import Runner
from tfldbg.run.runtimes import Delegate, delegate_of
from tfldbg.session.comparisons import Comparison
from tfldbg.session.describe import describe, observe
from tfldbg.session.exposing import protect
from tfldbg.session.extras import Extras
from tfldbg.session.metrics import Metrics, find_metrics
from tfldbg.session.recurrent import Recurrent
from tfldbg.session.result import Trace
from tfldbg.session.resuming import recorder
from tfldbg.session.shapes import without_changing_shapes
from tfldbg.session.trying import with_trials
from tfldbg.session.with_capture import WithCapture
from tfldbg.session.with_emulation import WithEmulation
from tfldbg.session.with_file import WithFile
from tfldbg.session.with_function import WithFunction
from tfldbg.session.with_itself import WithItself
from tfldbg.session.with_keras import WithKeras
from tfldbg.session.with_runtime import WithRuntime
from tfldbg.store.reader import read_evidence
from tfldbg.store.writer import RunWriter


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
    resume: bool = False,
    delegate: Delegate | Path | str | None = None,
    delegate_options: Mapping[str, str] | Sequence[str] | None = None,
    cached: bool = True,
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
        data: Path of the input data, an array for a single input, or arrays by input name; float
            arrays in real units, integer arrays in the input's own type as codes; first axis
            samples.  None draws random samples.
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
        resume: Go on after the samples that an earlier run with this ``dump``, which did not
            finish, has kept.
        delegate: Path of an external delegate, a shared library that takes operators over from the
            runtime; or what `delegate_of` makes of it.
        delegate_options: What it is given, by key, or as ``"KEY=VALUE"``.
        cached: Whether what an earlier run kept of the same Keras file may be used, and this run's
            be kept; `tfldbg cache` shows where.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options; the message says what.
    """
    _check_files(model, against, dump)
    whole = {"samples": samples, "steps": steps, "seed": seed, "top_k": top_k, "worst": worst}
    for name, value in whole.items():
        if value is not None or name != "samples":
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
    options = Options(samples, seed, runtime, signature, given, unsafe, steps, delegate, cached)
    target = _as_path(dump)
    if resume and target is None:
        raise UsageError(
            "--resume goes on with a recording, and none is written",
            hint="name the one that was not finished: --dump RUN.h5",
        )
    if dump == "-":
        raise UsageError("a recording cannot go to stdout", hint="name a file: --dump run.h5")
    protect(target, "--dump", model, keras, against, data, labels)
    progress = progress or Silent()
    comparison = _comparison(keras, against, against_runtime, reference, options, progress)
    recording = _Recording(target, resume)
    evidence = without_changing_shapes(
        lambda unread: _trace(model, comparison, data, options, extras, recording, progress, unread)
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


def _comparison(
    keras: Any,
    against: ModelSource | None,
    against_runtime: str | None,
    reference: str | ReferenceFunction | None,
    options: Options,
    progress: Progress,
) -> Comparison:
    named = {
        "--keras": keras,
        "--against": against,
        "--against-runtime": against_runtime,
        "--reference": reference,
    }
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise UsageError(
            f"a trace has one reference, and there are {len(given)}: {', '.join(given)}",
            hint="keep one of them, and trace again for the other",
        )
    if keras is not None:
        return WithKeras(keras, options)
    if is_recording(against):
        return WithCapture(str(against), options)
    if against is not None:
        return WithFile(against, options)
    if reference is not None:
        return _named_reference(reference, options, progress)
    return WithRuntime(against_runtime) if against_runtime is not None else WithItself()


def _named_reference(
    reference: str | ReferenceFunction, options: Options, progress: Progress
) -> Comparison:
    if not isinstance(reference, str):
        if not callable(reference):
            raise UsageError(
                f"the reference is of type {type(reference).__name__}, expected a function or "
                "a name",
                hint="a model or a file is given with keras= or against=",
            )
        name = getattr(reference, "__qualname__", type(reference).__qualname__)
        return WithFunction(name, reference, options)
    if reference not in EMULATIONS and (":" in reference or reference in plugin_names(REFERENCES)):
        return WithFunction(reference, load_plugin(REFERENCES, reference), options)
    return WithEmulation(reference, progress)


def _trace(
    model: ModelSource,
    comparison: Comparison,
    data: DataSource,
    options: Options,
    extras: Extras,
    dump: _Recording,
    progress: Progress,
    unread: Mapping[int, str],
) -> Evidence:
    began = perf_counter()
    extras.check(comparison, options.stream_steps)
    job = prepare(model, comparison.data(model, data), options, unread)
    plan = extras.plan(job, data)
    progress.stage("loading the reference")
    comparison.load(job)
    with ExitStack() as stack:
        runner = _start(stack, job, comparison)
        progress.stage("matching")
        relation, reference = comparison.relate(job, runner)
        notes: tuple[str, ...] = ()
        if reference is not None:
            reference, notes = extras.emulated(job, runner, comparison, reference)
            stack.callback(reference.close)
        writer = dump.writer(job, comparison, extras, stack)
        recurrent = Recurrent(job, comparison, extras.by_step, stack)
        points = extras.points(job)
        watching = [r for r in (writer, points, *recurrent.recorders) if r is not None]
        recorders = Recorders(tuple(watching)) if watching else None
        prepared = perf_counter()
        kept = writer.kept() if writer is not None else ()
        measured = stream(plan, job.samples, runner, reference, recorders, progress, kept)
        numbers = measured.finals.worst_samples
        worst = examine(plan, job.samples, runner, reference, numbers, progress)
        streamed = perf_counter()
        identical = observe(job, measured)
        shares = extras.shares(job, runner, comparison, relation, reference, progress)
        timing = {
            "load_s": prepared - began,
            "reference_s": measured.reference_s,
            "stream_s": streamed - prepared,
            **({"compounding_s": perf_counter() - streamed} if shares else {}),
            "total_s": perf_counter() - began,
        }
        run = comparison.describe(describe(job, identical, timing, runner.delegated))
        evidence = collect(job.loaded, run, relation, measured)
        evidence = extras.add(evidence, worst, notes, shares, points)
        evidence = with_trials(evidence, job, runner, reference)
        evidence = recurrent.add_to(evidence)
        compared = any(op.local or op.expected_shape for op in evidence.ops)
        if run.reference_kind not in ("self", *EMULATIONS) and not compared:
            raise MatchError(
                "no operator of the file could be compared with the reference",
                hint="give the model that the file was made from",
            )
        if writer is not None:
            writer.finish(evidence, measured)
    return evidence


@dataclass(frozen=True, slots=True)
class _Recording:
    """Where to record, and whether to go on with what an earlier run kept."""

    target: Path | None
    resume: bool

    def writer(
        self, job: Job, comparison: Comparison, extras: Extras, stack: ExitStack
    ) -> RunWriter | None:
        """Begin to record, if asked."""
        if self.target is None:
            return None
        run = comparison.describe(describe(job, True, {}))
        made = recorder(job, self.target, run, resume=self.resume, emulated=extras.emulates)
        return stack.enter_context(made)


def _start(stack: ExitStack, job: Job, comparison: Comparison) -> Runner:
    """Start the runtime; if it refuses the file, add what can be told without running it."""
    try:
        return stack.enter_context(Runner(job.instrumented))
    except RunError as error:
        relation, _ = comparison.relate(job, None)
        run = comparison.describe(describe(job, True, {}))
        found = diagnose(collect(job.loaded, run, relation, NOTHING), Thresholds()).divergences
        if not found:
            raise
        name = op_name(found[0].op, found[0].kind, found[0].tensor)
        raise RunError(
            f"{error.message}; without running it, {name} is the first that differs from the "
            f"reference: {found[0].message}",
            hint=error.hint,
        ) from error


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
