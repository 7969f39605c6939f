"""Compose the stages: read, rewrite, run, match, compare, diagnose, store.  Prints nothing."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from tfldbg import __version__
from tfldbg.compare.agreement import Agreement
from tfldbg.compare.plan import cut
from tfldbg.compare.plausible import check_same_model
from tfldbg.compare.stream import Measured, Plan, stream
from tfldbg.compare.weights import WeightCheck, check_weights
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.evidence import Evidence, Run
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.result import Result
from tfldbg.diagnose.words import op_name
from tfldbg.errors import MatchError, RunError, UsageError
from tfldbg.files import sha256, sha256_of_path
from tfldbg.match.matcher import match
from tfldbg.match.model import Matching
from tfldbg.match.ports import pair_inputs
from tfldbg.progress import Progress, Silent
from tfldbg.reference.evaluate import Evaluator, Frozen, Segment
from tfldbg.reference.keras import load_frozen
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.run.job import DataSource, Job, Loaded, ModelSource, Options, load, prepare
from tfldbg.run.litert import Runner, observer_identical
from tfldbg.store.reader import read_evidence
from tfldbg.store.writer import RunWriter

_OBSERVED = 4


class Trace(Result):
    """A trace that shows itself as a table in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from tfldbg.report.notebook import to_html

        return to_html(self)


def trace(
    model: ModelSource,
    *,
    keras: Any = None,
    data: DataSource = None,
    samples: int | None = None,
    seed: int = 0,
    runtime: str = "xnnpack",
    signature: str | None = None,
    inputs: Mapping[str, str] | None = None,
    unsafe: bool = False,
    dump: Path | str | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Find the first operator of a .tflite file that differs from its Keras model.

    Args:
        model: Path or bytes of the .tflite file.
        keras: Path of the Keras model (.h5, .keras, SavedModel folder), or a live model.
        data: Path of the input data, an array for a single input, or arrays by input name; float
            arrays in real units, integer arrays in the input's own type as codes; first axis
            samples.  None draws random samples.
        samples: At most so many samples, 64 by default.
        seed: Of the random samples.
        runtime: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` kernels.
        signature: Which signature, where there are several.
        inputs: Input name to array name or to the reference's input name.
        unsafe: Allow Keras files that carry code.
        dump: Where to record every tensor of both sides (HDF5).
        thresholds: How much of an operator's own error arithmetic explains.
        progress: Is told how far the work is.

    Raises:
        TfldbgError: Something is wrong with a file, the data or the options; the message says what.
    """
    options = Options(samples, seed, runtime, signature, inputs or {}, unsafe)
    evidence = _trace(model, keras, data, options, _as_path(dump), progress or Silent())
    return Trace(evidence, diagnose(evidence, thresholds or Thresholds()))


@dataclass(frozen=True, slots=True, eq=False)
class _Related:
    """The two models brought together."""

    matching: Matching
    segments: Mapping[int, Segment]
    checks: Mapping[int, WeightCheck]
    reasons: Mapping[int, str]
    """By tensor, why it has no local error."""


def _trace(
    model: ModelSource,
    keras: Any,
    data: DataSource,
    options: Options,
    dump: Path | None,
    progress: Progress,
) -> Evidence:
    if keras is None:
        raise UsageError(
            "there is nothing to compare the model with",
            hint="give the Keras model that the file was converted from: --keras QAT.h5",
        )
    began = perf_counter()
    protect(dump, "--dump", model, keras, data)
    job = prepare(model, data, options)
    progress.stage("loading the Keras model")
    source = Path(keras) if isinstance(keras, (str, Path)) else keras
    frozen = load_frozen(source, unsafe=options.unsafe, signature=options.signature)
    inputs = pair_inputs(job.loaded.specs, frozen, options.inputs)
    with ExitStack() as stack:
        runner = _start(stack, job, frozen, inputs)
        progress.stage("matching")
        taps = job.exposed.taps
        agreement = Agreement(job.subgraph, taps, job.samples, frozen, runner, inputs)
        related = _relate(job, frozen, inputs, agreement)
        fetches = [m.node for m in related.matching.matches.values()]
        evaluator = Evaluator(frozen, fetches, list(related.segments.values()))
        stack.callback(evaluator.close)
        writer = stack.enter_context(RunWriter(dump, job.subgraph)) if dump else None
        segment_keys = tuple(related.segments)
        plan = Plan(job.subgraph, taps, related.matching, segment_keys, frozen.batch, _OBSERVED)
        prepared = perf_counter()
        measured = stream(plan, job.samples, runner, evaluator, writer, progress)
        streamed = perf_counter()
        identical = _observe(job, measured)
        timing = {
            "load_s": prepared - began,
            "reference_s": measured.reference_s,
            "stream_s": streamed - prepared,
            "total_s": perf_counter() - began,
        }
        run = _against_keras(_describe(job, identical, timing), source, frozen)
        evidence = _collect(job, run, related, measured)
        if all(op.local is None for op in evidence.ops):
            raise MatchError(
                "no operator of the file could be compared with the Keras model",
                hint="give the Keras model that the file was converted from",
            )
        if writer is not None:
            writer.finish(evidence, measured)
    return evidence


def _start(stack: ExitStack, job: Job, frozen: Frozen, inputs: tuple[int, ...]) -> Runner:
    """Start the runtime; if it refuses the file, add what can be told without running it."""
    try:
        return stack.enter_context(Runner(job.instrumented))
    except RunError as error:
        related = _relate(job, frozen, inputs, None)
        nothing = Measured({}, {}, {}, {}, (), 0.0)
        evidence = _collect(job, _describe(job, True, {}), related, nothing)
        found = diagnose(evidence, Thresholds()).divergences
        if not found:
            raise
        name = op_name(found[0].op, found[0].kind, found[0].tensor)
        raise RunError(
            f"{error.message}; without running it, {name} is the first that differs from the "
            f"reference: {found[0].message}",
            hint=error.hint,
        ) from error


def _relate(
    job: Job, frozen: Frozen, inputs: tuple[int, ...], agreement: Agreement | None
) -> _Related:
    subgraph, graph = job.subgraph, job.loaded.graph
    matching = match(subgraph, job.loaded.signature, frozen, inputs, agreement)
    segments, uncut = cut(subgraph, matching, frozen.graph)
    checks, segments = check_weights(graph, subgraph, frozen, segments)
    check_same_model(subgraph, matching, frozen.graph, checks)
    readable = {*job.exposed.taps, *subgraph.inputs}
    return _Related(
        matching=matching,
        segments={k: s for k, s in segments.items() if {k, *s.cuts.values()} <= readable},
        checks=checks,
        reasons={**job.skipped, **{i: u.reason for i, u in uncut.items()}},
    )


def _collect(job: Job, run: Run, related: _Related, measured: Measured) -> Evidence:
    return collect(job.subgraph, run, related.matching, related.reasons, related.checks, measured)


def _against_keras(run: Run, source: Any, frozen: Frozen) -> Run:
    path = source if isinstance(source, Path) else None
    return replace(
        run,
        reference_kind="keras",
        reference_path=str(path) if path else type(source).__name__,
        reference_sha256=sha256_of_path(path) if path else None,
        versions={**run.versions, "reference": frozen.framework},
    )


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
    began = perf_counter()
    protect(Path(path), "--output", model, data)
    job = prepare(model, data, options or Options())
    plan = Plan(job.subgraph, job.exposed.taps, None, (), None, _OBSERVED)
    with (
        Runner(job.instrumented) as runner,
        RunWriter(Path(path), job.subgraph) as writer,
    ):
        measured = stream(plan, job.samples, runner, None, writer, progress or Silent())
        run = _describe(job, _observe(job, measured), {"total_s": perf_counter() - began})
        alone = _Related(Matching({}, {}, ()), {}, {}, job.skipped)
        writer.finish(_collect(job, run, alone, measured), measured)
    return run


def load_trace(path: Path | str, *, thresholds: Thresholds | None = None) -> Trace:
    """Read a recorded trace and judge it again, with other thresholds if asked.

    Raises:
        CaptureError: The file is no recorded run, or of another version.
    """
    evidence = read_evidence(Path(path))
    return Trace(evidence, diagnose(evidence, thresholds or Thresholds()))


def protect(target: Path | None, option: str, *sources: object) -> None:
    """Refuse to write over one of the files that are read.

    Raises:
        UsageError: The target is one of the sources.
    """
    for source in sources:
        if target is None or not isinstance(source, (str, Path)):
            continue
        if target.exists() and Path(source).exists() and target.samefile(source):
            raise UsageError(
                f"{option} {target} is a file that is read: it would be overwritten",
                hint=f"name another file with {option}",
            )


def expose_model(model: ModelSource, signature: str | None = None) -> tuple[Loaded, Exposed]:
    """Rewrite a model so that every operator output is an output of the model.

    Raises:
        ModelError: The file is no .tflite file.
        RewriteError: It cannot be rewritten.
    """
    loaded = load(model, signature)
    return loaded, expose(loaded.graph, loaded.subgraph)


def _as_path(path: Path | str | None) -> Path | None:
    return Path(path) if path is not None else None


def _observe(job: Job, measured: Measured) -> bool:
    """Check that exposing the tensors left the model's own outputs as they were."""
    given = [job.samples.codes(i) for i in range(len(measured.outputs))]
    return observer_identical(job.original, measured.outputs, given)


def _describe(job: Job, identical: bool, timing: dict[str, float]) -> Run:
    samples, options = job.samples, job.options
    return Run(
        model_path=job.loaded.path,
        model_sha256=sha256(job.loaded.graph.data),
        reference_kind="none",
        reference_path="",
        reference_sha256=None,
        runtime=options.runtime,
        signature=options.signature,
        samples=samples.count,
        data=samples.source,
        seed=options.seed if samples.source == "random" else None,
        observer_identical=identical,
        observer_samples=min(_OBSERVED, samples.count),
        versions={
            "tfldbg": __version__,
            **{name: metadata.version(name) for name in ("ai-edge-litert", "numpy")},
            "python": platform.python_version(),
        },
        timing=timing,
    )
