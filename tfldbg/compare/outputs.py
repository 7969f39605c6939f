"""Compare the final outputs of all sides while streaming, and find the worst samples."""

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
"""The tolerance in real units: ``atol=1e-2, rtol=0`` as in the experiment that led to tfldbg."""
_FLOAT_FLOOR = 1e-6
"""The smallest denominator of a float output's relative error: float32's resolution at 8."""

Values = Mapping[int, NDArray[Any]]
"""Values (n, ...) by tensor, real units."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """The requested measurements of the final outputs."""

    tolerance: float = TOLERANCE
    """The tolerance, real units."""
    labels: Labels | None = None
    k: int = 5
    """The k of top-k accuracy."""
    worst: int = 0
    """The number of samples with the largest error to name."""


@dataclass(frozen=True, slots=True)
class PairStats:
    """The difference of an output between two sides, over all samples."""

    test: str
    """The tested side: tflite, reference or emulation (the file's own arithmetic in float, rounded
    to codes)."""
    against: str
    """The side that relative errors are relative to."""
    elements: int
    """The number of elements."""
    max_abs: float
    """The largest absolute difference, real units, over elements that are finite on both sides."""
    mean_abs: float
    """The mean absolute difference, real units."""
    max_relative: float
    """The largest ``|test - against| / max(|against|, floor)``.  The floor is one step of the
    output, within which a quantized file cannot distinguish a value from 0; 1e-6 for float
    outputs."""
    mismatching: int
    """The number of elements that are off by more than the tolerance, finite on one side only, or
    NaN: ``~numpy.isclose(test, against, rtol=0, atol=tolerance)``."""
    mismatching_share: Finite
    """The share: mismatching over elements."""
    passed: bool
    """True if nothing mismatches."""
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
    """The real units of one code, None for outputs that were never quantized."""
    tolerance: Finite
    """The tolerance of --tolerance, real units."""
    pairs: tuple[PairStats, ...]
    """The sides that were compared."""


@dataclass(frozen=True, slots=True)
class Finals:
    """The measurements of the final outputs after a run."""

    outputs: tuple[OutputStats, ...] = ()
    accuracy: Accuracy | None = None
    worst_samples: tuple[int, ...] = ()
    """The numbers of the samples with the largest `sample_errors`, the largest first, if
    requested."""


def output_step(subgraph: Subgraph, index: int) -> float | None:
    """Return the real units of one code of an output, even if the file dequantizes it."""
    producer = subgraph.producers.get(index)
    if producer is not None and producer.kind == "DEQUANTIZE":
        index = producer.inputs[0]
    return subgraph.tensors[index].lsb


def sample_errors(
    subgraph: Subgraph, tflite: Values, reference: Values
) -> tuple[NDArray[np.float64], bool] | None:
    """Return each sample's error: the largest of any element of any final output.

    Args:
        subgraph: The subgraph of the outputs.
        tflite: The file's values.
        reference: The values of the free-running reference.

    Returns:
            The errors (n,), and whether they are in LSB of each output.  If no output has codes,
            they are in real units; if some have, the others are left out.  An output that is not
            finite where the reference is has an infinite error.  None if no output has a reference.
    """
    known = [i for i in dict.fromkeys(subgraph.outputs) if i in tflite and i in reference]
    steps = {i: step for i in known if (step := output_step(subgraph, i))}
    worst = [_largest(tflite[i], reference[i]) / steps.get(i, 1.0) for i in (steps or known)]
    return (np.max(worst, axis=0), bool(steps)) if worst else None


def _largest(test: NDArray[Any], against: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest difference (n,) of each sample."""
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
        wanted: The requested measurements.
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
            start: The number of its first sample.
            sides: The known tensors of each side.
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
        """Add the measurements of another, for the samples after these."""
        merge_all(self._pairs, other._pairs)
        if self._accuracy is not None and other._accuracy is not None:
            self._accuracy.merge(other._accuracy)
        self._worst = sorted([*self._worst, *other._worst])[: self._wanted.worst]

    def result(self) -> Finals:
        """Return the statistics of all samples so far."""
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
