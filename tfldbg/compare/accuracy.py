"""The accuracy of each side, and the samples in which the sides choose differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.metrics import Finite, wilson
from tfldbg.compare.sides import PAIRS, SIDES

if TYPE_CHECKING:
    from tfldbg.run.labels import Labels

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class SideAccuracy:
    """The accuracy of one side."""

    side: str
    """The side: tflite, reference or emulation (the file's own arithmetic in float, rounded to
    codes)."""
    top_1: int
    """The number of samples whose largest value is that of the right class.  Of equal largest
    values the first counts, as for ``numpy.argmax``."""
    top_1_interval: tuple[Finite, Finite]
    """The 95 % interval of the share of right samples (Wilson)."""
    top_k: int
    """The number of samples whose right class is among the k largest values, of equal ones the
    first."""
    ties: int
    """The number of samples in which several classes have the largest value, as codes often do."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The samples in which two sides choose different classes."""

    test: str
    """One side."""
    against: str
    """The other side."""
    count: int
    """The number of samples."""
    samples: tuple[int, ...]
    """The numbers of the first few samples."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of each side that is known."""

    tensor: int
    """The index of the output tensor."""
    labels: str
    """The source of the labels."""
    labelled: int
    """The number of labels."""
    samples: int
    """The number of samples."""
    classes: int
    """The number of classes of the output."""
    k: int
    """The k of top-k accuracy."""
    sides: tuple[SideAccuracy, ...]
    """The accuracy of each side."""
    disagreements: tuple[Disagreement, ...]
    """The samples in which the sides choose differently."""


@dataclass(slots=True)
class _Counts:
    top_1: int = 0
    top_k: int = 0
    ties: int = 0


@dataclass(slots=True)
class _Changed:
    count: int = 0
    samples: list[int] = field(default_factory=list)


class AccuracyCounter:
    """Counts right samples.

    Args:
        labels: The right classes, and the output that they belong to.
        k: The number of largest values that count for top-k.
    """

    def __init__(self, labels: Labels, k: int) -> None:
        self._labels, self._k = labels, k
        self._samples = 0
        self._sides: dict[str, _Counts] = {}
        self._changed: dict[tuple[str, str], _Changed] = {}

    def update(self, start: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch.

        Args:
            start: The number of its first sample.
            values: The values (n, ...) of the output by side, in any unit.
        """
        right = self._labels.classes
        chosen: dict[str, NDArray[np.int64]] = {}
        size = max((len(v) for v in values.values()), default=0)
        self._samples += size
        for side, array in values.items():
            scores = array.reshape(len(array), -1).astype(np.float64)
            # NaN is never chosen.
            scores = np.where(np.isnan(scores), -np.inf, scores)
            chosen[side] = scores.argmax(1)
            self._count(side, scores, right[start : start + size])
        for pair in PAIRS:
            if set(pair) <= chosen.keys():
                changed = np.flatnonzero(chosen[pair[0]] != chosen[pair[1]]) + start
                known = self._changed.setdefault(pair, _Changed())
                known.count += len(changed)
                known.samples += changed[: _MOST_NAMED - len(known.samples)].tolist()

    def merge(self, other: AccuracyCounter) -> None:
        """Add the counts of another, for the samples after these."""
        self._samples += other._samples
        for side, more in other._sides.items():
            counts = self._sides.setdefault(side, _Counts())
            counts.top_1 += more.top_1
            counts.top_k += more.top_k
            counts.ties += more.ties
        for pair, changed in other._changed.items():
            known = self._changed.setdefault(pair, _Changed())
            known.count += changed.count
            known.samples += changed.samples[: _MOST_NAMED - len(known.samples)]

    def _count(self, side: str, scores: NDArray[np.float64], right: NDArray[np.int64]) -> None:
        own = np.take_along_axis(scores, right[:, None], 1)
        numbers = np.arange(scores.shape[1])
        before = (scores > own) | ((scores == own) & (numbers < right[:, None]))
        rank = np.where(np.isneginf(own[:, 0]), scores.shape[1], before.sum(1))
        counts = self._sides.setdefault(side, _Counts())
        counts.top_1 += int((rank == 0).sum())
        counts.top_k += int((rank < self._k).sum())
        counts.ties += int(((scores == scores.max(1, keepdims=True)).sum(1) > 1).sum())

    def result(self) -> Accuracy:
        """Return the accuracy over all samples so far."""
        labels, count = self._labels, self._samples
        return Accuracy(
            tensor=labels.output,
            labels=labels.source,
            labelled=len(labels.classes),
            samples=count,
            classes=labels.count,
            k=self._k,
            sides=tuple(
                SideAccuracy(s, c.top_1, wilson(c.top_1, count), c.top_k, c.ties)
                for s in SIDES
                if (c := self._sides.get(s)) is not None
            ),
            disagreements=tuple(
                Disagreement(*pair, changed.count, tuple(changed.samples))
                for pair, changed in self._changed.items()
            ),
        )
