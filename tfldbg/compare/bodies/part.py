"""Run a subgraph of an operator separately, with the statistics of its operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, batch_of, settled
from tfldbg.compare.copies import FileReference, shadow
from tfldbg.compare.relation import Relation
from tfldbg.compare.steps import Doubles, Figure, largest_by_step
from tfldbg.compare.tally import Measured, Plan, Statistics
from tfldbg.errors import RunError
from tfldbg.graph.query import constant
from tfldbg.match.itself import match_itself
from tfldbg.match.steps import own_steps
from tfldbg.run.job import Loaded
from tfldbg.run.litert import Program, Runner

if TYPE_CHECKING:
    from tfldbg.options.runtimes import Kernels
    from tfldbg.rewrite.body import Part

_TOGETHER = 32
"""The number of runs that are compared at a time."""

SubgraphValues = tuple[NDArray[Any], ...]
"""The inputs or outputs of a subgraph, one array per tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class PartMeasured:
    """The measurements inside one subgraph."""

    loaded: Loaded
    """The subgraph as a separate file."""
    relation: Relation
    measured: Measured
    """The statistics, in which ``worst_sample`` is a step of a loop."""
    changing: frozenset[int]
    """The tensors whose shape changes from run to run."""


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """The values of one run."""

    step: int
    codes: Mapping[int, NDArray[Any]]

    def follows(self, other: _Frame) -> bool:
        """Return whether it can be compared together with the previous run."""
        same = zip(self.codes.values(), other.codes.values(), strict=True)
        return self.step == other.step + 1 and all(a.shape == b.shape for a, b in same)


class RunningPart:
    """A subgraph that runs separately.

    Args:
        part: The subgraph.
        name: The name in messages of the operator that runs it.
        kernels: The kernels that compute it.
        stack: The stack to close at the end.

    Raises:
        RunError: The runtime refuses it.
    """

    def __init__(self, part: Part, name: str, kernels: Kernels, stack: ExitStack) -> None:
        subgraph, exposed = part.graph.main, part.exposed
        self._subgraph = subgraph
        self.runs = 0
        """The number of runs."""
        self.identical = True
        """True if it always computed the operator's own values."""
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
        """For each value of the loop, true if the body passes it on unchanged."""
        pairs = zip(self._subgraph.inputs, self._subgraph.outputs, strict=True)
        return tuple(given == made for given, made in pairs)

    def run(self, step: int, state: SubgraphValues) -> SubgraphValues:
        """Run it once.

        Args:
            step: The number of the run, for the statistics.
            state: The inputs of the subgraph.

        Returns:
            The subgraph's outputs.

        Raises:
            RunError: The runtime crashes, or an output cannot be read.
        """
        made = self._runner.run(state)
        self.runs += 1
        codes = dict(zip(self._subgraph.inputs, state, strict=True))
        codes.update(zip(self._taps, made, strict=True))
        frame = _Frame(step, codes)
        if self._frames and not frame.follows(self._frames[-1]):
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
            raise RunError(f"the value of tensor {index} cannot be read: {reason}")
        return value

    def compare(self) -> None:
        """Compare the collected runs with their float copies."""
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
        computed = self._reference.compute(batch)
        local = {i: v for i, v in computed.local.items() if self._comparable(i, v)}
        computed = settled(tensors, batch, replace(computed, local=local))
        self._statistics.count(batch, computed)
        for index, values in computed.local.items():
            largest = largest_by_step(values, batch.real[index])
            known = self._maxima.get(index, np.zeros(0))
            grown = np.pad(known, (0, max(0, batch.stop - len(known))))
            grown[batch.start : batch.stop] = np.maximum(grown[batch.start : batch.stop], largest)
            self._maxima[index] = grown

    def _comparable(self, index: int, values: NDArray[Any]) -> bool:
        """Return whether a tensor has as many channels as in the first run."""
        return bool(values.size) and values.shape[2:][-1:] == self._shapes[index][1:][-1:]

    def _note_shapes(self, stacked: Mapping[int, NDArray[Any]]) -> None:
        for index, values in stacked.items():
            if self._shapes.setdefault(index, values.shape[1:]) != values.shape[1:]:
                self._changing.add(index)

    def _float_copies(self, first: Batch) -> FileReference:
        plan = own_steps(self._subgraph, frozenset((*self._taps, *self._subgraph.inputs)))
        built = shadow(self._loaded, plan.steps, first)
        reasons = {**self._skipped, **plan.reasons, **built.reasons(plan.steps)}
        self._relation = Relation(self._relation.matching, reasons)
        reference = FileReference(built, plan.aliases)
        self._stack.callback(reference.close)
        return reference

    def found(self) -> PartMeasured:
        """Return the measurements."""
        return PartMeasured(
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
