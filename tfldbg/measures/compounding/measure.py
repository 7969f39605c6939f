"""Measure how each operator contributes to the error of the final outputs.

For an operator with the values ``x`` at its inputs, TFLite's output ``y`` and the reference's
operator ``R``; ``f`` and ``f_x`` are the values of the free-running reference there::

    accumulated  y - f
    inherited    R(x) - R(f_x)
    own          accumulated - inherited  =  (y - R(x)) - (f - R(f_x))

The second bracket is the rounding of the reference itself, if it has fake-quant nodes; otherwise it
is zero.  So an operator that rounds the same values as the reference does has no error of its own.

The share of an operator is measured: the file is replayed in float with the own errors of all
operators (`tfldbg.rewrite.replay`) except this one.  With ``e`` the error of the final outputs and
``e_i`` the error that remains, the share is ``1 - <e, e_i> / <e, e>``.  If the network is linear
between the actual and the reference's values, the shares add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.stream import batch_size, run_batch
from tfldbg.compare.tally import Plan
from tfldbg.errors import RunError
from tfldbg.graph.query import activation_inputs
from tfldbg.measures.compounding.misread import CorrectedConsumers
from tfldbg.measures.compounding.replaying import MOST_OPERATORS, ReplayedSample, Replaying
from tfldbg.measures.compounding.shares import Compounding, FinalError, Item, Ledger, OpShare, Size
from tfldbg.progress import Progress, Silent
from tfldbg.rewrite.emit import is_real
from tfldbg.rewrite.replay import Replayed, replay_model, upstream

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.counterparts import Counterpart, Sides, Values
    from tfldbg.graph.model import Operator, Subgraph, Tensor
    from tfldbg.reference.evaluate import Floats

MOST_SAMPLES = 16
"""The number of samples to measure shares on: each costs one replay for every operator."""
DUST = 1e-6
"""The relative difference that float32 sums in another order explain: a few times 2**-24."""
EXACT = 0.01
"""The replay error, relative to the final error, below which shares in whole percents are exact."""


def measure(
    sides: Sides, counterpart: Counterpart, stack: ExitStack, progress: Progress
) -> Compounding:
    """Measure the contribution of each operator to the error of the final outputs.

    Args:
        sides: Both sides.
        counterpart: The reference on given values.
        stack: Closes the runners at the end.
        progress: Receives every sample.

    Raises:
        RunError: The file cannot be replayed, or a runtime crashes.
        KerasError: The reference cannot compute the data.
    """
    job = sides.job
    plan = Plan(job.subgraph, job.exposed.taps, 0)
    count = min(job.samples.count, max(MOST_SAMPLES, sides.reference.batch or 0))
    size = batch_size(plan, count, sides.reference)
    measuring = _Measuring(sides, counterpart, stack)
    progress.stage("measuring shares", count)
    for start in range(0, count, size):
        numbers = range(start, min(start + size, count))
        batch = run_batch(plan, job.samples, sides.runner, numbers, Silent())
        measuring.add(batch, progress)
    return measuring.result(count)


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """The errors in one batch, by tensor (n, ...) in real units."""

    actual: Values
    """The values that TFLite computed."""
    own: Values
    clipped: Values
    """The part of ``own`` for which the reference's value lies beyond the tensor's range."""
    inherited: Values
    """The inherited errors of operator outputs; inputs of the model inherit nothing."""
    accumulated: Values
    free: Values
    corrections: Values
    """The actual values minus the float copies of the operators on their actual inputs."""


def errors_of(sides: Sides, counterpart: Counterpart, batch: Batch) -> Errors:
    """Return the own, inherited and accumulated errors of one batch."""
    tensors, inputs = sides.job.subgraph.tensors, sides.job.subgraph.inputs
    actual = {i: v for i, v in batch.real.items() if is_real(tensors[i])}

    def settle(values: Values) -> dict[int, Floats]:
        return _fitting(_clamped(values, counterpart.ranges), actual)

    computed = counterpart.run(batch)
    free, fixed = _fitting(computed.free, actual), settle(computed.local)
    settled = settle(counterpart.run_again(batch, {**batch.real, **computed.free}))
    copies = fixed if counterpart.own else settle(sides.copies.operators.compute(batch.real))
    accumulated = {i: actual[i] - values for i, values in free.items()}
    known = [i for i in accumulated if i in fixed and i in settled]
    inherited = {i: fixed[i] - settled[i] for i in known}
    own = {i: accumulated[i] - inherited[i] for i in known}
    own.update((i, accumulated[i]) for i in inputs if i in accumulated)
    return Errors(
        actual=actual,
        own=own,
        clipped={i: _beyond(tensors[i], fixed[i]) for i in known},
        inherited=inherited,
        accumulated=accumulated,
        free=free,
        corrections={i: actual[i] - values for i, values in copies.items()},
    )


def _fitting(values: Values, actual: Values) -> dict[int, Floats]:
    """Return values in the shapes of TFLite's, without those of another size."""
    return {
        i: v.reshape(actual[i].shape)
        for i, v in values.items()
        if i in actual and v.size == actual[i].size
    }


def _clamped(values: Values, ranges: Mapping[int, tuple[float, float]]) -> dict[int, Floats]:
    def clamped(index: int, array: Floats) -> Floats:
        if index not in ranges:
            return array
        low, high = ranges[index]
        return np.clip(array, np.float32(low), np.float32(high))

    return {i: clamped(i, array) for i, array in values.items()}


def _beyond(tensor: Tensor, values: Floats) -> Floats:
    """Return the change by clamping to the tensor's range."""
    affine = tensor.affine
    if affine is None:
        return np.zeros_like(values)
    low, high = affine.real_range(tensor.type)
    return np.clip(values, np.float32(low), np.float32(high)) - values


class _Measuring:
    """The sums over all batches."""

    def __init__(self, sides: Sides, counterpart: Counterpart, stack: ExitStack) -> None:
        self._sides, self._counterpart, self._stack = sides, counterpart, stack
        self._subgraph = sides.job.subgraph
        self._ledger = Ledger(self._subgraph)
        self._consumers = CorrectedConsumers(sides.job, sides.relation.matching, sides.first, stack)
        self._finals: tuple[int, ...] = ()
        self._cut_off: frozenset[int] = frozenset()
        self._replaying: Replaying | None = None

    def add(self, batch: Batch, progress: Progress) -> None:
        """Measure one batch."""
        errors = errors_of(self._sides, self._counterpart, batch)
        misread = self._consumers.misread(batch)
        if self._replaying is None:
            self._consumers.keep_what_explains(errors.own, misread)
            self._replaying = self._begin(errors)
        errors, charges = self._charged(errors, misread)
        for kind in ("own", "clipped", "inherited", "accumulated", "free"):
            self._ledger.add(kind, getattr(errors, kind))
        values: dict[int, NDArray[Any]] = {**batch.codes, **errors.actual}
        feeds = {**values, **{i: errors.corrections[i] for i in self._replaying.replay.corrected}}
        for number in range(batch.stop - batch.start):
            self._replaying.measure(
                ReplayedSample(
                    feeds={i: feeds[i][number] for i in self._replaying.replay.feeds},
                    actual=tuple(values[i][number] for i in self._finals),
                    free=tuple(errors.free[i][number] for i in self._finals),
                    charges={
                        item: {i: a[number] for i, a in charged.items()}
                        for item, charged in charges.items()
                    },
                )
            )
            progress.advance()

    def _begin(self, errors: Errors) -> Replaying:
        """Build the replay of all operators upstream of the final tensors.

        Raises:
            RunError: No output of the model can be compared, or the replay cannot be run.
        """
        job, given = self._sides.job, frozenset(self._sides.copies.refused)
        known = errors.free.keys() & errors.corrections.keys()
        self._finals = _finals(self._subgraph, frozenset(known))
        if not self._finals:
            raise RunError("no real output of the model is known on both sides")
        corrected = frozenset(errors.corrections)
        plan = Replayed(self._finals, given, corrected, self._counterpart.ranges)
        ran = {i: codes.shape[1:] for i, codes in self._sides.first.codes.items()}
        replay = replay_model(job.loaded.graph, self._subgraph, plan, ran)
        missing = [i for i in replay.feeds if i not in self._sides.first.codes]
        if missing:
            raise RunError(f"tensor {missing[0]}, which an operator reads, cannot be read itself")
        self._cut_off = upstream(self._subgraph, self._finals, frozenset()) - replay.operators
        return Replaying(job.loaded.path, replay, self._stack)

    def _charged(
        self, errors: Errors, misread: Values
    ) -> tuple[Errors, dict[Item, dict[int, Floats]]]:
        """Assign errors to operators: an error from reading wrong parameters is the producer's."""
        own, inherited = dict(errors.own), dict(errors.inherited)
        charges: dict[Item, dict[int, Floats]] = {}
        for index, blamed in self._consumers.blamed.items():
            if index in own and index in misread:
                own[index] = own[index] - misread[index]
                inherited[index] = inherited[index] + misread[index]
                charges.setdefault(self._item(blamed), {})[index] = misread[index]
        for index, error in own.items():
            item = self._item(index)
            if item[0] == "input" or item[1] not in self._cut_off:
                charges.setdefault(item, {})[index] = error
        return replace(errors, own=own, inherited=inherited), charges

    def _item(self, tensor: int) -> Item:
        producer = self._subgraph.producers.get(tensor)
        return ("input", tensor) if producer is None else ("op", producer.index)

    def result(self, samples: int) -> Compounding:
        """Return the result of the measurement."""
        run, tensors = self._replaying, self._subgraph.tensors
        if run is None:
            raise RunError("there is no sample to measure shares on")
        shares = tuple(self._share(run, op, tensor) for op, tensor in self._rows())
        measured = [s.share for s in shares if s.share is not None]
        finals = tuple(
            FinalError(i, tensors[i].name, run.shares.final(n, tensors[i].lsb))
            for n, i in enumerate(self._finals)
        )
        return Compounding(
            samples=samples,
            finals=finals,
            shares=shares,
            interaction=1 - math.fsum(measured) if run.shares.total > 0 else None,
            replay_error=run.shares.replay_error,
            notes=self._notes(run, finals, shares),
        )

    def _rows(self) -> Iterator[tuple[Operator | None, int]]:
        """Yield the inputs that have an error, then every operator with its first activation."""
        for index in self._subgraph.inputs:
            size = self._ledger.size("own", index)
            erring = size is not None and size.relative is not None and size.relative > DUST
            if erring or index in self._consumers.blamed.values():
                yield None, index
        others = self._subgraph.non_activations
        for op in self._subgraph.operators:
            written = (i for i in op.outputs if i >= 0 and i not in others)
            first = next((i for i in written if is_real(self._subgraph.tensors[i])), None)
            if first is not None:
                yield op, first

    def _share(self, run: Replaying, op: Operator | None, tensor: int) -> OpShare:
        item = self._item(tensor)
        found = run.shares.of(item)
        blamed = [i for i, by in self._consumers.blamed.items() if self._item(by) == item]
        return OpShare(
            op=None if op is None else op.index,
            kind="INPUT" if op is None else op.kind,
            tensor=tensor,
            name=self._subgraph.tensors[tensor].name,
            own=self._ledger.size("own", tensor),
            clipped=self._ledger.size("clipped", tensor),
            inherited=self._ledger.size("inherited", tensor),
            accumulated=self._ledger.size("accumulated", tensor),
            amplification=None if op is None else self._amplification(op, tensor),
            share=found[0] if found else None,
            left=found[1] if found else None,
            reason=None if found else self._reason(run, item, tensor),
            joint=self._sides.relation.joint.get(tensor, ()),
            misread_by=tuple(self._item(i)[1] for i in blamed),
        )

    def _amplification(self, op: Operator, tensor: int) -> float | None:
        """Return the relative inherited error divided by that of all inputs together."""
        given = [t.index for t in activation_inputs(self._subgraph, op) if is_real(t)]
        after = self._ledger.energy("inherited", (tensor,))
        before = self._ledger.energy("accumulated", given)
        signal = self._ledger.energy("free", (tensor,)), self._ledger.energy("free", given)
        if after is None or before is None or not signal[0] or not signal[1]:
            return None
        relative = math.sqrt(before / signal[1])
        return math.sqrt(after / signal[0]) / relative if relative > DUST else None

    def _reason(self, run: Replaying, item: Item, tensor: int) -> str:
        if item in run.dropped:
            return (
                f"it is not among the {MOST_OPERATORS} operators with the largest shares on the "
                "first sample"
            )
        if item[0] == "op" and item[1] in self._cut_off:
            return "it reaches the outputs only through operators without a float copy"
        if not run.shares.total > 0:
            return "there is no final error"
        relation = self._sides.relation
        if tensor in relation.reasons:
            return relation.reasons[tensor]
        unmatched = relation.matching.unmatched.get(tensor)
        return unmatched.reason if unmatched else "the reference's value is not known here"

    def _notes(
        self, run: Replaying, finals: Sequence[FinalError], shares: Sequence[OpShare]
    ) -> tuple[str, ...]:
        notes = []
        if run.shares.replay_error > EXACT:
            notes.append(
                f"the float replay is off by {100 * run.shares.replay_error:.2g} % of the final "
                "error: the shares have at least this error"
            )
        given = sorted(run.replay.operators & self._sides.copies.refused.keys())
        if given:
            some = "operator {} has" if len(given) == 1 else "operators {} have"
            notes.append(
                f"{some.format(', '.join(map(str, given)))} no float copy: in the replay, errors "
                "upstream do not pass through"
            )
        dropped = sum(self._item(s.tensor) in run.dropped for s in shares)
        if dropped:
            notes.append(
                f"{dropped} operators were measured on the first sample only, to choose the "
                f"{MOST_OPERATORS} with the largest shares; they have no share"
            )
        if run.shares.total > 0 and all(_is_dust(f.error) for f in finals):
            notes.append("the final error is no more than float32 rounding")
        if run.infinite:
            notes.append("final values that are not finite were left out")
        if tuple(self._subgraph.outputs) != self._finals:
            names = ", ".join(f"'{self._subgraph.tensors[i].name}'" for i in self._finals)
            notes.append(f"used instead of outputs without a reference or real values: {names}")
        return tuple(notes)


def _is_dust(error: Size) -> bool:
    return error.relative is not None and error.relative < DUST


def _finals(subgraph: Subgraph, known: frozenset[int]) -> tuple[int, ...]:
    """Return the model's outputs, or the tensors that they are computed from if unknown."""
    producers = subgraph.producers
    found: dict[int, None] = {}
    seen: set[int] = set()
    stack = list(reversed(subgraph.outputs))
    while stack:
        index = stack.pop()
        if index in known:
            found[index] = None
        elif index in producers and index not in seen:
            seen.add(index)
            given = activation_inputs(subgraph, producers[index])
            stack += [t.index for t in reversed(given)]
    return tuple(found)
