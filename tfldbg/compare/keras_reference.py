"""A frozen Keras model as the reference: running free, and operator by operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfldbg.compare.batch import Batch, Computed
from tfldbg.reference.evaluate import Evaluator, Frozen, Segment, in_reference_order

if TYPE_CHECKING:
    from tfldbg.compare.relation import Relation
    from tfldbg.run.samples import Samples


class KerasReference:
    """The frozen model, running free and cut into operators, in one session.

    Args:
        frozen: The reference.
        relation: Its relation to the file.
        segments: The operators cut out of it, by output tensor.
        samples: The inputs of both sides.

    Raises:
        KerasError: TensorFlow refuses the graph.
    """

    def __init__(
        self,
        frozen: Frozen,
        relation: Relation,
        segments: Mapping[int, Segment],
        samples: Samples,
    ) -> None:
        self.batch = frozen.batch
        self._samples = samples
        self._matching = relation.matching
        self._keys = tuple(segments)
        fetches = [m.node for m in relation.matching.matches.values()]
        self._evaluator = Evaluator(frozen, fetches, list(segments.values()))

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            KerasError: TensorFlow cannot compute the data.
        """
        fetched, computed = self._evaluator.run(
            in_reference_order(self._matching.inputs, self._samples.real(batch.start, batch.stop)),
            {key: batch.real[key] for key in self._evaluator.tap_keys},
        )
        free = zip(self._matching.matches, fetched, strict=True)
        return Computed(
            free={i: values for i, values in free if i in batch.real},
            local=dict(zip(self._keys, computed, strict=True)),
        )

    def close(self) -> None:
        """Release the session."""
        self._evaluator.close()
