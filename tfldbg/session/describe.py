"""What every run says about itself."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

from tfldbg import __version__
from tfldbg.diagnose.evidence import Delegated, Run
from tfldbg.files import sha256
from tfldbg.graph.query import HANDLE_TYPES, keeps_state, producers
from tfldbg.rewrite.expose import unreadable
from tfldbg.run.litert import Runner, as_bytes, observer_identical
from tfldbg.run.runtimes import MICRO, TENSORFLOW

if TYPE_CHECKING:
    from tfldbg.compare.tally import Measured
    from tfldbg.run.job import Job
    from tfldbg.run.samples import Samples

_OBSERVED = 4
_PACKAGES = {TENSORFLOW: ("tensorflow",), MICRO: ("tflite-micro",)}


def observed(samples: Samples) -> int:
    """Return of how many samples the final outputs are compared with the untouched model's.

    Of streams it is a whole one, and the first step of the next.
    """
    steps = samples.stream_steps
    return min(samples.count, max(_OBSERVED, steps + 1 if steps > 1 else 0))


def observe(job: Job, measured: Measured) -> bool:
    """Check that exposing the tensors left the model's own outputs as they were."""
    numbers = range(len(measured.outputs))
    given = [job.samples.codes(i) for i in numbers]
    fresh = [job.samples.begins_stream(i) for i in numbers]
    original, expected, others = job.original, measured.outputs, _untapped(job)
    if others:
        with Runner(replace(job.instrumented, taps=others)) as runner:
            expected = tuple(
                (*outputs, *map(as_bytes, runner.run(sample, fresh=reset)))
                for outputs, sample, reset in zip(expected, given, fresh, strict=True)
            )
        original = replace(original, taps=(*original.taps, *others))
    return observer_identical(original, expected, given, fresh)


def _untapped(job: Job) -> tuple[int, ...]:
    """Return the final outputs that are not measured: strings, inputs, constants and others."""
    tensors, made = job.subgraph.tensors, producers(job.subgraph)

    def readable(index: int) -> bool:
        tensor = tensors[index]
        if tensor.type == "STRING" or index not in made:
            return tensor.type not in HANDLE_TYPES
        return unreadable(job.subgraph, made[index], tensor) is None

    others = (i for i in job.subgraph.outputs if i >= 0 and i not in job.exposed.taps)
    return tuple(filter(readable, others))


def _compared(job: Job) -> int:
    """Return on how many samples final outputs are compared; on none where none can be read."""
    readable = {*job.exposed.taps, *_untapped(job)} & {*job.subgraph.outputs}
    return observed(job.samples) if readable else 0


def describe(
    job: Job, identical: bool, timing: dict[str, float], delegated: Sequence[int] = ()
) -> Run:
    """Return the description of a run that is compared with nothing.

    Args:
        job: What was run.
        identical: What `observe` found.
        timing: By stage the seconds that it took.
        delegated: The tensors that an external delegate wrote.
    """
    samples, options = job.samples, job.options
    packages = ("ai-edge-litert", "numpy", *_PACKAGES.get(options.runtime, ()))
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
        observer_samples=_compared(job),
        versions={
            "tfldbg": __version__,
            **{name: metadata.version(name) for name in packages},
            "python": platform.python_version(),
        },
        timing=timing,
        notes=notes_on_streams(job),
        stream_steps=samples.stream_steps,
        delegate=_delegate(job, delegated),
        repair=job.exposed.repair.said if job.exposed.repair else None,
    )


def notes_on_streams(job: Job) -> tuple[str, ...]:
    """Say where steps make no difference."""
    if job.samples.stream_steps == 1 or keeps_state(job.loaded.graph):
        return ()
    return ("the file keeps no state from step to step: --steps changes nothing",)


def _delegate(job: Job, delegated: Sequence[int]) -> Delegated | None:
    delegate = job.options.delegate
    if delegate is None:
        return None
    taken = {op.index for op in job.subgraph.operators if not set(op.outputs).isdisjoint(delegated)}
    return Delegated(delegate.path, dict(delegate.options), tuple(sorted(taken)))
