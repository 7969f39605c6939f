"""Two recordings as the two sides of a stream.

An operator's own error shows in the samples in which everything it reads is equal in both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.batch import Batch, Computed
from tfldbg.compare.relation import Relation
from tfldbg.compare.stream import stream_part
from tfldbg.compare.tally import Measured, Plan, Tally
from tfldbg.errors import DataError
from tfldbg.reference.capture import Capture, in_real_units

if TYPE_CHECKING:
    from tfldbg.match.two_captures import Node, SideBySide
    from tfldbg.progress import Progress
    from tfldbg.reference.evaluate import Floats
    from tfldbg.reference.recorded import Recorded

_SAME_FLOAT = 1e-6
"""Difference of floats that count as equal: several roundings to float32.

For what an operator reads it is a share of the largest value, a hundredth of what its own output
may be off by (`tfldbg.diagnose.model.Thresholds.float_relative`): two implementations never yield
the same floats, and without it only the first operator of a float model could be judged.
"""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TestedCapture:
    """The second recording, in place of a model that runs."""

    capture: Capture
    nodes: tuple[Node, ...]
    """What is read of it."""
    count: int
    """The number of samples."""
    progress: Progress
    """Is told of every batch."""
    samples: None = None

    def batch(self, numbers: range) -> Batch:
        """Read some samples.

        Raises:
            CaptureError: The file is damaged.
        """
        start, stop = numbers.start, numbers.stop
        stored = {n.tensor.index: self.capture.stored(n.tested, start, stop) for n in self.nodes}
        real = {n.tensor.index: in_real_units(n.tested, stored[n.tensor.index]) for n in self.nodes}
        self.progress.advance(len(numbers))
        return Batch(start, stop, stored, real)

    def close(self) -> None:
        """Leave the file to whoever opened it."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceCapture:
    """The first recording.

    An operator's own result is compared in the samples in which both recordings fed it alike.
    """

    capture: Capture
    tested: Capture
    beside: SideBySide
    fed_alike: frozenset[int]
    """Outputs of operators that can be judged by themselves."""
    batch: None = None

    def compute(self, batch: Batch) -> Computed:
        """Read one batch.

        Raises:
            DataError: The inputs differ: the runs are not of the same data.
            CaptureError: The file is damaged.
        """
        everywhere = np.ones(batch.stop - batch.start, np.bool_)
        equal = {n.tensor.index: everywhere for n in self.beside.inputs}
        for node in self.beside.inputs:
            if node.reference is not None:
                self._check_input(node, node.reference, batch)
        free: dict[int, Floats] = {}
        for node in self.beside.written:
            index = node.tensor.index
            if node.reference is not None:
                free[index] = self._values(index, node.reference, batch)
                rounded = node.tensor.lsb is None
                equal[index] = _equal(free[index], batch.real[index], rounded=rounded)
        fed_alike = {
            n.tensor.index: np.logical_and.reduce([everywhere, *(equal[i] for i in n.reads)])
            for n in self.beside.written
            if n.tensor.index in self.fed_alike
        }
        return Computed(free, {i: free[i] for i in fed_alike}, fed_alike=fed_alike)

    def _values(self, index: int, recorded: Recorded, batch: Batch) -> Floats:
        """Return recorded values in real units, in the shape of the tested tensor."""
        values = in_real_units(recorded, self.capture.stored(recorded, batch.start, batch.stop))
        return values.reshape(batch.real[index].shape)

    def _check_input(self, node: Node, recorded: Recorded, batch: Batch) -> None:
        """Refuse recordings whose inputs differ.

        Raises:
            DataError: They do.
        """
        index = node.tensor.index
        one, other = self._values(index, recorded, batch), batch.real[index]
        step = node.tensor.lsb if recorded.scale != node.tested.scale and node.tensor.lsb else 0.0
        near = np.isclose(one, other, rtol=_SAME_FLOAT, atol=0.5 * step, equal_nan=True)
        wrong = np.flatnonzero(~near.reshape(len(near), -1).all(1))
        if wrong.size:
            number = batch.start + int(wrong[0])
            raise DataError(
                f"the recordings are not of the same data: sample {number} of input "
                f"'{node.tensor.name}' differs by up to {np.abs(one - other)[wrong[0]].max():.4g}",
                hint=f"record '{self.tested.path}' again with the data of "
                f"'{self.capture.path}', in the same order",
            )

    def close(self) -> None:
        """Leave the file to whoever opened it."""


def compare_captures(
    reference: Capture,
    tested: Capture,
    beside: SideBySide,
    relation: Relation,
    samples: int,
    progress: Progress,
) -> Measured:
    """Compare every tensor, as a trace does.

    Args:
        reference: The first recording.
        tested: The second.
        beside: How they belong together.
        relation: What `relate` returned.
        samples: How many samples to compare.
        progress: Is told of every batch.

    Raises:
        DataError: The inputs differ: the runs are not of the same data.
        CaptureError: A file is damaged.
    """
    nodes = tuple(n for n in (*beside.inputs, *beside.written) if n.reference is not None)
    read = tuple(n.tensor.index for n in nodes)
    tally = Tally(Plan(beside.subgraph, read, observed=0, usage=False))
    progress.stage("comparing", samples)
    stream_part(
        tally,
        TestedCapture(tested, nodes, samples, progress),
        ReferenceCapture(reference, tested, beside, relation.fed_alike),
        None,
        range(samples),
    )
    return tally.measured()


def relate(beside: SideBySide) -> Relation:
    """Tell which operators can be judged by themselves, where both recordings feed them alike."""
    names = {n.tensor.index: n.tensor.name for n in (*beside.inputs, *beside.written)}
    incomparable = {n.tensor.index for n in beside.written if n.reference is None}
    blind = {n.tensor.index: why for n in beside.written if (why := _blind(n, names, incomparable))}
    differing = {
        n.tensor.index: f"its input '{names[n.reads[0]]}' differs in every sample"
        if len(n.reads) == 1
        else "what it reads differs in every sample"
        for n in beside.written
    }
    fed_alike = frozenset(differing) - blind.keys()
    return Relation(beside.matching, {**differing, **blind}, fed_alike=fed_alike)


def _blind(node: Node, names: Mapping[int, str], incomparable: Collection[int]) -> str | None:
    """Say why an operator cannot be judged in any sample, None where it can."""
    if node.reference is None:
        return node.reason
    if node.unrecorded:
        return f"its input tensor {node.unrecorded[0]} is not in both recordings"
    unknown = next((i for i in node.reads if i in incomparable), None)
    return None if unknown is None else f"its input '{names[unknown]}' cannot be compared"


def _equal(one: Floats, other: Floats, *, rounded: bool) -> Mask:
    """Return for each sample whether all is equal; NaN equals NaN.

    Args:
        one: (n, ...) real units.
        other: The same of the other side.
        rounded: Whether the values are floats, whose last bits say nothing.
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
