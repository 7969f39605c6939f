"""The additional measurements of a trace, with one folder for each.

A folder holds a `tfldbg.measures.measurement.Measurement`, its computation and its display.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.measures.accuracy.measurement import AccuracyMeasurement
from tfldbg.measures.compounding.measurement import CompoundingMeasurement
from tfldbg.measures.histograms.measurement import HistogramsMeasurement
from tfldbg.measures.own.measurement import OwnMetricsMeasurement
from tfldbg.measures.pictures.measurement import PicturesMeasurement
from tfldbg.measures.steps.measurement import StepsMeasurement
from tfldbg.measures.worst.measurement import WorstMeasurement

if TYPE_CHECKING:
    from tfldbg.measures.measurement import Measurement

MEASUREMENTS: tuple[Measurement, ...] = (
    AccuracyMeasurement(),
    HistogramsMeasurement(),
    OwnMetricsMeasurement(),
    WorstMeasurement(),
    StepsMeasurement(),
    CompoundingMeasurement(),
    PicturesMeasurement(),
)
"""All measurements, in the order of reports."""
