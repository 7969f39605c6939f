"""Measure the errors of operators that read a tensor with other parameters than it should have.

A kernel computes with its input's codes.  A bias that was quantized for the right scale, or codes
that are copied to an output with the right scale, give wrong results although the values that were
written are right.  Such an error belongs to the operator that wrote the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.batch import Batch, in_real_units
from tfldbg.compare.copies import shadow
from tfldbg.graph.model import QuantParams, Tensor
from tfldbg.match.steps import own_steps
from tfldbg.quant import Affine
from tfldbg.rewrite.cut import cut_model

if TYPE_CHECKING:
    from tfldbg.match.model import Matching
    from tfldbg.reference.evaluate import Floats
    from tfldbg.rewrite.twin import Computation
    from tfldbg.run.derived import DerivedRunner
    from tfldbg.run.job import Job

_CLEARLY_CLOSER = 0.5
"""The ratio of RMSEs: a consumer that only rounds differently is about as close as before."""


class CorrectedConsumers:
    """The operators that read tensors with wrong parameters, run again with the right ones.

    Args:
        job: The traced file.
        matching: The matching, with the reference's parameters.
        first: Some samples of the file.
        stack: Closes the runner at the end.
    """

    def __init__(self, job: Job, matching: Matching, first: Batch, stack: ExitStack) -> None:
        self._subgraph = job.subgraph
        self._right = {
            i: match.expected
            for i, match in matching.matches.items()
            if match.parameters == "differ" and match.expected is not None and i in first.codes
            if job.subgraph.tensors[i].lsb is not None
        }
        self.blamed: dict[int, int] = {}
        self._runner: DerivedRunner | None = None
        plan = own_steps(job.subgraph, frozenset(first.codes), stored=True)
        steps = [s for s in plan.steps if not self._right.keys().isdisjoint(s.feeds)]
        if not steps:
            return
        corrected = [self._with_right_parameters(step) for step in steps]
        built = shadow(job.loaded, corrected, first, cut_model, job.run_on.kernels)
        if not built.parts:
            return
        (part,) = built.parts
        self._results = part.model.results
        self._runner = part.start()
        stack.callback(self._runner.close)
        # An operator that reads several such tensors is charged to the first of them.
        self.blamed = {
            out: next(i for i in step.feeds if i in self._right)
            for step in steps
            for out in step.results.values()
            if out in self._results
        }
        """The tensor with wrong parameters, by output of its consumer."""

    def _with_right_parameters(self, step: Computation) -> Computation:
        return replace(step, feeds={i: self._as_it_should_be(t) for i, t in step.feeds.items()})

    def _as_it_should_be(self, tensor: Tensor) -> Tensor:
        if tensor.index not in self._right:
            return tensor
        scale, zero_point = self._right[tensor.index]
        params = QuantParams(np.array([scale], np.float32), np.array([zero_point], np.int64))
        return replace(tensor, quant=params)

    def misread(self, batch: Batch) -> dict[int, Floats]:
        """Return the difference that the wrong parameters make to the output of each consumer.

        The difference is in real units.  With the right parameters the inputs hold the same
        values, rounded to codes of these parameters.
        """
        if self._runner is None:
            return {}
        tensors = self._subgraph.tensors
        requantized = {
            i: Affine(*right).quantize(batch.real[i], tensors[i].type)
            for i, right in self._right.items()
        }
        codes = {**batch.codes, **requantized}
        found = self._runner.run(codes, batch.real, batch.stop - batch.start)
        return {
            index: batch.real[index]
            - in_real_units(tensors[index], value).reshape(batch.real[index].shape)
            for index, value in zip(self._results, found, strict=True)
            if index in batch.real
        }

    def keep_what_explains(self, own: Mapping[int, Floats], misread: Mapping[int, Floats]) -> None:
        """Keep only consumers that are clearly closer to the reference with the right parameters.

        If a whole file was calibrated in another way than the reference, its biases fit its scales.

        Args:
            own: The own errors of the operators on some samples, by tensor.
            misread: The result of `misread` for these samples.
        """
        self.blamed = {
            index: tensor
            for index, tensor in self.blamed.items()
            if index in own and index in misread
            if _size(own[index] - misread[index]) < _CLEARLY_CLOSER * _size(own[index])
        }


def _size(values: Floats) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).sum()))
