"""Compare values over a few samples, for tensors that the matcher cannot match by structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tfldbg.against.parts.few import SAMPLES, FewSamples
from tfldbg.match.values import choose_by_values
from tfldbg.reference.evaluate import Frozen, evaluate_once, in_reference_order

if TYPE_CHECKING:
    from tfldbg.run.job import Job


class Agreement:
    """Decides which of several reference nodes holds the values of a TFLite tensor.

    Args:
        job: The TFLite side.
        frozen: The reference.
        inputs: For each TFLite input the number of the reference input.
        few: The first samples as TFLite computes them.
    """

    def __init__(self, job: Job, frozen: Frozen, inputs: tuple[int, ...], few: FewSamples) -> None:
        self._job, self._frozen, self._inputs, self._few = job, frozen, inputs, few
        self._count = min(job.samples.count, frozen.batch or SAMPLES)

    def __call__(self, tensor: int, candidates: Sequence[str]) -> str | None:
        """Return the candidate that agrees clearly best, None if none does."""
        if tensor not in self._job.exposed.taps:
            return None
        fetched = self._fetched(candidates)
        test = self._few.held(tensor)[: self._count]
        return choose_by_values(test, dict(zip(candidates, fetched, strict=True)))

    def elements(self, node: str) -> int | None:
        """Return the number of values of a node per sample, None if they are not a batch."""
        (values,) = self._fetched([node])
        batch = values.shape[:1] == (self._count,)
        return values.size // self._count if batch else None

    def _fetched(self, nodes: Sequence[str]) -> list[NDArray[Any]]:
        """Return the values of some nodes over the first samples."""
        real = self._job.samples.real(0, self._count)
        given = in_reference_order(self._inputs, real)
        fetched, _ = evaluate_once(self._frozen, nodes, given)
        return list(fetched)
