"""What every run says about itself."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata

from tfldbg import __version__
from tfldbg.compare.stream import Measured
from tfldbg.diagnose.evidence import Run
from tfldbg.files import sha256
from tfldbg.graph.query import producers
from tfldbg.rewrite.expose import HANDLES, unreadable
from tfldbg.run.job import Job
from tfldbg.run.litert import Runner, as_bytes, observer_identical

OBSERVED = 4
"""Samples whose final outputs are compared with the untouched model's."""


def observe(job: Job, measured: Measured) -> bool:
    """Check that exposing the tensors left the model's own outputs as they were."""
    given = [job.samples.codes(i) for i in range(len(measured.outputs))]
    identical = observer_identical(job.original, measured.outputs, given)
    others = _untapped(job)
    if not identical or not others:
        return identical
    with Runner(replace(job.instrumented, taps=others)) as runner:
        expected = [[as_bytes(a) for a in runner.run(sample)] for sample in given]
    return observer_identical(replace(job.original, taps=others), expected, given)


def _untapped(job: Job) -> tuple[int, ...]:
    """Return the final outputs that are not measured: strings, inputs, constants and others."""
    tensors, made = job.subgraph.tensors, producers(job.subgraph)

    def readable(index: int) -> bool:
        tensor = tensors[index]
        if tensor.type == "STRING" or index not in made:
            return tensor.type not in HANDLES
        return unreadable(job.subgraph, made[index], tensor) is None

    others = (i for i in job.subgraph.outputs if i >= 0 and i not in job.exposed.taps)
    return tuple(filter(readable, others))


def _compared(job: Job) -> int:
    """Return on how many samples final outputs are compared; on none where none can be read."""
    readable = {*job.exposed.taps, *_untapped(job)} & {*job.subgraph.outputs}
    return min(OBSERVED, job.samples.count) if readable else 0


def describe(job: Job, identical: bool, timing: dict[str, float]) -> Run:
    """Return the description of a run that is compared with nothing."""
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
        observer_samples=_compared(job),
        versions={
            "tfldbg": __version__,
            **{name: metadata.version(name) for name in ("ai-edge-litert", "numpy")},
            "python": platform.python_version(),
        },
        timing=timing,
        notes=(),
        repair=job.exposed.repair.said if job.exposed.repair else None,
    )
