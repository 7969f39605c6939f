"""Add the final outputs of the traced file's fake-quant emulation to any reference."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg.compare.copies import EmulatedOutputs
from tfldbg.errors import RunError
from tfldbg.match.steps import own_steps
from tfldbg.run.derived import FLOAT_KERNELS

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.compare.stream import Reference
    from tfldbg.run.job import Job


class WithEmulation:
    """A reference with the emulation's final outputs.

    Args:
        reference: The reference.
        emulation: The emulation.
    """

    def __init__(self, reference: Reference, emulation: EmulatedOutputs) -> None:
        self.batch, self.in_batches = reference.batch, reference.in_batches
        self._reference, self._emulation = reference, emulation

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            TfldbgError: A side cannot compute the data.
        """
        emulated = self._emulation(batch)
        return replace(self._reference.compute(batch), emulated=emulated)

    def close(self) -> None:
        """Release the resources of both."""
        self._emulation.close()
        self._reference.close()


def with_emulation(job: Job, reference: Reference, first: Batch) -> tuple[Reference, str | None]:
    """Add the file's fake-quant emulation to a reference.

    Args:
        job: The traced file.
        reference: The reference.
        first: The first sample, to check that the emulation runs.

    Returns:
        Both together; or the reference alone, with the reason if there should be an emulation.
    """
    subgraph = job.subgraph
    known = frozenset((*job.exposed.taps, *subgraph.inputs))
    if not any(t.lsb is not None for t in subgraph.tensors):
        return reference, None
    refused = own_steps(subgraph, known).refused
    with ExitStack() as stack:
        try:
            emulation = EmulatedOutputs(job, refused, FLOAT_KERNELS)
            stack.callback(emulation.close)
            emulation(first)
        except RunError as error:
            return reference, f"no emulation: {error.message}"
        stack.pop_all()
    return WithEmulation(reference, emulation), None
