"""Check the operators inside a WHILE: run its condition and body by themselves, step by step.

The values that the loop began with are those that it really had; so are the ones that every step
hands to the next.  Each operator of the body is compared with its own float copy on the inputs that
it had in every step, exactly as the operators of the main subgraph are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.against.file import FileReference, nothing_free, shadow
from tfldbg.compare.relation import Relation
from tfldbg.compare.steps import Doubles, Figure, along, figures_of, largest_by_step
from tfldbg.compare.stream import (
    Batch,
    Computed,
    Measured,
    Plan,
    Statistics,
    batch_of,
    settled,
)
from tfldbg.errors import RunError
from tfldbg.graph.model import Operator
from tfldbg.graph.query import constant
from tfldbg.graph.steps import FEWEST_STEPS, SequenceOutput
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import own_steps
from tfldbg.rewrite.body import Part, loop_parts
from tfldbg.run.job import Job, Loaded
from tfldbg.run.litert import Program, Runner
from tfldbg.run.runtimes import Kernels

_MOST_STEPS = 4096
"""Steps that are looked into, all samples together; each costs a few invokes."""
_TOGETHER = 32
"""Steps that are compared at once."""

_Values = tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class PartMeasured:
    """What was measured inside the condition or the body of a loop."""

    subgraph: int
    loaded: Loaded
    """The part as a file of its own."""
    relation: Relation
    measured: Measured
    """``worst_sample`` counts steps here."""
    changing: frozenset[int]
    """Tensors whose shape is another from step to step."""


@dataclass(frozen=True, slots=True, eq=False)
class LoopMeasured:
    """What was measured inside one WHILE."""

    op: Operator
    reason: str | None
    """Why nothing inside it could be checked."""
    parts: tuple[PartMeasured, ...]
    """Condition and body, both or none."""
    samples: int
    steps: int
    """All samples together."""
    identical: bool
    """Whether the steps, one by one, end at the very values that the operator yields."""
    figures: tuple[Figure, ...]
    """The largest errors step by step, for `tfldbg.compare.steps.by_step`."""


class Loops:
    """Looks into every WHILE of the main subgraph while the samples stream past.

    Args:
        job: The traced file.
        stack: What to close in the end.
    """

    def __init__(self, job: Job, stack: ExitStack) -> None:
        operators = job.subgraph.operators
        self._loops = [_Loop(job, op, stack) for op in operators if op.kind == "WHILE"]

    def record(self, batch: Batch, computed: Computed) -> None:
        """Run the loops of one batch again."""
        for loop in self._loops:
            loop.record(batch, computed)

    def measured(self) -> tuple[LoopMeasured, ...]:
        """Return what was found inside each of them."""
        return tuple(loop.measured() for loop in self._loops)


class _Loop:
    """One WHILE."""

    def __init__(self, job: Job, op: Operator, stack: ExitStack) -> None:
        self._job, self._op, self._stack = job, op, stack
        self._reason: str | None = None
        self._parts: tuple[_Part, ...] = ()
        self._samples = self._steps = 0
        self._identical = True
        self._accumulated: dict[int, Doubles] = {}

    def record(self, batch: Batch, computed: Computed) -> None:
        for number in range(batch.stop - batch.start):
            if self._reason is not None or self._steps >= _MOST_STEPS:
                break
            try:
                self._look_into(batch, number)
            except RunError as error:
                self._reason = f"its body does not run by itself: {error.message}"
        self._along_time(batch, computed)

    def _look_into(self, batch: Batch, number: int) -> None:
        if not self._parts:
            self._open()
        state = self._entry(batch, number)
        if self._reason is not None or state is None:
            return
        condition, body = self._parts
        step = 0
        while self._steps < _MOST_STEPS and bool(condition.run(step, state)[0].all()):
            state = body.run(step, state)
            step += 1
            self._steps += 1
        for part in self._parts:
            part.compare()
        if self._steps < _MOST_STEPS:
            self._identical = self._identical and self._ends_at(state, batch, number)
        self._samples += 1

    def _open(self) -> None:
        name = f"operator {self._op.index} {self._op.kind} of '{self._job.loaded.path}'"
        found = loop_parts(self._job.loaded.graph, self._op, name)
        if isinstance(found, str):
            self._reason = found
            return
        kernels = self._job.options.kernels
        self._parts = tuple(_Part(part, name, kernels, self._stack) for part in found)

    def _entry(self, batch: Batch, number: int) -> _Values | None:
        """Return the values that the loop began with; None, and the reason, if one is unknown."""
        graph, tensors = self._job.loaded.graph, self._job.subgraph.tensors
        values = []
        for index in self._op.inputs:
            known = batch.codes[index][number] if index in batch.codes else None
            if known is None and index >= 0:
                known = constant(graph, tensors[index])
            if known is None:
                self._reason = f"its input tensor {index} cannot be read"
                return None
            values.append(known)
        return tuple(values)

    def _ends_at(self, state: _Values, batch: Batch, number: int) -> bool:
        pairs = [
            (mine, batch.codes[index][number])
            for mine, index in zip(state, self._op.outputs, strict=True)
            if index in batch.codes
        ]
        return all(a.tobytes() == b.tobytes() for a, b in pairs)

    def _along_time(self, batch: Batch, computed: Computed) -> None:
        """Keep the accumulated error of what the loop collects step by step, first axis steps."""
        for sequence in self._collected(batch):
            free = computed.free.get(sequence.tensor)
            along(self._accumulated, sequence, free, batch.real[sequence.tensor])

    def _collected(self, batch: Batch) -> Iterator[SequenceOutput]:
        """Return the outputs that are as long as the loop runs and that its body changes."""
        if not self._parts or not self._samples:
            return
        body, count = self._parts[1], self._steps // self._samples
        for kept, index in zip(body.carried, self._op.outputs, strict=True):
            values = batch.real.get(index)
            if kept or values is None or values.ndim < 2 or count < FEWEST_STEPS:
                continue
            if values.shape[1] == count and count * self._samples == self._steps:
                yield SequenceOutput(self._op.index, index, 0)

    def measured(self) -> LoopMeasured:
        op, tensors = self._op, self._job.subgraph.tensors
        parts = tuple(p.measured() for p in self._parts) if self._reason is None else ()
        figures = list(self._parts[1].figures(op.index)) if parts else []
        for index, accumulated in self._accumulated.items():
            figures += figures_of(op.index, None, accumulated, tensors[index].lsb)
        reason = self._reason
        if reason is None and not self._steps:
            reason = "it never went round"
        return LoopMeasured(
            op, reason, parts, self._samples, self._steps, self._identical, tuple(figures)
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """What one step made."""

    step: int
    codes: Mapping[int, NDArray[Any]]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(a.shape for a in self.codes.values())


class _Part:
    """Condition or body, running, with the statistics of its operators."""

    def __init__(self, part: Part, name: str, kernels: Kernels, stack: ExitStack) -> None:
        subgraph, exposed = part.graph.main, part.exposed
        self._subgraph, self._number = subgraph, part.subgraph
        self._loaded = Loaded(f"subgraph {part.subgraph} of {name}", part.graph, subgraph, None, ())
        self._taps, self._skipped = exposed.taps, {s.tensor: s.reason for s in exposed.skipped}
        program = Program(self._loaded.path, exposed.content, kernels, subgraph, exposed.taps, None)
        self._runner = stack.enter_context(Runner(program))
        self._stack = stack
        self._statistics = Statistics(Plan(subgraph, exposed.taps, 0))
        self._reference: FileReference | None = None
        self._relation = Relation(match_itself(subgraph), self._skipped)
        self._frames: list[_Frame] = []
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._changing: set[int] = set()
        self._maxima: dict[int, Doubles] = {}

    @property
    def carried(self) -> tuple[bool, ...]:
        """For each value of the loop, whether the body hands it on as it is."""
        pairs = zip(self._subgraph.inputs, self._subgraph.outputs, strict=True)
        return tuple(given == made for given, made in pairs)

    def run(self, step: int, state: _Values) -> _Values:
        """Run one step; return the subgraph's outputs."""
        made = self._runner.run(state)
        codes = dict(zip(self._subgraph.inputs, state, strict=True))
        codes.update(zip(self._taps, made, strict=True))
        frame = _Frame(step, codes)
        if self._frames and frame.shapes != self._frames[0].shapes:
            self.compare()
        self._frames.append(frame)
        if len(self._frames) >= _TOGETHER:
            self.compare()
        return tuple(self._output(index, codes) for index in self._subgraph.outputs)

    def _output(self, index: int, codes: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
        value = codes.get(index)
        if value is None:
            value = constant(self._loaded.graph, self._subgraph.tensors[index])
        if value is None:
            reason = self._skipped.get(index, "it cannot be read")
            raise RunError(f"the value of tensor {index} does not leave the step: {reason}")
        return value

    def compare(self) -> None:
        """Compare the steps that wait with their float copies."""
        if not self._frames:
            return
        frames, self._frames = self._frames, []
        stacked = {i: np.stack([f.codes[i] for f in frames]) for i in frames[0].codes}
        tensors = self._subgraph.tensors
        first = frames[0].step
        batch = batch_of(tensors, range(first, first + len(frames)), stacked)
        self._note_shapes(stacked)
        if self._reference is None:
            self._reference = self._float_copies(batch)
        self._statistics.see(batch)
        computed = self._reference.compute(batch)
        local = {i: v for i, v in computed.local.items() if self._comparable(i, v)}
        computed = settled(tensors, batch, replace(computed, local=local))
        self._statistics.compare(batch, computed)
        for index, values in computed.local.items():
            largest = largest_by_step(values, batch.real[index])
            known = self._maxima.get(index, np.zeros(0))
            grown = np.pad(known, (0, max(0, batch.stop - len(known))))
            grown[batch.start : batch.stop] = np.maximum(grown[batch.start : batch.stop], largest)
            self._maxima[index] = grown

    def _comparable(self, index: int, values: NDArray[Any]) -> bool:
        """Whether a tensor has the channels that it had in the first step."""
        return bool(values.size) and values.shape[2:][-1:] == self._shapes[index][1:][-1:]

    def _note_shapes(self, stacked: Mapping[int, NDArray[Any]]) -> None:
        for index, values in stacked.items():
            if self._shapes.setdefault(index, values.shape[1:]) != values.shape[1:]:
                self._changing.add(index)

    def _float_copies(self, first: Batch) -> FileReference:
        graph, subgraph, name = self._loaded.graph, self._subgraph, self._loaded.path
        plan = own_steps(subgraph, frozenset((*self._taps, *subgraph.inputs)))
        built = shadow(name, graph, subgraph, plan.steps, first)
        reasons = {**self._skipped, **plan.reasons, **built.reasons(plan.steps)}
        self._relation = Relation(self._relation.matching, reasons)
        return FileReference(name, built.model, plan.aliases, nothing_free, self._stack)

    def measured(self) -> PartMeasured:
        return PartMeasured(
            self._number,
            self._loaded,
            self._relation,
            self._statistics.measured((), 0.0),
            frozenset(self._changing),
        )

    def figures(self, op: int) -> Iterator[Figure]:
        """Return the largest local error of each operator in each step."""
        for inner in self._subgraph.operators:
            for index in (i for i in inner.outputs if i in self._maxima):
                lsb = self._subgraph.tensors[index].lsb
                for step, value in enumerate(self._maxima[index]):
                    yield Figure(step, op, float(value), None, lsb, inner.index)
