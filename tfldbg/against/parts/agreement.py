"""Compare values over a few samples, only when the matcher cannot decide by structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import in_real_units
from tfldbg.match.values import choose_by_values
from tfldbg.reference.evaluate import Frozen, evaluate_once, in_reference_order

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph
    from tfldbg.run.litert import Runner
    from tfldbg.run.samples import Samples

_SAMPLES = 4


class Agreement:
    """Which of several reference nodes holds what a TFLite tensor holds.

    Args:
        subgraph: The TFLite side.
        taps: The tensors that ``runner`` returns, in its order.
        samples: The inputs of both sides.
        frozen: The reference.
        runner: The instrumented model.
        inputs: For each TFLite input the number of the reference input.
    """

    def __init__(
        self,
        subgraph: Subgraph,
        taps: tuple[int, ...],
        samples: Samples,
        frozen: Frozen,
        runner: Runner,
        inputs: tuple[int, ...],
    ) -> None:
        self._subgraph = subgraph
        self._taps = taps
        self._count = min(samples.count, frozen.batch or _SAMPLES)
        self._samples = samples
        self._frozen = frozen
        self._runner = runner
        self._inputs = inputs
        self._values: dict[int, NDArray[Any]] = {}

    def __call__(self, tensor: int, candidates: Sequence[str]) -> str | None:
        """Return the candidate that agrees clearly best, None when none does."""
        if tensor not in self._taps:
            return None
        if not self._values:
            frames = [self._runner.run(self._samples.codes(i)) for i in range(self._count)]
            columns = zip(*frames, strict=True)
            self._values = {i: np.stack(c) for i, c in zip(self._taps, columns, strict=True)}
        fetched = self._fetched(candidates)
        test = in_real_units(self._subgraph.tensors[tensor], self._values[tensor])
        return choose_by_values(test, dict(zip(candidates, fetched, strict=True)))

    def elements(self, node: str) -> int | None:
        """Return how many values of one sample a node has, None where they are no batch."""
        (values,) = self._fetched([node])
        batch = values.shape[:1] == (self._count,)
        return values.size // self._count if batch else None

    def _fetched(self, nodes: Sequence[str]) -> list[NDArray[Any]]:
        """Return the values of some nodes over the first samples."""
        real = self._samples.real(0, self._count)
        given = in_reference_order(self._inputs, real)
        fetched, _ = evaluate_once(self._frozen, nodes, given)
        return list(fetched)
