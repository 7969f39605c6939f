"""What every run says about itself."""

from __future__ import annotations

import platform
from importlib import metadata

from tfldbg import __version__
from tfldbg.compare.stream import Measured
from tfldbg.diagnose.evidence import Run
from tfldbg.files import sha256
from tfldbg.run.job import Job
from tfldbg.run.litert import observer_identical

OBSERVED = 4
"""Samples whose final outputs are compared with the untouched model's."""


def observe(job: Job, measured: Measured) -> bool:
    """Check that exposing the tensors left the model's own outputs as they were."""
    given = [job.samples.codes(i) for i in range(len(measured.outputs))]
    return observer_identical(job.original, measured.outputs, given)


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
        observer_samples=min(OBSERVED, samples.count),
        versions={
            "tfldbg": __version__,
            **{name: metadata.version(name) for name in ("ai-edge-litert", "numpy")},
            "python": platform.python_version(),
        },
        timing=timing,
        notes=(),
    )
