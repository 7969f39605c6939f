"""Which final outputs are compared with those of the untouched file, and on how many samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.graph.model import HANDLE_TYPES
from tfldbg.rewrite.expose import unreadable

if TYPE_CHECKING:
    from tfldbg.run.job import Job
    from tfldbg.run.samples import Samples

_OBSERVED = 4


def observed(samples: Samples) -> int:
    """Return of how many samples the final outputs are compared with the untouched model's.

    Of streams it is a whole one, and the first step of the next.
    """
    steps = samples.stream_steps
    return min(samples.count, max(_OBSERVED, steps + 1 if steps > 1 else 0))


def compared(job: Job) -> int:
    """Return on how many samples final outputs are compared; on none where none can be read."""
    readable = {*job.exposed.taps, *untapped(job)} & {*job.subgraph.outputs}
    return observed(job.samples) if readable else 0


def untapped(job: Job) -> tuple[int, ...]:
    """Return the final outputs that are not measured: strings, inputs, constants and others."""
    tensors, made = job.subgraph.tensors, job.subgraph.producers

    def readable(index: int) -> bool:
        tensor = tensors[index]
        if tensor.type == "STRING" or index not in made:
            return tensor.type not in HANDLE_TYPES
        return unreadable(job.subgraph, made[index], tensor) is None

    others = (i for i in job.subgraph.outputs if i >= 0 and i not in job.exposed.taps)
    return tuple(filter(readable, others))
