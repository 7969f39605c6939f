"""Measure the codes that a quantized tensor uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops
from tfldbg.quant import code_range

if TYPE_CHECKING:
    from tfldbg.run.samples import Samples

_BINS = 64


@dataclass(frozen=True, slots=True)
class Usage:
    """The codes that TFLite computed for one tensor over all samples."""

    lowest: int
    highest: int
    distinct: int | None
    """The number of different codes; None for 16 bits, where they are not counted."""
    at_lowest: int
    """The number of values at the lowest code of the type."""
    at_highest: int
    """The number of values at the highest code of the type."""
    total: int
    codes: int
    """The number of codes of the type."""
    bins: tuple[int, ...] = ()
    """The number of values in each of 64 equal shares of the type's codes, or at each code of a
    type that has fewer, from the lowest codes to the highest.  Empty if not counted."""

    @property
    def span(self) -> int:
        """The number of codes from the lowest to the highest that occurred."""
        return self.highest - self.lowest + 1


class UsageCounter:
    """Counts the codes of one tensor.

    Args:
        type_name: The TFLite type of the tensor, of at most 16 bits.
        shares: True to also count `Usage.bins` for 16 bits, which takes an additional pass.
    """

    def __init__(self, type_name: str, shares: bool = True) -> None:
        self._low, self._high = code_range(type_name)
        self._codes = self._high - self._low + 1
        self._counts: NDArray[np.int64] | None = None
        """The counts by byte, which for int8 begins with code 0."""
        if self._codes <= 256:
            self._counts = np.zeros(256, np.int64)
        self._bins = np.zeros(min(_BINS, self._codes), np.int64)
        self._shares = shares
        self._ends = (self._high, self._low)
        self._at_ends = np.zeros(2, np.int64)
        self._total = 0

    def update(self, codes: NDArray[Any]) -> None:
        """Add values of any shape."""
        self._total += codes.size
        if not codes.size:
            return
        if self._counts is not None:
            loops.count(codes, self._counts)
            return
        if self._shares:
            share = (codes.reshape(-1).astype(np.int32) - self._low) // (self._codes // _BINS)
            self._bins += np.bincount(share, minlength=_BINS)
        lowest, highest = int(codes.min()), int(codes.max())
        self._ends = (min(self._ends[0], lowest), max(self._ends[1], highest))
        ends = [np.count_nonzero(codes == self._low), np.count_nonzero(codes == self._high)]
        self._at_ends += ends

    def merge(self, other: UsageCounter) -> None:
        """Add the counts of another counter of the same tensor."""
        if self._counts is not None and other._counts is not None:
            self._counts += other._counts
        lowest, highest = other._ends
        self._ends = (min(self._ends[0], lowest), max(self._ends[1], highest))
        self._bins += other._bins
        self._at_ends += other._at_ends
        self._total += other._total

    def result(self) -> Usage | None:
        """Return the usage, None without values."""
        if not self._total:
            return None
        lowest, highest = self._ends
        distinct, at_ends, bins = None, self._at_ends, self._bins
        if self._counts is not None:
            counts = np.roll(self._counts, -self._low)[: self._codes]
            seen = np.flatnonzero(counts)
            lowest, highest = int(seen[0]) + self._low, int(seen[-1]) + self._low
            distinct, at_ends = int(seen.size), counts[[0, -1]]
            bins = counts.reshape(len(bins), -1).sum(1)
        return Usage(
            lowest=lowest,
            highest=highest,
            distinct=distinct,
            at_lowest=int(at_ends[0]),
            at_highest=int(at_ends[1]),
            total=self._total,
            codes=self._codes,
            bins=tuple(bins.tolist()) if self._shares or self._counts is not None else (),
        )


class BeyondCounter:
    """Counts the given real values that a quantized input cannot represent.

    A value counts if it is more than a step beyond the range.  Zeros are left out: every range
    holds them, and data may consist mostly of them, as black images do.  Inputs that were given as
    codes are also left out, since every code is in range.
    """

    def __init__(self) -> None:
        self._counts: dict[int, NDArray[np.int64]] = {}
        """The counts by input: beyond the range, and not zero."""

    def add(self, samples: Samples, start: int, stop: int) -> None:
        """Count samples ``start`` to ``stop``."""
        for spec, array in zip(samples.specs, samples.arrays, strict=True):
            tensor, affine = spec.tensor, spec.tensor.affine
            if affine is None or array.dtype.kind != "f":
                continue
            given = array[start:stop]
            low, high = affine.real_range(tensor.type)
            beyond = (given < low - affine.scale) | (given > high + affine.scale)
            self._add(tensor.index, np.array([np.count_nonzero(beyond), np.count_nonzero(given)]))

    def merge(self, other: BeyondCounter) -> None:
        """Add the counts of another counter, of other samples."""
        for index, counts in other._counts.items():
            self._add(index, counts)

    def _add(self, index: int, counts: NDArray[np.int64]) -> None:
        self._counts[index] = counts + self._counts.get(index, 0)

    def shares(self) -> dict[int, float]:
        """Return the share of the values that each quantized input cannot represent."""
        return {i: float(beyond / (known or 1)) for i, (beyond, known) in self._counts.items()}
