"""Compare with recorded tensors: the file's own operators on the recorded inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, Computed, in_real_units
from tfldbg.compare.copies import shadow
from tfldbg.graph.query import numpy_type
from tfldbg.match.settle import same_parameters
from tfldbg.match.steps import given
from tfldbg.reference import capture as recordings
from tfldbg.rewrite.cut import cut_model
from tfldbg.rewrite.twin import Computation, LocalModel, untwinned
from tfldbg.run.derived import DerivedRunner, derived_program

if TYPE_CHECKING:
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.reference.capture import Capture
    from tfldbg.reference.recorded import Recorded
    from tfldbg.run.job import Job

_ON_GRID = 0.01
"""The largest distance in LSB of a real value from the code that it represents.

Scale, subtraction and product are each rounded to float32, 3 x 2**-24 of up to 32768 steps: 0.006.
"""
_CHECKED_AT_ONCE = 32
"""The number of samples to check at a time in a recording."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTensors:
    """Recorded values as tensors of the traced file."""

    capture: Capture
    recorded: Mapping[int, Recorded]
    """The recorded counterpart of each tensor of the traced file."""
    subgraph: Subgraph

    def real(self, index: int, start: int, stop: int) -> NDArray[np.float32]:
        """Return samples ``start`` to ``stop`` of a tensor in real units: (n, ...) float32.

        Integers without a scale are codes of the traced file's tensor.
        """
        recorded, tensor = self.recorded[index], self.subgraph.tensors[index]
        stored = self.capture.stored(recorded, start, stop)
        if recorded.scale is None and not recorded.is_float:
            return in_real_units(tensor, stored)
        return recordings.in_real_units(recorded, stored)

    def codes(self, index: int, start: int, stop: int) -> NDArray[Any]:
        """Return the samples in the traced file's own type: codes if its tensor is quantized.

        NaN becomes zero.
        """
        recorded, tensor = self.recorded[index], self.subgraph.tensors[index]
        dtype = numpy_type(tensor) or np.dtype(np.int8)
        if self.keeps_codes(index):
            return self.capture.stored(recorded, start, stop).astype(dtype)
        real = self.real(index, start, stop)
        if dtype.kind != "f":
            real = np.nan_to_num(real)
        affine = tensor.affine
        return real.astype(dtype) if affine is None else affine.quantize(real, tensor.type)

    def keeps_codes(self, index: int) -> bool:
        """Return whether the stored values are the values of the traced file's tensor unchanged."""
        recorded, tensor = self.recorded[index], self.subgraph.tensors[index]
        if recorded.type != tensor.type:
            return False
        affine = recorded.affine
        if affine is None or tensor.lsb is None:
            return True
        return same_parameters(tensor, (affine.scale, affine.zero_point))

    def misfit(self, index: int, count: int) -> str | None:
        """Return the reason why an operator cannot read a tensor's recorded values, None if it can.

        It can if the traced file's tensor can hold each of them.

        Args:
            index: The tensor.
            count: The number of samples to check.
        """
        tensor = self.subgraph.tensors[index]
        step = tensor.lsb or 1.0
        if self.keeps_codes(index) or tensor.type.startswith("FLOAT"):
            return None
        for start in range(0, count, _CHECKED_AT_ONCE):
            stop = min(start + _CHECKED_AT_ONCE, count)
            real = self.real(index, start, stop)
            if not np.isfinite(real).all():
                return f"the recording has NaN or infinite values in its input '{tensor.name}'"
            held = in_real_units(tensor, self.codes(index, start, stop))
            if np.abs(held - real).max(initial=0.0) > _ON_GRID * step:
                return (
                    f"the recorded values of its input '{tensor.name}' are between the file's own "
                    "codes: another scale, or float arithmetic"
                )
        return None

    def batch(self, indices: frozenset[int], start: int, stop: int) -> Batch:
        """Return samples ``start`` to ``stop`` of some tensors."""
        return Batch(
            start,
            stop,
            {i: self.codes(i, start, stop) for i in indices},
            {i: self.real(i, start, stop) for i in indices},
        )


@dataclass(frozen=True, slots=True, eq=False)
class SingleOperators:
    """The traced file's operators, cut apart."""

    model: LocalModel | None
    feeds: frozenset[int]
    """The tensors whose recorded values they read."""
    reasons: Mapping[int, str]
    """The reasons, by tensor, why its operator cannot be run on the recorded inputs."""
    between: frozenset[int]
    """The results whose recorded values the file's own codes cannot hold."""


def single_operators(
    job: Job, values: RecordedTensors, unmatched: Mapping[int, str], first: Batch
) -> SingleOperators:
    """Cut the traced file into the operators that can be run on recorded inputs.

    Args:
        job: The traced file.
        values: The recording.
        unmatched: The reasons, by tensor, why it has no recorded counterpart.
        first: The first sample as the traced file computes it, for shapes that were not recorded.
    """
    subgraph = job.subgraph
    plan = _Runnable(subgraph, values, unmatched, job.samples.count, frozenset(first.codes))
    steps: list[Computation] = []
    reasons: dict[int, str] = {}
    for op in subgraph.operators:
        outputs = [i for i in op.outputs if i in values.recorded]
        reason = plan.reason(op) if outputs else None
        if reason is not None:
            reasons.update((i, reason) for i in outputs)
        elif outputs:
            feeds = {t.index: t for t in given(subgraph, op)}
            steps.append(Computation(op, feeds, {i: i for i in outputs}))
    wanted = frozenset(i for step in steps for i in step.feeds)
    given_values = _given(values, wanted, first)
    built = shadow(job.loaded, steps, given_values, cut_model, job.run_on.kernels)
    for step in steps:
        if step.op.index in built.refused:
            reasons.update((i, built.refused[step.op.index]) for i in step.results)
    results = {i for step in steps for i in step.results}
    between = frozenset(i for i in results if plan.misfit(i) is not None)
    model = built.parts[0].model if built.parts else None
    return SingleOperators(model, wanted, reasons, between)


class _Runnable:
    """Decides which operators can be run on the recording."""

    def __init__(
        self,
        subgraph: Subgraph,
        values: RecordedTensors,
        unmatched: Mapping[int, str],
        count: int,
        readable: frozenset[int],
    ) -> None:
        self._subgraph, self._values, self._unmatched = subgraph, values, unmatched
        self._count, self._readable = count, readable
        self._others = subgraph.non_activations
        self._misfits: dict[int, str | None] = {}

    def reason(self, op: Operator) -> str | None:
        """Return the reason why an operator cannot be run on recorded inputs, None if it can."""
        reason = untwinned(self._subgraph, op)
        if reason is not None:
            return reason
        return next((r for t in given(self._subgraph, op) if (r := self._input(t))), None)

    def _input(self, tensor: Tensor) -> str | None:
        index = tensor.index
        if index not in self._values.recorded:
            shape = index in self._others  # which is the same on both sides
            given = index in self._subgraph.inputs  # if it was not recorded, the data is used
            if (shape or given) and index in self._readable:
                return None
            why = self._unmatched.get(index, "it is not in the recording")
            return f"its input '{tensor.name}' was not recorded: {why}"
        return self.misfit(index)

    def misfit(self, index: int) -> str | None:
        """Return the reason why no operator can read a recorded tensor, None if one can; cached."""
        if index not in self._misfits:
            self._misfits[index] = self._values.misfit(index, self._count)
        return self._misfits[index]


def _given(values: RecordedTensors, wanted: frozenset[int], batch: Batch) -> Batch:
    """Return the inputs of the operators: recorded, or of this run for shapes and model inputs."""
    recorded = values.batch(wanted & values.recorded.keys(), batch.start, batch.stop)
    rest = wanted - values.recorded.keys()
    return Batch(
        batch.start,
        batch.stop,
        {**recorded.codes, **{i: batch.codes[i] for i in rest}},
        {**recorded.real, **{i: batch.real[i] for i in rest}},
    )


class CaptureReference:
    """The recording: its values, and the traced file's operators on them.

    It can be pickled.

    Args:
        job: The traced file.
        values: The recording, which is closed with this object.
        operators: The traced file's operators, cut apart.

    Raises:
        RunError: The runtime refuses the operators.
    """

    batch: int | None = None
    in_batches = True

    def __init__(self, job: Job, values: RecordedTensors, operators: SingleOperators) -> None:
        self._values, self._operators = values, operators
        self._tensors = job.subgraph.tensors
        self._runner: DerivedRunner | None = None
        model = operators.model
        if model is not None:
            name = f"the single operators of '{job.loaded.path}'"
            program = derived_program(name, model.content, model.taps, job.run_on.kernels)
            self._runner = DerivedRunner(program, model.feeds)

    def compute(self, batch: Batch) -> Computed:
        """Return the recorded values of one batch, and the file's results on them.

        Raises:
            RunError: The runtime crashes.
            CaptureError: The recording is damaged.
        """
        values, model = self._values, self._operators.model
        free = {
            i: values.real(i, batch.start, batch.stop) for i in values.recorded if i in batch.real
        }
        if self._runner is None or model is None:
            return Computed(free, {})
        given_values = _given(values, self._operators.feeds, batch)
        count = batch.stop - batch.start
        # An operator that has read the recorded inputs of the previous steps has the right state.
        made = self._runner.run(given_values.codes, given_values.real, count, batch.fresh)
        tested = {
            i: in_real_units(self._tensors[i], codes)
            for i, codes in zip(model.results, made, strict=True)
            if i in free
        }
        return Computed(free, {i: free[i] for i in tested}, tested)

    def read(self, batch: Batch) -> Batch:
        """Return a batch with recorded values instead of those that this run computed."""
        given = _given(self._values, self._operators.feeds, batch)
        codes, real = {**batch.codes, **given.codes}, {**batch.real, **given.real}
        return replace(batch, codes=codes, real=real)

    def close(self) -> None:
        """Release the model, and close the recording."""
        if self._runner is not None:
            self._runner.close()
        self._values.capture.close()
