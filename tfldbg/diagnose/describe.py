"""Describe a run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from tfldbg.diagnose.evidence import Delegated, Run
from tfldbg.files import sha256
from tfldbg.options.runtimes import MICRO, TENSORFLOW
from tfldbg.run.observed import compared
from tfldbg.version import VERSION

if TYPE_CHECKING:
    from tfldbg.run.job import Job

_PACKAGES = {TENSORFLOW: ("tensorflow",), MICRO: ("tflite-micro",)}


def describe(
    job: Job, identical: bool, timing: dict[str, float], delegated: Sequence[int] = ()
) -> Run:
    """Return the description of a run without a reference.

    Args:
        job: The run.
        identical: True if an `Observer` found the same final outputs.
        timing: The seconds of each stage.
        delegated: The tensors that an external delegate wrote.
    """
    samples, run_on = job.samples, job.run_on
    packages = ("ai-edge-litert", "numpy", *_PACKAGES.get(run_on.runtime, ()))
    return Run(
        model_path=job.loaded.path,
        model_sha256=sha256(job.loaded.data),
        reference_kind="none",
        reference_path="",
        reference_sha256=None,
        runtime=run_on.runtime,
        signature=run_on.signature,
        samples=samples.count,
        data=samples.source,
        seed=run_on.seed if samples.source == "random" else None,
        observer_identical=identical,
        observer_samples=compared(job),
        versions={
            "tfldbg": VERSION,
            **{name: metadata.version(name) for name in packages},
            "python": platform.python_version(),
        },
        timing=timing,
        notes=(*samples.notes, *notes_on_streams(job), *_notes_on_copies(job)),
        stream_steps=samples.stream_steps,
        delegate=_delegate(job, delegated),
        repair=job.exposed.repair.said if job.exposed.repair else None,
    )


def notes_on_streams(job: Job) -> tuple[str, ...]:
    """Return a note if steps make no difference."""
    if job.samples.stream_steps == 1 or job.loaded.graph.keeps_state:
        return ()
    return ("the file keeps no state from step to step: --steps changes nothing",)


def _notes_on_copies(job: Job) -> tuple[str, ...]:
    """Return a note if a copy is traced."""
    if job.loaded.untouched is None:
        return ()
    return (
        "operators of the file write over their own inputs, or its memory plan lets them write "
        "over other values: a copy is traced in which every value has memory of its own",
    )


def _delegate(job: Job, delegated: Sequence[int]) -> Delegated | None:
    delegate = job.run_on.kernels.delegate
    if delegate is None:
        return None
    taken = {op.index for op in job.subgraph.operators if not set(op.outputs).isdisjoint(delegated)}
    return Delegated(delegate.path, dict(delegate.options), tuple(sorted(taken)))
