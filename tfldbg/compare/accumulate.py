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
from tfldbg.loops import REAL

if TYPE_CHECKING:
    from tfldbg.loops import Range, Stored, TensorComparison

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
        # Counts: NaN, infinite, reference not finite, clamped before they came here.
        self._counts: NDArray[np.int64] = np.zeros(4, np.int64)
        self._sums = loops.Sums(self._channels)
        self._left_out: NDArray[np.int64] = np.zeros(self._channels, np.int64)
        """The number of elements of each channel that are not finite."""
        self._histogram = np.zeros(BINS, np.int64) if histogram and lsb else None
        self._metrics = metrics or {}
        self._comparisons: dict[tuple[Stored, Range | None], TensorComparison] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {**self.__dict__, "_comparisons": {}}

    @property
    def reads_codes(self) -> bool:
        """True if `update_codes` can be used: only sums are counted."""
        return not self._metrics and self._histogram is None

    def update_codes(
        self,
        reference: NDArray[Any],
        codes: NDArray[Any],
        form: Stored,
        first_sample: int = 0,
        limits: Range | None = None,
    ) -> bool:
        """Add a batch without converting TFLite's codes first.

        Args:
            reference: The values (n, ...) of the reference, real units.
            codes: As many values (n, ...) of TFLite.
            form: The form of the codes.
            first_sample: The number of the batch's first sample.
            limits: The range to clamp the reference to.

        Returns:
            False if a value is not finite; then nothing is added, and `update` must be used.
        """
        compared = self._comparisons.get((form, limits))
        if compared is None:
            compared = loops.comparison(self._sums, self._half, limits, form)
            self._comparisons[form, limits] = compared
        both = np.ascontiguousarray(codes), np.ascontiguousarray(reference)
        return compared.add(*both, len(reference), first_sample)

    @property
    def _half(self) -> float:
        return _HALF * self._lsb if self._lsb else 0.0

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
        reference = reference.astype(np.float32, copy=False)
        test = test.astype(np.float32, copy=False).reshape(reference.shape)
        if limits is not None:
            if self.reads_codes and self.update_codes(reference, test, REAL, first_sample, limits):
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

    def _add(self, test: NDArray[Any], reference: NDArray[Any], first_sample: int) -> bool:
        """Add samples if all their values are finite; return whether they are."""
        if not self.update_codes(reference, test, REAL, first_sample):
            return False
        if self._histogram is not None and self._lsb:
            self._histogram += count_errors(test, reference, self._lsb)
        return True

    def _add_finite(self, test: NDArray[Any], reference: NDArray[Any], first_sample: int) -> None:
        """Add the finite values of a sample, and count the others."""
        known = np.isfinite(reference)
        nan = np.isnan(test) & ~np.isnan(reference)
        infinite = np.isinf(test) & known
        self._counts[:3] += [nan.sum(), infinite.sum(), np.count_nonzero(~known)]
        finite: NDArray[np.bool_] = known & np.isfinite(test)
        # In float64, since the square of a large float32 is not finite.
        kept = [np.where(finite, v.astype(np.float64), 0.0) for v in (test, reference)]
        loops.add_figures(self._sums, self._half, kept[0], kept[1], len(test), first_sample)
        self._left_out += np.count_nonzero(~finite.reshape(-1, self._channels), axis=0)
        if self._histogram is not None and self._lsb:
            self._histogram += count_errors(test[finite], reference[finite], self._lsb)

    def merge(self, other: Accumulator) -> None:
        """Add the values of another accumulator of the same tensor."""
        self._counts += other._counts
        self._sums.merge(other._sums)
        self._left_out += other._left_out
        if self._histogram is not None and other._histogram is not None:
            self._histogram += other._histogram
        for name, counter in self._metrics.items():
            counter.merge(other._metrics[name])

    @property
    def _finite(self) -> NDArray[np.int64]:
        """The number of compared elements of each channel."""
        finite: NDArray[np.int64] = self._sums.counts[0] - self._left_out
        return finite

    def result(self) -> TensorStats:
        """Return the statistics of all values so far."""
        count = int(self._finite.sum())
        sums = [float(v) for v in self._sums.sums.sum(1)]
        maxima, peaks = self._sums.maxima, self._sums.peaks
        largest = float(maxima[0].max())
        mean = sums[_ABSOLUTE] / count if count else 0.0
        rmse = root_mean_square(sums[_NOISE], count)
        channel = int(maxima[0].argmax()) if largest > 0 else None
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
            reference_max_abs=float(maxima[1].max()),
            worst_channel=channel,
            worst_channel_lsb=None if channel is None else self._channel_mean_lsb(channel),
            worst_sample=int(peaks[2]) if largest > 0 else None,
            channel_max_abs=tuple(float(v) for v in maxima[0]),
            nan=int(self._counts[0]),
            infinite=int(self._counts[1]),
            reference_nonfinite=int(self._counts[2]),
            saturated=int(self._counts[3] + self._sums.counts[1]),
            differing=int(self._sums.counts[2]),
            first_sample_max_abs=float(peaks[0]),
            line=fit_line(
                count, sums[_SUM], sums[_SUM] + sums[_ERROR], *sums[_REFERENCE : _DOT + 1]
            ),
            histogram=() if self._histogram is None else tuple(self._histogram.tolist()),
            metrics={name: counter.result() for name, counter in self._metrics.items()},
        )

    def channels(self) -> Doubles:
        """Return the statistics of each channel: (channels, `CHANNEL_COLUMNS`) float64."""
        rows = []
        for count, largest, sums in zip(
            self._finite, self._sums.maxima[0], self._sums.sums.T, strict=True
        ):
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
        return self._in_lsb(float(self._sums.sums[_ABSOLUTE, channel]) / count if count else 0.0)

    def _in_lsb(self, value: float) -> float | None:
        return value / self._lsb if self._lsb else None
