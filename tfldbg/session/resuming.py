"""What tells a run that was not finished from another, so that only the same is gone on with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.graph.query import keeps_state
from tfldbg.store.journal import SAMPLES
from tfldbg.store.writer import RunWriter

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Run
    from tfldbg.run.job import Job
    from tfldbg.run.samples import Samples


def recorder(
    job: Job, target: Path, run: Run, *, resume: bool, emulated: bool = False
) -> RunWriter:
    """Return who records a run, and goes on with an earlier one if asked.

    A model that keeps values from one step of a stream to the next starts over: only running all
    steps leads to them.

    Args:
        job: The traced file.
        target: The HDF5 file to write.
        run: The run, as far as it can be described before it begins.
        resume: Whether to go on.
        emulated: Whether the emulation runs beside the reference.
    """
    alone = job.samples.stream_steps == 1 or not keeps_state(job.loaded.graph)
    return RunWriter(target, job.subgraph, _identity(job, run, emulated), resume=resume and alone)


def _identity(job: Job, run: Run, emulated: bool) -> dict[str, str]:
    """Return all that the values depend on, by what a message calls it."""
    return {
        "model": f"the file of SHA-256 {run.model_sha256}",
        "reference": f"{run.reference_kind} {run.reference_sha256 or run.reference_path}".strip(),
        SAMPLES: str(run.samples),
        "data": _digest(job.samples) if run.seed is None else f"random, seed {run.seed}",
        "steps": str(run.stream_steps),
        "runtime": run.runtime,
        "delegate": str(job.options.delegate),
        "signature": str(run.signature),
        "inputs": str(dict(job.options.inputs)),
        "emulation": str(emulated),
        **{f"version of {name}": version for name, version in run.versions.items()},
    }


def _digest(samples: Samples) -> str:
    """Return what tells the values of all samples."""
    digest = hashlib.sha256()
    for array in samples.arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        for row in array:
            digest.update(np.ascontiguousarray(row).reshape(-1).view(np.uint8).data)
    return f"arrays of SHA-256 {digest.hexdigest()}"
