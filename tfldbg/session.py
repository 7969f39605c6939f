"""Compose the stages: read, rewrite, run, match, compare, diagnose, store.  Prints nothing."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import __version__
from tfldbg.compare.agreement import Agreement
from tfldbg.compare.plan import cut
from tfldbg.compare.plausible import check_same_model
from tfldbg.compare.stream import Measured, Plan, stream
from tfldbg.compare.weights import check_weights
from tfldbg.diagnose.collect import collect
from tfldbg.diagnose.evidence import Evidence, Run
from tfldbg.diagnose.locate import diagnose
from tfldbg.diagnose.model import Thresholds
from tfldbg.diagnose.result import Result
from tfldbg.errors import UsageError
from tfldbg.files import sha256, sha256_of_path
from tfldbg.graph.load import load_graph, read_file
from tfldbg.graph.model import Graph, Signature, Subgraph
from tfldbg.graph.query import choose_signature
from tfldbg.match.matcher import match
from tfldbg.match.model import Matching
from tfldbg.match.ports import pair_inputs
from tfldbg.progress import Progress, Silent
from tfldbg.reference.evaluate import Evaluator
from tfldbg.reference.keras import load_frozen
from tfldbg.rewrite.expose import Exposed, expose
from tfldbg.run.litert import RUNTIMES, Program, Runner, check_runs, observer_identical
from tfldbg.run.samples import (
    Arrays,
    InputSpec,
    Samples,
    choose,
    input_specs,
    random_samples,
    read_arrays,
)
from tfldbg.store.reader import read_evidence
from tfldbg.store.writer import RunWriter

DEFAULT_SAMPLES = 64
_OBSERVED = 4

ModelSource = Path | str | bytes
DataSource = Path | str | NDArray[Any] | Mapping[str, NDArray[Any]] | None


@dataclass(frozen=True, slots=True)
class Options:
    """What every run can be told."""

    samples: int | None = None
    """At most so many; None means 64."""
    seed: int = 0
    runtime: str = "xnnpack"
    signature: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Input name to array name, or to the reference's input name."""
    unsafe: bool = False


class Trace(Result):
    """A trace that shows itself as a table in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from tfldbg.report.notebook import to_html

        return to_html(self)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A .tflite file that has been read, with the subgraph that was chosen."""

    path: str
    graph: Graph
    subgraph: Subgraph
    signature: Signature | None
    specs: tuple[InputSpec, ...]


def load(model: ModelSource, signature: str | None = None) -> Loaded:
    """Read a .tflite file and choose a subgraph.

    Raises:
        ModelError: The file is missing or no .tflite file.
        UsageError: It has no such signature.
    """
    path = "<bytes>" if isinstance(model, bytes) else str(model)
    content = model if isinstance(model, bytes) else read_file(Path(model))
    graph = load_graph(content, path)
    subgraph, chosen = choose_signature(graph, signature)
    return Loaded(path, graph, subgraph, chosen, input_specs(subgraph, chosen))


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


def _trace(
    model: ModelSource,
    keras: Any,
    data: DataSource,
    options: Options,
    dump: Path | None,
    progress: Progress,
) -> Evidence:
    began = perf_counter()
    _check_options(options)
    if keras is None:
        raise UsageError(
            "there is nothing to compare the model with",
            hint="give the Keras model that the file was converted from: --keras QAT.h5",
        )
    loaded = load(model, options.signature)
    check_runs(loaded.subgraph, loaded.path)
    samples = prepare_samples(loaded, data, options)
    exposed = expose(loaded.graph, loaded.subgraph)
    progress.stage("loading the Keras model")
    source = Path(keras) if isinstance(keras, (str, Path)) else keras
    frozen = load_frozen(source, unsafe=options.unsafe, signature=options.signature)
    with ExitStack() as stack:
        runner = stack.enter_context(Runner(_program(loaded, exposed, options.runtime)))
        progress.stage("matching")
        inputs = pair_inputs(loaded.specs, frozen, options.inputs)
        agreement = Agreement(loaded.subgraph, exposed.taps, samples, frozen, runner, inputs)
        matching = match(loaded.subgraph, loaded.signature, frozen, inputs, agreement)
        segments, uncut = cut(loaded.subgraph, matching, frozen.graph)
        checks, segments = check_weights(loaded.graph, loaded.subgraph, frozen, segments)
        check_same_model(loaded.subgraph, matching, frozen.graph, checks)
        readable = set(exposed.taps) | set(loaded.subgraph.inputs)
        segments = {k: s for k, s in segments.items() if {k, *s.cuts.values()} <= readable}
        evaluator = Evaluator(
            frozen, [m.node for m in matching.matches.values()], list(segments.values())
        )
        stack.callback(evaluator.close)
        prepared = perf_counter()
        writer = stack.enter_context(RunWriter(dump, loaded.subgraph)) if dump else None
        plan = Plan(
            subgraph=loaded.subgraph,
            read=exposed.taps,
            matching=matching,
            segment_keys=tuple(segments),
            batch=frozen.batch,
            observed=_OBSERVED,
        )
        measured = stream(plan, samples, runner, evaluator, writer, progress)
        streamed = perf_counter()
        run = _describe(
            loaded, samples, options, _observe(loaded, exposed, samples, measured, options)
        )
        run = replace(
            run,
            reference_kind="keras",
            reference_path=str(source) if isinstance(source, Path) else type(source).__name__,
            reference_sha256=sha256_of_path(source) if isinstance(source, Path) else None,
            versions={**run.versions, "reference": frozen.framework},
            timing={
                "load_s": prepared - began,
                "reference_s": measured.reference_s,
                "stream_s": streamed - prepared,
                "total_s": perf_counter() - began,
            },
        )
        skipped = {s.tensor: s.reason for s in exposed.skipped}
        reasons = {i: u.reason for i, u in uncut.items()}
        evidence = collect(loaded.subgraph, run, matching, {**skipped, **reasons}, checks, measured)
        if writer is not None:
            writer.finish(evidence)
    return evidence


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
    options = options or Options()
    _check_options(options)
    began = perf_counter()
    loaded = load(model, options.signature)
    check_runs(loaded.subgraph, loaded.path)
    samples = prepare_samples(loaded, data, options)
    exposed = expose(loaded.graph, loaded.subgraph)
    plan = Plan(loaded.subgraph, exposed.taps, None, (), None, _OBSERVED)
    with (
        Runner(_program(loaded, exposed, options.runtime)) as runner,
        RunWriter(Path(path), loaded.subgraph) as writer,
    ):
        measured = stream(plan, samples, runner, None, writer, progress or Silent())
        skipped = {s.tensor: s.reason for s in exposed.skipped}
        run = _describe(
            loaded, samples, options, _observe(loaded, exposed, samples, measured, options)
        )
        run = replace(run, timing={"total_s": perf_counter() - began})
        nothing = Matching({}, {}, ())
        writer.finish(collect(loaded.subgraph, run, nothing, skipped, {}, measured))
    return run


def load_trace(path: Path | str, *, thresholds: Thresholds | None = None) -> Trace:
    """Read a recorded trace and judge it again, with other thresholds if asked.

    Raises:
        CaptureError: The file is no recorded run, or of another version.
    """
    evidence = read_evidence(Path(path))
    return Trace(evidence, diagnose(evidence, thresholds or Thresholds()))


def expose_model(model: ModelSource, signature: str | None = None) -> tuple[Loaded, Exposed]:
    """Rewrite a model so that every operator output is an output of the model.

    Raises:
        ModelError: The file is no .tflite file.
        RewriteError: It cannot be rewritten.
    """
    loaded = load(model, signature)
    return loaded, expose(loaded.graph, loaded.subgraph)


def prepare_samples(loaded: Loaded, data: DataSource, options: Options) -> Samples:
    """Read or draw the samples that the model's inputs take.

    Raises:
        DataError: The data does not fit the inputs.
    """
    if data is None:
        count = options.samples or DEFAULT_SAMPLES
        return random_samples(
            loaded.graph, loaded.subgraph, loaded.specs, count=count, seed=options.seed
        )
    arrays, source = _named_arrays(data, loaded.specs)
    limit = options.samples or DEFAULT_SAMPLES
    return choose(loaded.specs, arrays, source, limit=limit, mapping=options.inputs)


def _named_arrays(data: DataSource, specs: Sequence[InputSpec]) -> tuple[Arrays, str]:
    if isinstance(data, (str, Path)):
        return read_arrays(Path(data)), str(data)
    if isinstance(data, Mapping):
        return {k: np.asarray(v) for k, v in data.items()}, "arrays"
    return {specs[0].label if specs else "x": np.asarray(data)}, "arrays"


def _check_options(options: Options) -> None:
    if options.runtime not in RUNTIMES:
        raise UsageError(
            f"there is no runtime '{options.runtime}'", hint=f"choose one of {', '.join(RUNTIMES)}"
        )
    if options.samples is not None and options.samples < 1:
        raise UsageError(
            f"{options.samples} samples are too few", hint="ask for at least one: --samples 1"
        )


def _as_path(path: Path | str | None) -> Path | None:
    return Path(path) if path is not None else None


def _program(loaded: Loaded, exposed: Exposed, runtime: str) -> Program:
    return Program(
        name=loaded.path,
        model_bytes=exposed.model_bytes,
        runtime=runtime,
        subgraph=loaded.subgraph,
        taps=exposed.taps,
        signature=loaded.signature,
    )


def _observe(
    loaded: Loaded, exposed: Exposed, samples: Samples, measured: Measured, options: Options
) -> bool:
    """Check that exposing the tensors left the model's own outputs as they were."""
    readable = set(exposed.taps)
    original = Program(
        name=loaded.path,
        model_bytes=bytes(loaded.graph.data),
        runtime=options.runtime,
        subgraph=loaded.subgraph,
        taps=tuple(i for i in loaded.subgraph.outputs if i in readable),
        signature=loaded.signature,
    )
    given = [samples.codes(i) for i in range(len(measured.outputs))]
    return observer_identical(original, measured.outputs, given)


def _describe(loaded: Loaded, samples: Samples, options: Options, identical: bool) -> Run:
    return Run(
        model_path=loaded.path,
        model_sha256=sha256(loaded.graph.data),
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
        timing={},
    )
