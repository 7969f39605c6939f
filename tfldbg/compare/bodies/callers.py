"""Check the operators inside a WHILE, an IF or a composite by running its subgraphs separately.

A loop begins with the values that it really had, and each of its steps with the results of the
previous one; a branch or a decomposition gets the inputs of its operator.  Each operator inside is
compared with its own float copy on the inputs that it had, like the operators of the main subgraph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.bodies.part import PartMeasured, RunningPart, SubgraphValues
from tfldbg.compare.steps import Doubles, Figure, along, figures_of
from tfldbg.errors import RunError
from tfldbg.graph.query import ROLES, Role, called_subgraphs, constant
from tfldbg.graph.steps import FEWEST_STEPS, SequenceOutput
from tfldbg.options.judge import FLOAT_RELATIVE
from tfldbg.rewrite.body import parts_of

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.graph.model import Operator
    from tfldbg.run.job import Job

_MOST_CALLERS = 32
"""The largest number of operators that are traced inside; each takes two processes per subgraph."""
_MOST_STEPS = 4096
"""The largest number of runs of a subgraph, over all samples; each takes a few invokes."""


@dataclass(frozen=True, slots=True, eq=False)
class BodyMeasured:
    """The measurements of one subgraph that an operator runs."""

    op: Operator
    role: Role
    subgraph: int
    """The index of the subgraph, -1 if the operator names none."""
    samples: int
    """The number of samples on which it was traced."""
    steps: int
    """The number of runs, without the last evaluation of a loop's condition."""
    identical: bool
    """True if, run separately, it computes the values of the operator: the same codes, and float
    values within `FLOAT_RELATIVE`."""
    found: PartMeasured | str
    """The measurements, or the reason why there are none."""


class Bodies:
    """Traces the subgraphs of each WHILE, IF and composite of the main subgraph, batch by batch.

    Args:
        job: The traced file.
        stack: The stack to close at the end.
    """

    def __init__(self, job: Job, stack: ExitStack) -> None:
        self._callers: list[_Caller] = []
        for op in (op for op in job.subgraph.operators if op.kind in ROLES):
            caller = (_Loop if op.kind == "WHILE" else _Once)(job, op, stack)
            if len(self._callers) >= _MOST_CALLERS:
                caller.reason = f"only the first {_MOST_CALLERS} such operators are traced inside"
            self._callers.append(caller)

    def record(self, batch: Batch, computed: Computed) -> None:
        """Run the subgraphs again for one batch."""
        for caller in self._callers:
            caller.record(batch, computed)

    def measured(self) -> tuple[BodyMeasured, ...]:
        """Return the measurements of all their subgraphs."""
        return tuple(body for caller in self._callers for body in caller.measured())

    def figures(self) -> tuple[Figure, ...]:
        """Return the largest errors of the loops by step, for `by_step`."""
        return tuple(figure for caller in self._callers for figure in caller.figures())


class _Caller(ABC):
    """An operator that runs subgraphs."""

    _never = "no sample leads there"
    """The reason for a subgraph that was not run."""

    def __init__(self, job: Job, op: Operator, stack: ExitStack) -> None:
        self._job, self._op, self._stack = job, op, stack
        self.reason: str | None = None
        """The reason why it cannot be traced inside."""
        self._parts: tuple[RunningPart, ...] = ()
        self._samples = self._steps = 0

    def record(self, batch: Batch, computed: Computed) -> None:
        """Run its subgraphs again for one batch."""
        del computed
        for number in range(batch.stop - batch.start):
            if self.reason is not None or self._steps >= _MOST_STEPS:
                break
            try:
                self._look_into(batch, number)
            except RunError as error:
                self.reason = f"it does not run separately: {error.message}"
        for part in self._parts:
            part.compare()

    def _look_into(self, batch: Batch, number: int) -> None:
        if not self._parts:
            self._open()
        given = self._given(batch, number)
        if self.reason is not None or given is None:
            return
        last, made = self._run(batch.start + number, given)
        if self._steps < _MOST_STEPS:
            last.identical = last.identical and self._ends_at(made, batch, number)
        self._samples += 1

    @abstractmethod
    def _run(self, sample: int, given: SubgraphValues) -> tuple[RunningPart, SubgraphValues]:
        """Do what the operator does, and count the steps.

        Returns:
            The subgraph that computed the operator's outputs, and the outputs.
        """

    @abstractmethod
    def _steps_of(self, part: RunningPart) -> int:
        """Return the number of runs of a subgraph."""

    def _open(self) -> None:
        name = f"operator {self._op.index} {self._op.kind} of '{self._job.loaded.path}'"
        found = parts_of(self._job.loaded.graph, self._op, name)
        if isinstance(found, str):
            self.reason = found
            return
        kernels = self._job.run_on.kernels
        self._parts = tuple(RunningPart(part, name, kernels, self._stack) for part in found)

    def _given(self, batch: Batch, number: int) -> SubgraphValues | None:
        """Return the operator's inputs, or None after setting the reason if one is unknown."""
        graph, tensors = self._job.loaded.graph, self._job.subgraph.tensors
        values = []
        for index in self._op.inputs:
            known = batch.codes[index][number] if index in batch.codes else None
            if known is None and index >= 0:
                known = constant(graph, tensors[index])
            if known is None:
                self.reason = f"its input tensor {index} cannot be read"
                return None
            values.append(known)
        return tuple(values)

    def _ends_at(self, made: SubgraphValues, batch: Batch, number: int) -> bool:
        pairs = [
            (mine, batch.codes[index][number])
            for mine, index in zip(made, self._op.outputs, strict=True)
            if index in batch.codes
        ]
        return all(_same(mine, its) for mine, its in pairs)

    def measured(self) -> Iterator[BodyMeasured]:
        """Yield the measurements of each of its subgraphs."""
        op, numbers = self._op, called_subgraphs(self._op)
        for place, role in enumerate(ROLES[op.kind]):
            part = self._parts[place] if self._parts else None
            number = numbers[place] if place < len(numbers) else -1
            steps = 0 if part is None else self._steps_of(part)
            identical = part is None or part.identical
            found = self._found(part, steps)
            yield BodyMeasured(op, role, number, self._samples, steps, identical, found)

    def _found(self, part: RunningPart | None, steps: int) -> PartMeasured | str:
        if self.reason is not None:
            return self.reason
        return part.found() if part is not None and steps else self._never

    def figures(self) -> Iterator[Figure]:
        """Return its largest errors by step, none if it is not a loop."""
        return iter(())


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    if first.tobytes() == second.tobytes():
        return True
    if first.dtype.kind not in "fc" or first.shape != second.shape:
        return False
    # XNNPACK adds in another order if a composite runs a subgraph than if the subgraph runs alone.
    largest = np.abs(second[np.isfinite(second)]).max(initial=0.0)
    return np.allclose(first, second, rtol=0.0, atol=FLOAT_RELATIVE * largest, equal_nan=True)


class _Loop(_Caller):
    """A WHILE."""

    _never = "it never ran a step"

    def __init__(self, job: Job, op: Operator, stack: ExitStack) -> None:
        super().__init__(job, op, stack)
        self._accumulated: dict[int, Doubles] = {}

    def record(self, batch: Batch, computed: Computed) -> None:
        """Run its subgraphs again for one batch, and keep the accumulated error along time."""
        super().record(batch, computed)
        for sequence in self._collected(batch):
            free = computed.free.get(sequence.tensor)
            along(self._accumulated, sequence, free, batch.real[sequence.tensor])

    def _run(self, sample: int, given: SubgraphValues) -> tuple[RunningPart, SubgraphValues]:
        del sample
        condition, body = self._parts
        state, step = given, 0
        while self._steps < _MOST_STEPS and bool(condition.run(step, state)[0].all()):
            state = body.run(step, state)
            step += 1
            self._steps += 1
        return body, state

    def _steps_of(self, part: RunningPart) -> int:
        del part  # The condition is evaluated once more per sample, which is not a step.
        return self._steps

    def _collected(self, batch: Batch) -> Iterator[SequenceOutput]:
        """Yield the outputs that have an element per step and that the body changes."""
        if not self._parts or not self._samples:
            return
        body, count = self._parts[1], self._steps // self._samples
        for kept, index in zip(body.carried, self._op.outputs, strict=True):
            values = batch.real.get(index)
            if kept or values is None or values.ndim < 2 or count < FEWEST_STEPS:
                continue
            if values.shape[1] == count and count * self._samples == self._steps:
                yield SequenceOutput(self._op.index, index, 0)

    def figures(self) -> Iterator[Figure]:
        """Yield its largest errors by step."""
        if self._parts and self.reason is None:
            yield from self._parts[1].figures(self._op.index)
        for index, accumulated in self._accumulated.items():
            lsb = self._job.subgraph.tensors[index].lsb
            yield from figures_of(self._op.index, None, accumulated, lsb)


class _Once(_Caller):
    """An IF, of which one branch runs, or a composite."""

    def _run(self, sample: int, given: SubgraphValues) -> tuple[RunningPart, SubgraphValues]:
        self._steps += 1
        part = self._parts[0]
        if self._op.kind == "IF":
            chosen, *given_on = given
            part, given = self._parts[0 if chosen.all() else 1], tuple(given_on)
        return part, part.run(sample, given)

    def _steps_of(self, part: RunningPart) -> int:
        return part.runs
