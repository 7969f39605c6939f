"""Compare two recordings: one instead of a running model, the other as its reference.

An operator's local error shows in the samples in which all its inputs are equal in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, Computed
from tfldbg.compare.relation import Relation
from tfldbg.compare.stream import Tested, measure
from tfldbg.compare.tally import Measured, Plan
from tfldbg.errors import DataError

if TYPE_CHECKING:
    from tfldbg.match.two_captures import Node, SideBySide
    from tfldbg.progress import Progress
    from tfldbg.reference.capture import Capture
    from tfldbg.reference.evaluate import Floats

_SAME_FLOAT = 1e-6
"""The difference of floats that count as equal: several roundings to float32.

For the inputs of an operator it is relative to the largest value, a hundredth of the threshold for
its output (`tfldbg.options.judge.Thresholds.float_relative`): two implementations never compute the
same floats, and without it only the first operator of a float model could be judged.
"""
Mask = NDArray[np.bool_]


def relate(beside: SideBySide) -> Relation:
    """Return the relation of two recordings."""
    judged = [n for n in beside.written if n.unjudged is None]
    reasons = {n.tensor.index: n.unjudged or _never_equal(n, beside) for n in beside.written}
    return Relation(beside.matching, reasons, fed_alike=frozenset(n.tensor.index for n in judged))


def _never_equal(node: Node, beside: SideBySide) -> str:
    reads = node.operator.inputs
    many = len(reads) != 1
    read = "one of its inputs" if many else f"its input '{beside.subgraph.tensors[reads[0]].name}'"
    return f"{read} differs in every sample"


@dataclass(frozen=True, slots=True, eq=False)
class TwoCaptures:
    """Two recordings of the same data."""

    reference: Capture
    tested: Capture
    beside: SideBySide
    """The nodes of both, side by side."""
    batch: None = None
    in_batches: bool = True

    def measure(self, samples: int, progress: Progress) -> Measured:
        """Compare all tensors, as a trace does.

        Args:
            samples: The number of samples to compare.
            progress: Receives the progress, batch by batch.

        Raises:
            DataError: The inputs differ: the runs are not of the same data.
            CaptureError: A file is damaged.
        """

        def read(numbers: range) -> Batch:
            progress.advance(len(numbers))
            return self.read(numbers)

        indices = tuple(n.tensor.index for n in self.beside.nodes if n.reference is not None)
        plan = Plan(self.beside.subgraph, indices, observed=0, usage=False)
        progress.stage("comparing", samples)
        tested = Tested(samples, read)
        return measure(plan, tested, self, (), range(samples)).measured()

    def read(self, numbers: range) -> Batch:
        """Return samples of the second recording."""
        start, stop = numbers.start, numbers.stop
        codes, real = {}, {}
        for node in self.beside.nodes:
            if node.reference is not None:
                codes[node.tensor.index] = self.tested.stored(node.tested, start, stop)
                real[node.tensor.index] = self.tested.real(node.tested, start, stop)
        return Batch(start, stop, codes, real)

    def compute(self, batch: Batch) -> Computed:
        """Return the same samples of the first recording."""
        everywhere = np.ones(batch.stop - batch.start, np.bool_)
        equal = {n.tensor.index: everywhere for n in self.beside.nodes}
        free: dict[int, Floats] = {}
        for node in self.beside.nodes:
            if node.reference is None:
                continue
            index = node.tensor.index
            values = self.reference.real(node.reference, batch.start, batch.stop)
            values = values.reshape(batch.real[index].shape)
            if index in self.beside.subgraph.inputs:
                self._check_input(node, values, batch)
            else:
                free[index] = values
                equal[index] = _equal(values, batch.real[index], rounded=node.tensor.lsb is None)
        fed_alike = {
            n.tensor.index: np.all([everywhere, *(equal[i] for i in n.operator.inputs)], axis=0)
            for n in self.beside.written
            if n.unjudged is None
        }
        return Computed(free, {i: free[i] for i in fed_alike}, fed_alike=fed_alike)

    def _check_input(self, node: Node, values: Floats, batch: Batch) -> None:
        """Refuse recordings whose inputs differ.

        Raises:
            DataError: The inputs differ.
        """
        tested, step = batch.real[node.tensor.index], 0.0
        if node.reference is not None and node.reference.scale != node.tested.scale:
            step = node.tensor.lsb or 0.0
        near = np.isclose(values, tested, rtol=_SAME_FLOAT, atol=0.5 * step, equal_nan=True)
        wrong = np.flatnonzero(~near.reshape(len(near), -1).all(1))
        if wrong.size:
            off = np.abs(values - tested)[wrong[0]].max()
            raise DataError(
                f"the recordings are not of the same data: sample {batch.start + int(wrong[0])} of "
                f"input '{node.tensor.name}' differs by up to {off:.4g}",
                hint=f"record '{self.tested.path}' again with the data of "
                f"'{self.reference.path}', in the same order",
            )

    def close(self) -> None:
        """Do nothing: the caller closes the files."""


def _equal(one: Floats, other: Floats, *, rounded: bool) -> Mask:
    """Return for each sample whether all values are equal; NaN equals NaN.

    Args:
        one: The values (n, ...) of one side, real units.
        other: The values of the other side.
        rounded: True if the values are floats, whose last bits do not count.
    """
    first, second = one.reshape(len(one), -1), other.reshape(len(one), -1)
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    if rounded:
        sizes = np.where(np.isfinite(first), np.abs(first), 0.0)
        slack = _SAME_FLOAT * sizes.max(1, initial=0.0, keepdims=True)
        with np.errstate(invalid="ignore"):  # infinity minus infinity; they are equal above
            equal |= np.abs(first - second) <= slack
    alike: Mask = equal.all(1)
    return alike
