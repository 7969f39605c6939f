"""Errors along the time steps of recurrent networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.copies import FileReference, shadow
from tfldbg.match.steps import own_steps

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.graph.steps import Recurrence, SequenceOutput
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.job import Job

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """The largest errors of one operator in one step, real units."""

    step: int
    op: int
    local: float | None
    accumulated: float | None
    lsb: float | None
    """The output's scale, None for float tensors."""
    body_op: int | None = None
    """The operator inside ``op``, if that is a loop."""


@dataclass(frozen=True, slots=True)
class Step:
    """One time step of a recurrent network."""

    step: int
    """The number of the step, from 0."""
    ops: tuple[int, ...]
    """The operators of the main subgraph that compute it."""
    max_local_lsb: float | None
    """The largest local error, LSB; None if no operator of the step has a quantized output."""
    max_local_abs: float | None
    """The largest local error, real units."""
    worst_op: int | None
    """The operator with the largest local error, None if there is no error."""
    worst_body_op: int | None
    """The operator inside ``worst_op``, if that is a loop."""
    max_accumulated_lsb: float | None
    """The largest accumulated error, LSB."""
    max_accumulated_abs: float | None
    """The largest accumulated error, real units."""
    worst_accumulated_op: int | None
    """The operator with the largest accumulated error."""


def by_step(
    recurrences: Sequence[Recurrence],
    stats: Mapping[int, Sequence[tuple[TensorStats | None, TensorStats | None, float | None]]],
    figures: Iterable[Figure],
) -> tuple[Step, ...]:
    """Return the largest errors of each step.

    Args:
        recurrences: The unrolled recurrences.
        stats: The local error, the accumulated error and the scale of each output, by operator.
        figures: The figures of operators that compute several steps.
    """
    found = list(figures)
    members: dict[int, set[int]] = {}
    for recurrence in recurrences:
        for step, ops in enumerate(recurrence.steps):
            members.setdefault(step, set()).update(ops)
            found += [
                Figure(step, op, _largest(local), _largest(accumulated), lsb)
                for op in ops
                for local, accumulated, lsb in stats.get(op, ())
            ]
    figures_in: dict[int, list[Figure]] = {}
    for figure in found:
        members.setdefault(figure.step, set()).add(figure.op)
        figures_in.setdefault(figure.step, []).append(figure)
    return tuple(
        _step(step, tuple(sorted(ops)), figures_in.get(step, ()))
        for step, ops in sorted(members.items())
    )


def _largest(stats: TensorStats | None) -> float | None:
    return None if stats is None else stats.max_abs


def _step(number: int, ops: tuple[int, ...], figures: Sequence[Figure]) -> Step:
    local = _worst([(f.local, f) for f in figures if f.local is not None])
    accumulated = _worst([(f.accumulated, f) for f in figures if f.accumulated is not None])
    return Step(
        step=number,
        ops=ops,
        max_local_lsb=local.lsb,
        max_local_abs=local.size,
        worst_op=local.figure.op if local.figure else None,
        worst_body_op=local.figure.body_op if local.figure else None,
        max_accumulated_lsb=accumulated.lsb,
        max_accumulated_abs=accumulated.size,
        worst_accumulated_op=accumulated.figure.op if accumulated.figure else None,
    )


@dataclass(frozen=True, slots=True)
class _Worst:
    figure: Figure | None
    size: float | None
    lsb: float | None


def _worst(errors: Sequence[tuple[float, Figure]]) -> _Worst:
    """Return the largest error: in LSB if there are quantized outputs, else in real units."""
    quantized = [(size / f.lsb, size, f) for size, f in errors if f.lsb is not None]
    if quantized:
        steps, size, figure = max(quantized, key=lambda found: found[0])
        return _Worst(figure if size else None, size, steps)
    if not errors:
        return _Worst(None, None, None)
    size, figure = max(errors, key=lambda found: found[0])
    return _Worst(figure if size else None, size, None)


class AlongTime:
    """Keeps the largest errors of tensors that hold all steps, along their time axis.

    If the reference gives no local error of such a tensor, the operator's own float copy is used.

    Args:
        job: The traced file.
        sequences: The tensors.
        stack: The stack to close at the end.
    """

    def __init__(self, job: Job, sequences: Sequence[SequenceOutput], stack: ExitStack) -> None:
        self._job, self._stack = job, stack
        readable = frozenset(job.exposed.taps)
        self._sequences = [s for s in sequences if s.tensor in readable]
        self._local: dict[int, Doubles] = {}
        self._accumulated: dict[int, Doubles] = {}
        self._own: FileReference | None = None

    def record(self, batch: Batch, computed: Computed) -> None:
        """Measure one batch.

        Raises:
            RunError: The runtime crashes on the float copies.
        """
        local = dict(computed.local)
        missing = [s for s in self._sequences if s.tensor not in local]
        if missing:
            local.update(self._computed(missing, batch))
        for sequence in self._sequences:
            index = sequence.tensor
            real = batch.real[index]
            tested = computed.tested.get(index, real)
            along(self._local, sequence, local.get(index), tested)
            along(self._accumulated, sequence, computed.free.get(index), real)

    def _computed(self, missing: Sequence[SequenceOutput], batch: Batch) -> Mapping[int, Floats]:
        """Return the results of the operators' own float copies on a batch."""
        job = self._job
        if self._own is None:
            known = frozenset((*job.exposed.taps, *job.subgraph.inputs))
            wanted = {s.op for s in missing}
            planned = own_steps(job.subgraph, known, states=job.states).steps
            steps = [s for s in planned if s.op.index in wanted]
            built = shadow(job.loaded, steps, batch)
            self._own = FileReference(built, {})
            self._stack.callback(self._own.close)
        return self._own.compute(batch).local

    def figures(self) -> list[Figure]:
        """Return the errors by step."""
        tensors = self._job.subgraph.tensors
        found = []
        for sequence in self._sequences:
            lsb = tensors[sequence.tensor].lsb
            local = self._local.get(sequence.tensor)
            accumulated = self._accumulated.get(sequence.tensor)
            found += figures_of(sequence.op, local, accumulated, lsb)
        return found


def along(
    maxima: dict[int, Doubles],
    sequence: SequenceOutput,
    reference: NDArray[np.float32] | None,
    found: NDArray[np.float32],
) -> None:
    """Keep the largest difference of each step of a tensor.

    Args:
        maxima: The largest differences (steps,) by tensor, which are updated.
        sequence: The tensor and its time axis.
        reference: The values (n, ...) of the reference in real units, None if unknown.
        found: The values (n, ...) of TFLite in real units.
    """
    if reference is None or reference.size != found.size:
        return
    largest = largest_by_step(reference.reshape(found.shape), found, sequence.axis + 1)
    known = maxima.get(sequence.tensor)
    if known is None or len(known) == len(largest):
        maxima[sequence.tensor] = largest if known is None else np.maximum(known, largest)


def largest_by_step(
    reference: NDArray[np.float32], found: NDArray[np.float32], axis: int = 0
) -> Doubles:
    """Return the largest difference at each position along an axis, infinite for NaN.

    Elements whose reference is not finite are left out.
    """
    difference = np.abs(found.astype(np.float64) - reference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    difference = np.where(np.isfinite(reference), difference, 0.0)
    steps = np.moveaxis(difference, axis, 0)
    largest: Doubles = steps.reshape(len(steps), -1).max(1, initial=0.0)
    return largest


def figures_of(
    op: int, local: Doubles | None, accumulated: Doubles | None, lsb: float | None
) -> list[Figure]:
    """Return the figures of one tensor, one per step."""
    count = max((len(a) for a in (local, accumulated) if a is not None), default=0)
    return [
        Figure(step, op, _at(local, step), _at(accumulated, step), lsb) for step in range(count)
    ]


def _at(values: Doubles | None, step: int) -> float | None:
    return None if values is None or step >= len(values) else float(values[step])
