"""The file's own float arithmetic for operators that a reference computes only together.

Each of several quantized operators rounds its output, and a function such as RSQRT may enlarge
earlier rounding: no bound of the last output distinguishes a fault from that.  So operators that
are checked together are checked in two steps.  Each operator is compared with its own float
arithmetic, on the inputs that it had; and the float arithmetic of all of them together, with the
rounding of the last, is compared with the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tfldbg.compare.batch import Batch, Computed, as_floats, clamped
from tfldbg.errors import RunError
from tfldbg.graph.query import SAME_SCALE_KINDS
from tfldbg.match.steps import given
from tfldbg.rewrite.twin import ALIASES, Computation, chain_model, untwinned
from tfldbg.run.derived import DerivedRunner, derived_program

if TYPE_CHECKING:
    from tfldbg.compare.stream import Reference
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.reference.evaluate import Floats
    from tfldbg.run.job import Job

Joint = Mapping[int, tuple[int, ...]]
"""The operators that are checked together by output tensor, with its writer last."""


def steps_of(
    subgraph: Subgraph, operators: Sequence[Operator], batch: Batch
) -> list[Computation] | None:
    """Return how float copies compute operators from what the first of them read.

    Args:
        subgraph: The file's subgraph.
        operators: The operators in execution order.
        batch: Some samples.

    Returns:
        One step per operator; None if one has no float copy, or an unknown input.
    """
    written = {i for op in operators for i in op.outputs}
    steps = []
    for op in operators:
        feeds = {t.index: t for t in given(subgraph, op) if t.index not in written}
        keeps = any(i >= 0 and subgraph.tensors[i].is_variable for i in op.inputs)
        if keeps or untwinned(subgraph, op) is not None or not feeds.keys() <= batch.codes.keys():
            return None
        steps.append(Computation(op, {i: as_it_ran(t, batch) for i, t in feeds.items()}, {}))
    return steps


def as_it_ran(tensor: Tensor, batch: Batch) -> Tensor:
    """Return a tensor with its run-time shape, since a file may have dynamic dimensions."""
    values = batch.codes.get(tensor.index)
    return tensor if values is None else replace(tensor, shape=values.shape[1:])


class OwnRuns:
    """Float copies of operators that are checked together, in a separate child process.

    Args:
        job: The TFLite side.
        joint: The operators that are checked together.
        first: Some samples.
        members: True to also compute the operators before the last separately.
    """

    def __init__(self, job: Job, joint: Joint, first: Batch, *, members: bool) -> None:
        self._tensors = job.subgraph.tensors
        self._runner: DerivedRunner | None = None
        chains = {i: c for i, run in joint.items() if (c := _chain(job.subgraph, i, run, first))}
        alone = {i: chain.alone[-1] for i, chain in chains.items()}
        if members:
            between = (step for chain in chains.values() for step in chain.alone[:-1])
            alone |= {i: step for step in between for i in step.op.outputs if i in first.real}
        others = job.subgraph.non_activations
        sources = {i: s.op.inputs[0] for i, s in alone.items() if s.op.kind in ALIASES}
        others |= {i for i, source in sources.items() if source not in first.real}  # constants
        alone = {i: step for i, step in alone.items() if i in chains or i not in others}
        self._aliases = {i: source for i, source in sources.items() if i in alone}
        self.joint = frozenset(chains)
        """The tensors for which it computes all operators together."""
        self.members = frozenset(alone.keys() - chains.keys())
        """The tensors before them that it computes with their own operator."""
        if chains:
            self._start(job, chains, alone)

    def _start(
        self, job: Job, chains: Mapping[int, _Chain], alone: Mapping[int, Computation]
    ) -> None:
        found = [chain.together for chain in chains.values()]
        for index, step in alone.items():
            if index not in self._aliases:
                found.append([replace(step, results={index: _alone(index)})])
        model = chain_model(job.loaded.graph, job.subgraph, found)
        self._results = model.results
        program = derived_program("operators that are checked together", model.content, model.taps)
        try:
            self._runner = DerivedRunner(program, model.feeds)
        except RunError:
            self.joint = self.members = frozenset()  # they are checked together only

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Returns:
            For the tensors of ``members`` the results of their operators on their own inputs, and
            for the tensors of ``joint`` the values to compare with the reference.

        Raises:
                RunError: The runtime crashes.
        """
        if self._runner is None:
            return Computed({}, {})
        values = self._runner.run(*batch.given, batch.stop - batch.start)
        made = dict(zip(self._results, map(as_floats, values), strict=True))
        made |= {_alone(out): batch.real[source] for out, source in self._aliases.items()}
        fitting = [i for i in self.joint if made[i].size == batch.real[i].size]
        return Computed(
            free={},
            local={i: made[_alone(i)] for i in self.members},
            tested={i: self._settled(batch, i, made[i], made[_alone(i)]) for i in fitting},
        )

    def _settled(self, batch: Batch, index: int, together: Floats, alone: Floats) -> Floats:
        """Return the result of all operators, plus the error of the last operator alone."""
        real, tensor = batch.real[index], self._tensors[index]
        both = [clamped(tensor, v.reshape(real.shape))[0] for v in (together, alone)]
        with np.errstate(invalid="ignore"):
            found = both[0] + (real - both[1])
        return np.where(np.isfinite(found), found, real)

    def close(self) -> None:
        """End the child process."""
        if self._runner is not None:
            self._runner.close()


def _alone(index: int) -> int:
    """Return the key of a tensor as computed by its operator alone."""
    return -1 - index


@dataclass(frozen=True, slots=True, eq=False)
class _Chain:
    """Operators that are checked together."""

    together: list[Computation]
    """The steps that compute all of them, of which the last writes the result."""
    alone: list[Computation]
    """The separate steps, each on the inputs that it had."""


def _chain(subgraph: Subgraph, index: int, numbers: Sequence[int], first: Batch) -> _Chain | None:
    """Return operators that are checked together, if one before the last rounds to codes."""
    operators = [subgraph.operators[i] for i in numbers]
    rounding = (op for op in operators[:-1] if op.kind not in SAME_SCALE_KINDS)
    rounds = any(subgraph.tensors[op.outputs[0]].lsb is not None for op in rounding)
    if index not in first.real or subgraph.tensors[index].lsb is None or not rounds:
        return None
    together = steps_of(subgraph, operators, first)
    alone = [step for op in operators for step in steps_of(subgraph, [op], first) or ()]
    if together is None or len(alone) < len(operators):
        return None
    return _Chain([*together[:-1], replace(together[-1], results={index: index})], alone)


class BesideOwnRuns:
    """A reference with the file's own arithmetic for operators that it cannot divide.

    Args:
        inner: The reference.
        runs: The file's own arithmetic.
    """

    def __init__(self, inner: Reference, runs: OwnRuns) -> None:
        self._inner, self._runs = inner, runs
        self.batch, self.in_batches = inner.batch, inner.in_batches

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            KerasError: TensorFlow cannot compute the data.
            RunError: The runtime crashes.
        """
        computed, own = self._inner.compute(batch), self._runs.compute(batch)
        tested = {i: v for i, v in own.tested.items() if i in computed.local}
        return replace(computed, local={**own.local, **computed.local}, tested=tested)

    def close(self) -> None:
        """Close both."""
        self._runs.close()
        self._inner.close()
