"""What every run says about itself."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from tfldbg import __version__
from tfldbg.compare.stream import Measured
from tfldbg.diagnose.evidence import Delegated, Run
from tfldbg.files import sha256
from tfldbg.run.job import Job
from tfldbg.run.litert import observer_identical
from tfldbg.run.runtimes import MICRO, TENSORFLOW

OBSERVED = 4
"""Samples whose final outputs are compared with the untouched model's."""

_PACKAGES = {TENSORFLOW: ("tensorflow",), MICRO: ("tflite-micro",)}


def observe(job: Job, measured: Measured) -> bool:
    """Check that exposing the tensors left the model's own outputs as they were."""
    given = [job.samples.codes(i) for i in range(len(measured.outputs))]
    return observer_identical(job.original, measured.outputs, given)


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
        observer_samples=min(OBSERVED, samples.count),
        versions={
            "tfldbg": __version__,
            **{name: metadata.version(name) for name in packages},
            "python": platform.python_version(),
        },
        timing=timing,
        notes=(),
        delegate=_delegate(job, delegated),
    )


def _delegate(job: Job, delegated: Sequence[int]) -> Delegated | None:
    delegate = job.options.delegate
    if delegate is None:
        return None
    taken = {op.index for op in job.subgraph.operators if not set(op.outputs).isdisjoint(delegated)}
    return Delegated(delegate.path, dict(delegate.options), tuple(sorted(taken)))
