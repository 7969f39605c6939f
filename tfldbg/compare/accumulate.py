"""Streaming statistics of the difference of two tensors.

Any split of the samples into updates and merges gives the same result as one pass: counts and
maxima exactly, sums up to float64 rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg import loops
from tfldbg.compare.custom import MetricCounter, MetricStats
from tfldbg.compare.histogram import BINS, count_errors
from tfldbg.compare.metrics import Line, cosine, fit_line, root_mean_square, sqnr_db

if TYPE_CHECKING:
    from tfldbg.loops import Range

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TensorStats:
    """The difference ``TFLite - reference`` of one tensor over all samples.

    Figures that end in ``_lsb`` are in steps of the tensor's own scale; None for float tensors.
    """

    elements: int
    """The number of compared elements over all samples, without those that are not finite."""
    max_abs: float
    """The largest absolute difference, real units."""
    mean_abs: float
    """The mean absolute difference, real units."""
    rmse: float
    """The root mean square of the difference, real units."""
    max_lsb: float | None
    """The largest absolute difference, LSB."""
    mean_lsb: float | None
    """The mean absolute difference, LSB."""
    rmse_lsb: float | None
    """The RMSE, LSB."""
    bias_lsb: float | None
    """The mean of the signed difference, LSB."""
    sqnr_db: float | None
    """The signal to quantization noise ratio, dB; None if there is no noise or no signal."""
    cosine: float | None
    """The cosine of the angle between the two tensors; None if one of them is all zero."""
    reference_max_abs: float
    """The largest absolute value of the reference, real units."""
    worst_channel: int | None
    """The index along the last axis of the channel with the largest difference; None if nothing
    differs."""
    worst_channel_lsb: float | None
    """The mean absolute difference of that channel, LSB."""
    worst_sample: int | None
    """The sample with the largest difference; None if nothing differs. Inside a loop it is a
    step."""
    channel_max_abs: tuple[float, ...]
    """The largest absolute difference of each channel, real units."""
    nan: int
    """The number of elements that are NaN in TFLite and not in the reference."""
    infinite: int
    """The number of elements that are infinite in TFLite and finite in the reference."""
    reference_nonfinite: int
    """The number of elements that are not finite in the reference."""
    saturated: int
    """The number of elements whose reference value is outside the range of the tensor."""
    differing: int
    """The number of elements that differ by more than half a step; for float tensors, at all."""
    first_sample_max_abs: float
    """The largest absolute difference in sample 0, real units."""
    line: Line | None
    """The straight line from the reference's values to TFLite's; None for constants."""
    histogram: tuple[int, ...] = field(default=(), metadata={"json": None})
    """The counts of the signed difference in the bins of `tfldbg.compare.histogram.EDGES_LSB`;
    empty for float tensors, and if not requested."""
    metrics: Mapping[str, MetricStats] = field(default_factory=dict, metadata={"sparse": True})
    """The user's own metrics by name; absent if none were requested."""

    @property
    def relative_rmse(self) -> float:
        """The RMSE over the root mean square of the reference; 0 for equal tensors."""
        if self.sqnr_db is None:
            return 0.0 if self.rmse == 0 else float("inf")
        return float(10 ** (-self.sqnr_db / 20))


CHANNEL_COLUMNS = (
    "max_abs",
    "mean_abs",
    "rmse",
    "max_lsb",
    "mean_lsb",
    "rmse_lsb",
    "sqnr_db",
    "cosine",
)
"""The columns of `Accumulator.channels`, NaN if a figure is undefined."""

_ERROR, _ABSOLUTE, _NOISE, _SUM, _REFERENCE, _TEST, _DOT = range(loops.SUMS)
_HALF = 0.5 + 1e-4
"""The difference in steps from which two values count as different codes: a half, and more than
float32 rounding changes it by."""


class Accumulator:
    """Collects the statistics of one tensor.

    Args:
        channels: The size of the last axis, 1 for scalars.
        lsb: The tensor's scale, None for float tensors.
        histogram: True to also count a histogram; float tensors have none.
        metrics: The counters of the user's own metrics, by name.
    """

    def __init__(
        self,
        channels: int,
        lsb: float | None,
        histogram: bool = False,
        metrics: Mapping[str, MetricCounter] | None = None,
    ) -> None:
        self._channels = max(channels, 1)
        self._lsb = lsb
        # Counts: NaN, infinite, reference not finite, saturated, differing.
        self._counts: NDArray[np.int64] = np.zeros(5, np.int64)
        self._sums: Doubles = np.zeros((loops.SUMS, self._channels))
        self._maxima: Doubles = np.zeros((loops.MAXIMA, self._channels))
        self._finite: NDArray[np.int64] = np.zeros(self._channels, np.int64)
        self._first_sample_max = 0.0
        self._worst = (-1.0, -1)
        self._histogram = np.zeros(BINS, np.int64) if histogram and lsb else None
        self._metrics = metrics or {}

    def update(
        self,
        reference: NDArray[Any],
        test: NDArray[Any],
        first_sample: int = 0,
        saturated: int = 0,
        limits: Range | None = None,
    ) -> None:
        """Add a batch.

        Args:
            reference: The values (n, ...) of the reference, real units.
            test: As many values (n, ...) of TFLite, real units.
            first_sample: The number of the batch's first sample.
            saturated: The number of reference elements that were clamped before this call.
            limits: The range to clamp the reference to, if it is not clamped yet.
        """
        if not reference.size:
            return
        test = test.reshape(reference.shape)
        if limits is not None:
            sums_alone = not self._metrics and self._histogram is None
            if sums_alone and self._add(test, reference, first_sample, limits=limits):
                return
            reference, saturated = loops.clamp(reference, limits)
        for counter in self._metrics.values():
            counter.update(reference, test, first_sample)
        self._counts[3] += saturated
        if self._add(test, reference, first_sample):
            return
        # One by one, so that a sample with NaN does not change the sums of the others.
        for number in range(len(test)):
            rows = slice(number, number + 1)
            if not self._add(test[rows], reference[rows], first_sample + number):
                self._add_finite(test[rows], reference[rows], first_sample + number)

    def _add(
        self,
        test: NDArray[Any],
        reference: NDArray[Any],
        first_sample: int,
        finite: NDArray[np.bool_] | None = None,
        limits: Range | None = None,
    ) -> bool:
        """Add samples if all their values are finite; return whether they are.

        Args:
            test: As for `update`.
            reference: As for `update`.
            first_sample: As for `update`.
            finite: The mask of the elements to count, None for all.
            limits: As for `update`.
        """
        half = _HALF * self._lsb if self._lsb else 0.0
        found = loops.compare(test, reference, half, self._sums, self._maxima, limits)
        if found is None:
            return False
        peaks = found.peaks
        self._counts[3:] += [found.saturated, found.differing]
        if finite is None:
            self._finite += reference.size // self._channels
        else:
            self._finite += finite.reshape(-1, self._channels).sum(0)
        if self._histogram is not None and self._lsb:
            kept = (test, reference) if finite is None else (test[finite], reference[finite])
            self._histogram += count_errors(*kept, self._lsb)
        if first_sample == 0:
            self._first_sample_max = float(peaks[0])
        worst = int(peaks.argmax())
        self._consider(float(peaks[worst]), first_sample + worst)
        return True

    def _add_finite(self, test: NDArray[Any], reference: NDArray[Any], first_sample: int) -> None:
        """Add the finite values of a sample, and count the others."""
        known = np.isfinite(reference)
        nan = np.isnan(test) & ~np.isnan(reference)
        infinite = np.isinf(test) & known
        self._counts[:3] += [nan.sum(), infinite.sum(), np.count_nonzero(~known)]
        finite: NDArray[np.bool_] = known & np.isfinite(test)
        kept = [np.where(finite, v.astype(np.float64), 0.0) for v in (test, reference)]
        self._add(kept[0], kept[1], first_sample, finite)

    def merge(self, other: Accumulator) -> None:
        """Add the values of another accumulator of the same tensor."""
        self._counts += other._counts
        self._sums += other._sums
        self._finite += other._finite
        self._maxima = np.maximum(self._maxima, other._maxima)
        if self._histogram is not None and other._histogram is not None:
            self._histogram += other._histogram
        self._first_sample_max = max(self._first_sample_max, other._first_sample_max)
        self._consider(*other._worst)
        for name, counter in self._metrics.items():
            counter.merge(other._metrics[name])

    def _consider(self, size: float, sample: int) -> None:
        """Keep the sample with the largest difference, the earliest of equals."""
        best, kept = self._worst
        if size > best or (size == best and sample < kept):
            self._worst = (size, sample)

    def result(self) -> TensorStats:
        """Return the statistics of all values so far."""
        count = int(self._finite.sum())
        sums = [float(v) for v in self._sums.sum(1)]
        largest = float(self._maxima[0].max())
        mean = sums[_ABSOLUTE] / count if count else 0.0
        rmse = root_mean_square(sums[_NOISE], count)
        channel = int(self._maxima[0].argmax()) if largest > 0 else None
        return TensorStats(
            elements=count,
            max_abs=largest,
            mean_abs=mean,
            rmse=rmse,
            max_lsb=self._in_lsb(largest),
            mean_lsb=self._in_lsb(mean),
            rmse_lsb=self._in_lsb(rmse),
            bias_lsb=self._in_lsb(sums[_ERROR] / count if count else 0.0),
            sqnr_db=sqnr_db(sums[_REFERENCE], sums[_NOISE]),
            cosine=cosine(sums[_DOT], sums[_REFERENCE], sums[_TEST]),
            reference_max_abs=float(self._maxima[1].max()),
            worst_channel=channel,
            worst_channel_lsb=None if channel is None else self._channel_mean_lsb(channel),
            worst_sample=self._worst[1] if largest > 0 else None,
            channel_max_abs=tuple(float(v) for v in self._maxima[0]),
            nan=int(self._counts[0]),
            infinite=int(self._counts[1]),
            reference_nonfinite=int(self._counts[2]),
            saturated=int(self._counts[3]),
            differing=int(self._counts[4]),
            first_sample_max_abs=self._first_sample_max,
            line=fit_line(
                count, sums[_SUM], sums[_SUM] + sums[_ERROR], *sums[_REFERENCE : _DOT + 1]
            ),
            histogram=() if self._histogram is None else tuple(self._histogram.tolist()),
            metrics={name: counter.result() for name, counter in self._metrics.items()},
        )

    def channels(self) -> Doubles:
        """Return the statistics of each channel: (channels, `CHANNEL_COLUMNS`) float64."""
        rows = []
        for count, largest, sums in zip(self._finite, self._maxima[0], self._sums.T, strict=True):
            mean = sums[_ABSOLUTE] / count if count else 0.0
            sizes = [largest, mean, root_mean_square(sums[_NOISE], int(count))]
            ratios = [
                sqnr_db(sums[_REFERENCE], sums[_NOISE]),
                cosine(sums[_DOT], sums[_REFERENCE], sums[_TEST]),
            ]
            rows.append([*sizes, *(self._in_lsb(s) for s in sizes), *ratios])
        return np.array(rows, np.float64)

    def _channel_mean_lsb(self, channel: int) -> float | None:
        count = int(self._finite[channel])
        return self._in_lsb(float(self._sums[_ABSOLUTE, channel]) / count if count else 0.0)

    def _in_lsb(self, value: float) -> float | None:
        return value / self._lsb if self._lsb else None
