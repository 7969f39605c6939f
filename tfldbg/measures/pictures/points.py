"""Pairs of values of each tensor for scatter plots: a few of each sample, and the worst one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops
from tfldbg.compare.merging import merge_all
from tfldbg.compare.metrics import significant

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch, Computed
    from tfldbg.reference.evaluate import Floats

POINTS = 256
"""The number of pairs kept per tensor, about as many as a plot can show."""

_GOLDEN = (5**0.5 - 1) / 2
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Extreme:
    """The element with the largest difference."""

    sample: int
    index: tuple[int, ...]
    """Its position in the tensor's own shape."""
    tflite: float
    """TFLite's value, real units."""
    reference: float


@dataclass(frozen=True, slots=True)
class Points:
    """Pairs of values of one tensor, of TFLite and the reference, real units."""

    tflite: tuple[float, ...]
    reference: tuple[float, ...]
    """The reference's values, as many as TFLite's."""
    worst: Extreme | None
    """The pair with the largest difference; None if no two finite values differ."""


@dataclass(frozen=True, slots=True)
class PicturePairs:
    """Pairs of values of all tensors."""

    local: Mapping[int, Points]
    """The values that an operator and the reference's compute from the same inputs, by tensor."""
    accumulated: Mapping[int, Points]
    """The values of both models running free, by tensor."""


class PointRecorder:
    """Keeps a bounded number of pairs, which do not depend on how the samples are batched.

    The elements follow a Kronecker sequence: the fractional parts of the multiples of the golden
    ratio, which spread evenly over a tensor for any number of them.

    Args:
        samples: The number of samples.
        most: The number of pairs to keep per tensor.
    """

    def __init__(self, samples: int, most: int = POINTS) -> None:
        self._stride = max(1, -(-samples // most))
        """The distance of the samples from which pairs are taken."""
        self._each = max(1, most // max(1, -(-samples // self._stride)))
        self._local: dict[int, _Collected] = {}
        self._accumulated: dict[int, _Collected] = {}

    def record(self, batch: Batch, computed: Computed) -> None:
        """Take pairs from one batch."""
        for index, values in computed.free.items():
            self._add(self._accumulated, index, batch, batch.real[index], values)
        for index, values in computed.local.items():
            tested = computed.tested.get(index, batch.real[index])
            self._add(self._local, index, batch, tested, values)

    def merge(self, other: PointRecorder) -> None:
        """Add the pairs of another, for the samples after these."""
        merge_all(self._local, other._local)
        merge_all(self._accumulated, other._accumulated)

    def sides(self, tensors: Collection[int]) -> PicturePairs:
        """Return the pairs of some tensors."""
        return PicturePairs(
            {i: c.points() for i, c in self._local.items() if i in tensors},
            {i: c.points() for i, c in self._accumulated.items() if i in tensors},
        )

    def _add(
        self,
        known: dict[int, _Collected],
        index: int,
        batch: Batch,
        tflite: Floats,
        reference: Floats,
    ) -> None:
        collected = known.setdefault(index, _Collected())
        rows = range(-batch.start % self._stride, len(reference), self._stride)
        if reference[:1].size and rows:
            numbers = np.arange(batch.start + rows.start, batch.stop, self._stride)
            places = self._places(numbers, reference[0].size)
            chosen = (np.array(rows)[:, None], places)
            flat = (len(reference), -1)
            collected.add(tflite.reshape(flat)[chosen], reference.reshape(flat)[chosen])
        collected.consider(batch.start, tflite, reference)

    def _places(self, numbers: NDArray[np.int64], elements: int) -> NDArray[np.int64]:
        """Return the numbers of the chosen elements (samples, pairs of each)."""
        each = min(self._each, elements)
        turns = (numbers[:, None] // self._stride * each + np.arange(each)) * _GOLDEN
        places: NDArray[np.int64] = (turns % 1 * elements).astype(np.int64)
        return places


class _Collected:
    """The pairs of one tensor."""

    def __init__(self) -> None:
        self._tflite: list[NDArray[Any]] = []
        self._reference: list[NDArray[Any]] = []
        self._largest = 0.0
        self._worst: Extreme | None = None

    def add(self, tflite: NDArray[Any], reference: NDArray[Any]) -> None:
        """Keep pairs."""
        self._tflite.append(tflite.ravel())
        self._reference.append(reference.ravel())

    def consider(self, start: int, tflite: Floats, reference: Floats) -> None:
        """Keep the element with the largest difference, the earliest of equal ones."""
        if loops.largest_difference(tflite, reference) <= self._largest:
            return
        with np.errstate(invalid="ignore"):
            size = np.abs(tflite.reshape(reference.shape) - reference)
        size[~np.isfinite(size)] = 0.0
        place = np.unravel_index(int(size.argmax()), size.shape)
        if size[place] > self._largest:
            self._largest = float(size[place])
            sample, *index = (int(i) for i in place)
            found = float(tflite.reshape(reference.shape)[place])
            self._worst = Extreme(start + sample, tuple(index), found, float(reference[place]))

    def merge(self, other: _Collected) -> None:
        """Add the pairs of another, for the samples after these."""
        self._tflite += other._tflite
        self._reference += other._reference
        if other._largest > self._largest:
            self._largest, self._worst = other._largest, other._worst

    def points(self) -> Points:
        """Return the pairs whose values are both finite."""
        if not self._tflite:
            return Points((), (), self._worst)
        tflite, reference = np.concatenate(self._tflite), np.concatenate(self._reference)
        finite = np.isfinite(tflite) & np.isfinite(reference)
        return Points(_plain(tflite[finite]), _plain(reference[finite]), self._worst)


def _plain(values: NDArray[Any]) -> tuple[float, ...]:
    """Return values with the digits of float32, for JSON."""
    return tuple(significant(v, _DIGITS) for v in values.tolist())
