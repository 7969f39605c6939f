"""A frozen Keras model as the reference: running free, and operator by operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfldbg.compare.batch import Batch, Computed
from tfldbg.reference.evaluate import Evaluator, Frozen, Segment, in_reference_order
from tfldbg.run.status import own_status

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.run.samples import Samples


class KerasReference:
    """The frozen model, running free and cut into operators, in one session.

    It can be pickled; the copy opens its session when it first computes.

    Args:
        frozen: The reference.
        relation: Its relation to the file.
        segments: The operators cut out of it, by output tensor.
        samples: The inputs of both sides.

    Raises:
        KerasError: TensorFlow refuses the graph.
    """

    in_batches = True

    def __init__(
        self,
        frozen: Frozen,
        relation: Relation,
        segments: Mapping[int, Segment],
        samples: Samples,
    ) -> None:
        self.batch = frozen.batch
        self._frozen, self._segments, self._samples = frozen, segments, samples
        self._matching = relation.matching
        self._evaluator: Evaluator | None = None
        self._opened()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {**self.__dict__, "_evaluator": None}

    def _opened(self) -> Evaluator:
        if self._evaluator is None:
            fetches = [m.node for m in self._matching.matches.values()]
            segments = list(self._segments.values())
            threads = None if own_status() is None else 1  # each processor has its own process
            self._evaluator = Evaluator(self._frozen, fetches, segments, threads=threads)
        return self._evaluator

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            KerasError: TensorFlow cannot compute the data.
        """
        evaluator = self._opened()
        fetched, computed = evaluator.run(
            in_reference_order(self._matching.inputs, self._samples.real(batch.start, batch.stop)),
            {key: batch.real[key] for key in evaluator.tap_keys},
        )
        free = zip(self._matching.matches, fetched, strict=True)
        return Computed(
            free={i: values for i, values in free if i in batch.real},
            local=dict(zip(self._segments, computed, strict=True)),
        )

    def close(self) -> None:
        """Release the session."""
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None
