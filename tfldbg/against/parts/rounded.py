"""Emulate TFLite in float arithmetic, with all values rounded to codes."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tfldbg import quant
from tfldbg.compare.batch import Batch, Computed, as_floats
from tfldbg.compare.ranges.passes import Copy, real_inputs
from tfldbg.rewrite.twin import FAKE_QUANT, twins
from tfldbg.run.derived import copy_runner

if TYPE_CHECKING:
    from tfldbg.compare.copies import FileReference
    from tfldbg.graph.model import QuantParams, Subgraph
    from tfldbg.options.runtimes import Kernels
    from tfldbg.reference.evaluate import Floats


class RoundedRunner:
    """The float copy of a file, running free, with all values rounded to codes.

    Args:
        copy: The float copy.
        parameters: The parameters to round with by tensor, None for the file's own.
        kernels: The kernels that compute it.

    Raises:
        RunError: The runtime refuses the copy.
    """

    def __init__(
        self, copy: Copy, parameters: Mapping[int, QuantParams] | None, kernels: Kernels
    ) -> None:
        self._own, self._inputs = parameters is None, copy.job.subgraph.inputs
        self._samples = copy.job.samples
        made = twins(
            copy.job.loaded.graph,
            copy.job.subgraph,
            (FAKE_QUANT,),
            copy.refused,
            copy.job.readable,
            parameters,
            sources=copy.job.sources,
        )
        self._results = made.results
        self._runner = copy_runner(copy.job.loaded.path, made, kernels)

    def __call__(self, batch: Batch) -> Computed:
        """Run it on the model's inputs, before rounding if the parameters are not the file's."""
        real = batch.real
        if not self._own:
            given = real_inputs(self._samples, self._inputs, batch.codes, batch.start, batch.stop)
            real = ChainMap(given, real)  # type: ignore[arg-type]
        values = self._runner.run(batch.codes, real, batch.count, batch.fresh)
        pairs = zip(self._results, map(as_floats, values), strict=True)
        found = {index: value for (_, index), value in pairs if batch.fits(index, value)}
        return Computed({i: v.reshape(batch.shape(i)) for i, v in found.items()}, {})

    def close(self) -> None:
        """Release the model."""
        self._runner.close()


class EmulationReference:
    """A file's float copies with their results rounded to codes.

    Args:
        inner: The separate operators without rounding, and the free-running part.
        subgraph: The subgraph with the codes.
    """

    batch: int | None = None
    in_batches = False

    def __init__(self, inner: FileReference, subgraph: Subgraph) -> None:
        self._inner, self._tensors = inner, subgraph.tensors

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            RunError: The runtime crashes.
        """
        computed = self._inner.compute(batch)
        local = {i: _on_codes(values, self._tensors[i].lsb) for i, values in computed.local.items()}
        return replace(computed, local=local)

    def close(self) -> None:
        """End the child processes."""
        self._inner.close()


def _on_codes(values: Floats, lsb: float | None) -> Floats:
    """Round to whole steps; values beyond the codes are kept, and counted as saturation."""
    return values if lsb is None else quant.to_steps(values, lsb)
