"""The final outputs of every side, compared while streaming; the samples they differ most in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.accuracy import Accuracy, AccuracyCounter
from tfldbg.compare.merging import merge_all
from tfldbg.compare.metrics import Finite
from tfldbg.compare.sides import PAIRS, REFERENCE, TFLITE

if TYPE_CHECKING:
    from tfldbg.graph.model import Subgraph
    from tfldbg.run.labels import Labels

TOLERANCE = 0.01
"""Real units: the ``atol=1e-2, rtol=0`` of the experiment that tfldbg grew out of."""
_FLOAT_FLOOR = 1e-6
"""Of the denominator of a relative error of a float output: float32's own resolution at 8."""

Values = Mapping[int, NDArray[Any]]
"""By tensor (n, ...) real units."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What to find out about the final outputs."""

    tolerance: float = TOLERANCE
    """Real units."""
    labels: Labels | None = None
    k: int = 5
    """For top-k accuracy."""
    worst: int = 0
    """How many of the samples with the largest error to name."""


@dataclass(frozen=True, slots=True)
class PairStats:
    """How far one side's output is from another's, over all samples."""

    test: str
    """tflite, reference or emulation (the file's own arithmetic in float, rounded to codes)."""
    against: str
    """The side that relative errors are relative to."""
    elements: int
    """All elements."""
    max_abs: float
    """Largest absolute difference, real units, over elements finite on both sides."""
    mean_abs: float
    """Mean absolute difference, real units."""
    max_relative: float
    """Largest ``|test - against| / max(|against|, floor)``.  The floor is one step of the output,
    within which a quantized file cannot tell a value from 0; 1e-6 for float outputs."""
    mismatching: int
    """Elements off by more than the tolerance, or not finite on one side alone, or NaN:
    ``~numpy.isclose(test, against, rtol=0, atol=tolerance)``."""
    mismatching_share: Finite
    """mismatching over elements."""
    passed: bool
    """Whether nothing mismatches."""
    worst_sample: int | None
    """The sample with the largest difference."""


@dataclass(frozen=True, slots=True)
class OutputStats:
    """One output of the file."""

    tensor: int
    """The tensor's index."""
    name: str
    """The tensor's name."""
    step: float | None
    """Real units of one code, None for outputs that were never quantized."""
    tolerance: Finite
    """Of --tolerance, real units."""
    pairs: tuple[PairStats, ...]
    """The sides that were compared."""


@dataclass(frozen=True, slots=True)
class Finals:
    """What is known of the final outputs after a run."""

    outputs: tuple[OutputStats, ...] = ()
    accuracy: Accuracy | None = None
    worst_samples: tuple[int, ...] = ()
    """Numbers of the samples with the largest `sample_errors`, the largest first; none without."""


def output_step(subgraph: Subgraph, index: int) -> float | None:
    """Return what one code of an output means, also where the file dequantizes it at the end."""
    producer = subgraph.producers.get(index)
    if producer is not None and producer.kind == "DEQUANTIZE":
        index = producer.inputs[0]
    return subgraph.tensors[index].lsb


def sample_errors(
    subgraph: Subgraph, tflite: Values, reference: Values
) -> tuple[NDArray[np.float64], bool] | None:
    """Return each sample's error: the largest of any element of any final output.

    Args:
        subgraph: Whose outputs.
        tflite: The file's values.
        reference: The free-running reference's.

    Returns:
        (n,) errors and whether they count LSB of each output.  Where no output has codes, they
        count real units; where some have, the others are left out.  An output that is not finite
        where the reference is counts as infinitely far.  None if no output has a reference.
    """
    known = [i for i in dict.fromkeys(subgraph.outputs) if i in tflite and i in reference]
    steps = {i: step for i in known if (step := output_step(subgraph, i))}
    worst = [_largest(tflite[i], reference[i]) / steps.get(i, 1.0) for i in (steps or known)]
    return (np.max(worst, axis=0), bool(steps)) if worst else None


def _largest(test: NDArray[Any], against: NDArray[Any]) -> NDArray[np.float64]:
    """Return each sample's largest difference; (n,)."""
    wanted = against.reshape(len(against), -1).astype(np.float64)
    found = test.reshape(len(test), -1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(found - wanted)
    off = np.where(np.isfinite(wanted), np.where(np.isfinite(found), off, np.inf), 0.0)
    largest: NDArray[np.float64] = off.max(1, initial=0.0)
    return largest


class OutputStatistics:
    """Collects the statistics of the final outputs.

    Args:
        subgraph: The traced subgraph.
        wanted: What to find out.
    """

    def __init__(self, subgraph: Subgraph, wanted: Wanted) -> None:
        self._subgraph, self._wanted = subgraph, wanted
        self._indices = tuple(dict.fromkeys(subgraph.outputs))
        self._pairs: dict[tuple[int, str, str], _PairTotals] = {}
        labels = wanted.labels
        self._labelled = labels.output if labels is not None else None
        self._accuracy = AccuracyCounter(labels, wanted.k) if labels is not None else None
        self._worst: list[tuple[float, int]] = []

    def update(self, start: int, sides: Mapping[str, Values]) -> None:
        """Add a batch.

        Args:
            start: Number of its first sample.
            sides: By side the tensors that are known of it.
        """
        for index in self._indices:
            known = {side: values[index] for side, values in sides.items() if index in values}
            for test, against in PAIRS:
                if test in known and against in known:
                    pair = self._pair(index, test, against)
                    pair.update(known[test], known[against], start)
            if self._accuracy is not None and index == self._labelled:
                self._accuracy.update(start, known)
        if self._wanted.worst:
            self._rank(start, sides)

    def _pair(self, index: int, test: str, against: str) -> _PairTotals:
        key = (index, test, against)
        if key not in self._pairs:
            floor = output_step(self._subgraph, index) or _FLOAT_FLOOR
            self._pairs[key] = _PairTotals(floor, self._wanted.tolerance)
        return self._pairs[key]

    def _rank(self, start: int, sides: Mapping[str, Values]) -> None:
        """Keep the samples with the largest errors, the earliest of equals."""
        found = sample_errors(self._subgraph, sides[TFLITE], sides.get(REFERENCE, {}))
        if found is not None:
            self._worst += [(-float(e), start + i) for i, e in enumerate(found[0]) if e > 0]
            self._worst = sorted(self._worst)[: self._wanted.worst]

    def merge(self, other: OutputStatistics) -> None:
        """Add what another has seen of the samples that follow."""
        merge_all(self._pairs, other._pairs)
        if self._accuracy is not None and other._accuracy is not None:
            self._accuracy.merge(other._accuracy)
        self._worst = sorted([*self._worst, *other._worst])[: self._wanted.worst]

    def result(self) -> Finals:
        """Return the statistics of everything seen so far."""
        tensors = self._subgraph.tensors
        return Finals(
            outputs=tuple(
                OutputStats(
                    tensor=index,
                    name=tensors[index].name,
                    step=output_step(self._subgraph, index),
                    tolerance=self._wanted.tolerance,
                    pairs=tuple(
                        pair.result(test, against)
                        for test, against in PAIRS
                        if (pair := self._pairs.get((index, test, against))) is not None
                    ),
                )
                for index in self._indices
            ),
            accuracy=self._accuracy.result() if self._accuracy is not None else None,
            worst_samples=tuple(number for _, number in self._worst),
        )


class _PairTotals:
    """The figures of one output between two sides."""

    def __init__(self, floor: float, tolerance: float) -> None:
        self._floor, self._tolerance = floor, tolerance
        self._elements = self._finite = self._mismatching = 0
        self._sum = self._max = self._relative = 0.0
        self._worst: int | None = None

    def update(self, test: NDArray[Any], against: NDArray[Any], start: int) -> None:
        found = test.reshape(len(test), -1).astype(np.float64)
        wanted = against.reshape(len(against), -1).astype(np.float64)
        close = np.isclose(found, wanted, rtol=0, atol=self._tolerance)
        finite = np.isfinite(found) & np.isfinite(wanted)
        with np.errstate(invalid="ignore"):
            off = np.where(finite, np.abs(found - wanted), 0.0)
        relative = off / np.maximum(np.where(finite, np.abs(wanted), 1.0), self._floor)
        self._elements += close.size
        self._finite += int(finite.sum())
        self._mismatching += int((~close).sum())
        self._sum += float(off.sum())
        self._relative = max(self._relative, float(relative.max(initial=0.0)))
        largest = off.max(1, initial=0.0)
        if largest.max(initial=0.0) > self._max:
            self._max, self._worst = float(largest.max()), start + int(largest.argmax())

    def merge(self, other: _PairTotals) -> None:
        self._elements += other._elements
        self._finite += other._finite
        self._mismatching += other._mismatching
        self._sum += other._sum
        self._relative = max(self._relative, other._relative)
        if other._max > self._max:
            self._max, self._worst = other._max, other._worst

    def result(self, test: str, against: str) -> PairStats:
        return PairStats(
            test=test,
            against=against,
            elements=self._elements,
            max_abs=self._max,
            mean_abs=self._sum / self._finite if self._finite else 0.0,
            max_relative=self._relative,
            mismatching=self._mismatching,
            mismatching_share=self._mismatching / self._elements if self._elements else 0.0,
            passed=self._mismatching == 0,
            worst_sample=self._worst,
        )
