"""The user's own metrics: functions of one sample of both sides that return a number.

A function is called for each sample, so its results do not depend on how samples are split into
batches.  The sum of its results is kept exactly, so their mean does not either.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import PluginError
from tfldbg.plugins import RAISED

if TYPE_CHECKING:
    from tfldbg.options.sources import Metric


@dataclass(frozen=True, slots=True)
class MetricStats:
    """A metric of one tensor over all samples."""

    mean: float | None
    """The mean over the samples where it is finite; None if there are none."""
    min: float | None
    """The smallest value of these samples."""
    max: float | None
    """The largest value of these samples."""
    min_sample: int | None
    """The first sample with the smallest value."""
    max_sample: int | None
    """The first sample with the largest value."""
    samples: int
    """The number of samples where it is finite."""
    infinite: int
    """The number of samples where it is infinite."""
    left_out: int
    """The number of samples in which a side has NaN or infinities, for which it is not called."""


class MetricCounter:
    """Collects a metric of one tensor.

    Args:
        name: The name of the metric.
        metric: The function.
        where: The operator, for messages.
    """

    def __init__(self, name: str, metric: Metric, where: str) -> None:
        self._name, self._metric, self._where = name, metric, where
        self._sum = Fraction(0)
        self._counts = [0, 0, 0]  # finite, infinite, left out
        self._lowest: tuple[float, int] | None = None
        self._highest: tuple[float, int] | None = None

    def update(
        self, reference: NDArray[np.float32], test: NDArray[np.float32], first_sample: int
    ) -> None:
        """Add a batch.

        Args:
            reference: The values (n, ...) of the reference, real units.
            test: The values (n, ...) of TFLite in the same shape, real units.
            first_sample: The number of the batch's first sample.

        Raises:
            PluginError: The function raises, or does not return a number.
        """
        sides = zip(_frozen(reference), _frozen(test), strict=True)
        for number, (wanted, found) in enumerate(sides, first_sample):
            if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
                self._counts[2] += 1
                continue
            value = self._call(wanted, found, number)
            if np.isinf(value):
                self._counts[1] += 1
                continue
            self._counts[0] += 1
            self._sum += Fraction(value)
            self._consider((value, number), (value, number))

    def merge(self, other: MetricCounter) -> None:
        """Add the results of another counter of the same tensor and metric."""
        self._sum += other._sum
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        if other._lowest is not None and other._highest is not None:
            self._consider(other._lowest, other._highest)

    def _consider(self, low: tuple[float, int], high: tuple[float, int]) -> None:
        """Keep the smallest and the largest value, of equal ones the earliest sample."""
        self._lowest = low if self._lowest is None else min(self._lowest, low)
        if self._highest is None or (high[0], -high[1]) > (self._highest[0], -self._highest[1]):
            self._highest = high

    def _call(self, reference: NDArray[Any], test: NDArray[Any], sample: int) -> float:
        where = f"{self._where}, sample {sample}"
        try:
            returned = self._metric(reference, test)
            value = np.asarray(returned)
        except RAISED as error:
            raise PluginError(
                f"the metric '{self._name}' fails at {where}: {type(error).__name__}: {error}",
                hint=f"it is called with two float32 arrays of shape {reference.shape}: reference "
                "and TFLite, one sample",
            ) from error
        if value.size != 1 or value.dtype.kind not in "biuf":
            shape = f"an array of shape {value.shape}"
            said = shape if value.ndim else f"a value of type {type(returned).__name__}"
            raise PluginError(
                f"the metric '{self._name}' returns {said} at {where}, expected one number",
                hint="reduce it, for example with .mean()",
            )
        number = float(value.reshape(()))
        if np.isnan(number):
            raise PluginError(
                f"the metric '{self._name}' returns NaN at {where}, although all values are finite",
                hint="return a number if it is not defined, for example for values that are "
                "all 0; infinities are allowed",
            )
        return number

    def result(self) -> MetricStats:
        """Return the metric over all samples so far."""
        finite, infinite, left_out = self._counts
        low, high = self._lowest, self._highest
        return MetricStats(
            mean=float(self._sum / finite) if finite else None,
            min=low[0] if low else None,
            max=high[0] if high else None,
            min_sample=low[1] if low else None,
            max_sample=high[1] if high else None,
            samples=finite,
            infinite=infinite,
            left_out=left_out,
        )


def _frozen(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a read-only view, since the values are shared."""
    view = values.view()
    view.setflags(write=False)
    return view
